"""``cp`` and ``volume cp``."""

from __future__ import annotations

import sys

import click

from tare.cli import copy_paths
from tare.cli.copy_transfers import copy_across, copy_in, copy_out
from tare.cli.session import Session, pass_session
from tare.cli.units import human_size
from tare.client.client import Client
from tare.errors import InvalidArgument


@click.command("cp", short_help="Copy files between a container and this host.")
@click.argument("source")
@click.argument("destination")
@click.option("-a", "--archive", "keep_owner", is_flag=True, help="Give what is copied in to the container's user.")
@click.option("-L", "--follow-link", "follow", is_flag=True, help="Follow a symbolic link in the source path.")
@click.option("-q", "--quiet", is_flag=True, help="Don't say what was copied.")
@pass_session
def copy_files(session: Session, *, source: str, destination: str, keep_owner: bool, follow: bool, quiet: bool) -> None:
    """Copy SOURCE to DESTINATION; one of them is CONTAINER:PATH. "-" is a tar on standard input or output."""
    (from_container, source), (to_container, destination) = _places(source, destination)
    if from_container and to_container:
        raise InvalidArgument("copying between containers is not supported")
    if from_container:
        copied = session.run_on_loop(
            lambda client: copy_out(client.containers, from_container, source, destination, follow=follow)
        )
    elif to_container:
        copied = session.run_on_loop(
            lambda client: copy_in(
                client.containers, source, to_container, destination, follow=follow, user_owns=keep_owner
            )
        )
    else:
        raise InvalidArgument("must specify at least one container source")
    if not quiet and "-" not in (source, destination):
        _say(copied, to_container, destination)


@click.command("cp", short_help="Copy files between a volume and this host, or another volume.")
@click.argument("source")
@click.argument("destination")
@click.option("-a", "--archive", "keep", is_flag=True, help="Keep owners and extended attributes.")
@click.option("-L", "--follow-link", "follow", is_flag=True, help="Follow a symbolic link in the source path.")
@click.option("-q", "--quiet", is_flag=True, help="Don't say what was copied.")
@pass_session
def copy_volume_files(
    session: Session, *, source: str, destination: str, keep: bool, follow: bool, quiet: bool
) -> None:
    """Copy SOURCE to DESTINATION; one of them, or both, is VOLUME:PATH. "-" is a tar on standard input or output.

    Files copied in keep their owners as numbers, files copied out belong to the caller unless --archive is given.
    """
    (from_volume, source), (to_volume, destination) = _places(source, destination)
    if from_volume and from_volume == to_volume:
        raise InvalidArgument(
            f"source and destination are the same volume {to_volume}",
            hint=f"copy within it by a container: tare run --rm -v {to_volume}:/v IMAGE cp -a /v/… /v/…",
        )
    if not from_volume and not to_volume:
        raise InvalidArgument("must specify at least one volume", hint="as VOLUME:PATH")

    async def work(client: Client) -> int:
        if to_volume:
            await client.volumes.inspect(to_volume)  # a missing one would look like a missing directory
        if from_volume and to_volume:
            return await copy_across(client.volumes, from_volume, source, to_volume, destination, follow=follow)
        if from_volume:
            return await copy_out(client.volumes, from_volume, source, destination, follow=follow, keep=keep)
        return await copy_in(client.volumes, source, to_volume, destination, follow=follow, keep=keep)

    copied = session.run_on_loop(work)
    if not quiet and "-" not in (source, destination):
        _say(copied, to_volume, destination)


def _places(source: str, destination: str) -> tuple[tuple[str, str], tuple[str, str]]:
    """Names and paths of both sides; the name is empty for this host. Raises InvalidArgument."""
    if not source:
        raise InvalidArgument("source can not be empty")
    if not destination:
        raise InvalidArgument("destination can not be empty")
    return copy_paths.split_argument(source), copy_paths.split_argument(destination)


def _say(copied: int, name: str, destination: str) -> None:
    if sys.stdout.isatty():
        shown = f"{name}:{destination}" if name else destination
        print(f"Successfully copied {human_size(copied)} to {shown}", file=sys.stderr)
