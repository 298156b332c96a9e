"""``sbom``: what an image is made of, for programs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import BinaryIO

import click

from tare.base.atomic import atomic_writer
from tare.cli.copy_paths import check_output
from tare.cli.session import Session, pass_session
from tare.client.client import Client
from tare.errors import InvalidArgument

_FORMATS = ("spdx-json", "cyclonedx-json")


@click.command(short_help="Write what an image is made of: packages, and every file (SBOM).")
@click.argument("image")
@click.option("--format", "kind", type=click.Choice(_FORMATS), default=_FORMATS[0], help="Default: spdx-json.")
@click.option("-o", "--output", default="", metavar="FILE", help="Write to this file, not to standard output.")
@pass_session
def sbom(session: Session, image: str, kind: str, output: str) -> None:
    """Write the bill of materials of an image: its packages, the files of each by digest, and their licences."""
    if output:
        try:
            check_output(output)
        except InvalidArgument as error:
            raise InvalidArgument(f"cannot write the bill of materials: {error.message}") from error

    async def pour(client: Client, sink: BinaryIO) -> None:
        async for piece in client.images.sbom(image, kind=kind):
            sink.write(piece)
        sink.flush()

    if output:
        with atomic_writer(Path(output), durable=False) as sink:
            session.run(lambda client: pour(client, sink))
    else:
        session.run(lambda client: pour(client, sys.stdout.buffer))
