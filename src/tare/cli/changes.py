"""``diff``, ``export`` and ``commit``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tare.cli.copy_paths import check_output
from tare.cli.options import BooleanValues
from tare.cli.session import Session, pass_session
from tare.cli.streams_to_files import pour, write_file
from tare.cli.unpersisted import show_unpersisted
from tare.client.client import Client
from tare.errors import InvalidArgument

_LETTERS = ("C", "A", "D")


@click.command(short_help="Show what a container changed in its image's files.")
@click.argument("container")
@click.option("--unpersisted", is_flag=True, help="Show the data that would be lost with it, and what would keep them.")
@pass_session
def diff(session: Session, container: str, unpersisted: bool) -> None:
    """Show the files that a container has added (A), changed (C) and deleted (D)."""
    if not container:
        raise InvalidArgument("Container name cannot be empty")
    if unpersisted:
        session.run(lambda client: show_unpersisted(client, container))
        return
    found = session.run(lambda client: client.containers.changes(container))
    sys.stdout.write("".join(f"{_LETTERS[change['Kind']]} {change['Path']}\n" for change in found))
    sys.stdout.flush()


@click.command(short_help="Write a container's file system as a tar.")
@click.argument("container")
@click.option("-o", "--output", default="", help="Write to this file, not to standard output.")
@pass_session
def export(session: Session, container: str, output: str) -> None:
    """Write the file system of a container, without its volumes, as a tar."""
    if not output and sys.stdout.isatty():
        raise InvalidArgument("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    if output:
        try:
            check_output(output)
        except InvalidArgument as error:
            raise InvalidArgument(f"failed to export container: {error.message}") from error

    async def work(client: Client) -> None:
        async with await client.containers.export(container) as response:
            if output:
                await write_file(response.chunks(), Path(output))
            else:
                await pour(response.chunks(), sys.stdout.buffer)

    session.run(work)


@click.command(cls=BooleanValues, short_help="Make an image from what a container changed.")
@click.argument("container")
@click.argument("name", required=False, default="")
@click.option("-a", "--author", default="", help="Author of the image.")
@click.option("-c", "--change", "changes", multiple=True, help="Apply a Dockerfile instruction, such as 'CMD run'.")
@click.option("-m", "--message", default="", help="Comment in the image's history.")
@click.option("-p", "--pause/--no-pause", "pause", default=True, help="Freeze the container meanwhile (default).")
@pass_session
def commit(
    session: Session, *, container: str, name: str, author: str, changes: tuple[str, ...], message: str, pause: bool
) -> None:
    """Make an image from a container's changes, with the name NAME[:TAG]."""
    from tare.cli.pulling import split_name

    repository, tag = split_name(name) if name else ("", "")

    async def work(client: Client) -> str:
        return await client.containers.commit(
            container,
            repository=repository,
            tag=tag,
            author=author,
            comment=message,
            changes=changes,
            pause=pause,
        )

    print(session.run(work))
