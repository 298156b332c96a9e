"""``save`` and ``load``."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO

import click

from tare.cli.pulling import show_transfer
from tare.cli.session import Session, pass_session
from tare.cli.streams_to_files import pour, write_file
from tare.cli.transfer_views import PlainTransfer, TransferView, counted, transfer_view
from tare.client.client import Client
from tare.client.progress import Progress
from tare.errors import InvalidArgument, NotFound

_CHUNK = 1 << 20
_NO_FILES = {
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link directly",
    stat.S_IFCHR: "a character device file",
    stat.S_IFBLK: "a block device file",
    stat.S_IFIFO: "a named pipe (FIFO)",
    stat.S_IFSOCK: "a socket",
}


@click.command(short_help="Write images into a tar archive.")
@click.argument("names", nargs=-1, required=True)
@click.option("-o", "--output", default="", help="Write to this file, not to standard output.")
@click.option("--platform", default="", help="Save only if it is for this platform, such as linux/amd64.")
@pass_session
def save(session: Session, names: tuple[str, ...], output: str, platform: str) -> None:
    """Write images with their names into a tar archive, for `load` here, in Docker or in Podman.

    A repository without a tag stands for all its tags.
    """
    if not output and sys.stdout.isatty():
        raise InvalidArgument("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    if output:
        _check_output(output)

    async def work(client: Client) -> None:
        async with await client.images.save(names, platform=platform) as response:
            if output:
                view = transfer_view(quiet=not sys.stderr.isatty(), to_stderr=True)
                await write_file(counted(response.chunks(), view, "Saving", Path(output).name), Path(output))
            else:
                await pour(response.chunks(), sys.stdout.buffer)

    session.run(work)


def _check_output(path: str) -> None:
    """Refuse, in Docker's words, what cannot be replaced by an archive. Raises InvalidArgument."""
    problem = ""
    directory = os.path.dirname(path) or "."  # noqa: PTH120 - as it was typed
    try:
        os.lstat(f"{directory}/.")
        kind = stat.S_IFMT(os.lstat(path).st_mode)
        problem = f"cannot write to {_NO_FILES[kind]}" if kind in _NO_FILES else ""
    except OSError as error:
        if not Path(directory).is_dir():
            problem = f"invalid output path: stat {directory}: {(error.strerror or '').lower()}"
    if problem:
        raise InvalidArgument(f"failed to save image: {problem}")


@click.command(short_help="Load images from a tar archive.")
@click.option("-i", "--input", "source", default="", help="Read from this file, not from standard input.")
@click.option("--platform", default="", help="Of several platforms load this one, such as linux/amd64.")
@click.option("-q", "--quiet", is_flag=True, help="Don't show progress.")
@pass_session
def load(session: Session, source: str, platform: str, quiet: bool) -> None:
    """Load the images of a tar archive, plain or compressed, from `save` here, of Docker or of Podman."""
    if source:
        if not Path(source).exists():
            raise NotFound(f"open {source}: no such file or directory")
    elif sys.stdin.isatty():
        raise InvalidArgument("requested load from stdin, but stdin is empty")

    live = sys.stdout.isatty() and not quiet

    async def work(client: Client, stream: BinaryIO) -> None:
        view = transfer_view() if live else PlainTransfer(sys.stdout)
        body = _sent(stream, view, Path(source).name or "archive") if live else _chunks(stream)
        await show_transfer(client.images.load(body, platform=platform, quiet=not live), view, "load")

    with Path(source).open("rb") if source else nullcontext(sys.stdin.buffer) as opened:
        session.run(lambda client: work(client, opened))


async def _chunks(stream: BinaryIO) -> AsyncIterator[bytes]:
    while data := stream.read(_CHUNK):
        yield data


async def _sent(stream: BinaryIO, view: TransferView, name: str) -> AsyncIterator[bytes]:
    """The archive, while ``view`` shows how much of it has been sent: its layers are told when all of it has."""
    kind = os.fstat(stream.fileno())
    total = kind.st_size if stat.S_ISREG(kind.st_mode) else 0
    moved = 0
    async for data in _chunks(stream):
        yield data
        moved += len(data)
        view.show(Progress("Sending", name, moved, total))
    view.show(Progress("Sent", name))
