"""``volume snapshot|clone|restore|protect|unprotect``."""

from __future__ import annotations

import sys
from typing import Any

import click

from tare.cli.lazy import LazyGroup
from tare.cli.session import Session, pass_session
from tare.cli.tables import listing, write
from tare.cli.units import human_size
from tare.client.client import Client

_TITLES = {
    "Name": "SNAPSHOT",
    "CreatedAt": "CREATED",
    "Size": "SIZE",
    "Method": "METHOD",
    "Frozen": "FROZEN",
    "Automatic": "AUTOMATIC",
    "Volume": "VOLUME",
    "Bytes": "BYTES",
    "FrozenSeconds": "SECONDS FROZEN",
}
snapshot = LazyGroup(
    "snapshot",
    places={
        "create": "volume_copies:create_snapshot",
        "ls": "volume_copies:list_snapshots",
        "rm": "volume_copies:remove_snapshots",
    },
    help="Manage snapshots of volumes.",
)


@click.command("create", short_help="Keep what a volume holds now.")
@click.argument("volume")
@click.argument("name", required=False, default="")
@pass_session
def create_snapshot(session: Session, volume: str, name: str) -> None:
    """Take a snapshot of VOLUME and print its name; without NAME it is the time (UTC).

    Running containers that have the volume stand still while what has just changed is copied.
    """
    print(session.run(lambda client: client.volumes.snapshot(volume, name))["Name"])


@click.command("ls", short_help="List a volume's snapshots.")
@click.argument("volume")
@click.option("-q", "--quiet", is_flag=True, help="Only show names.")
@click.option("--format", "template", default="", help="'table', 'json', 'table TEMPLATE' or a Go template.")
@pass_session
def list_snapshots(session: Session, volume: str, quiet: bool, template: str) -> None:
    """List the snapshots of VOLUME, oldest first."""
    found = session.run(lambda client: client.volumes.snapshots(volume))
    if quiet and not template:
        write("".join(f"{one['Name']}\n" for one in found))
        return
    write(listing([_row(one) for one in found], _TITLES, ("Name", "CreatedAt", "Size", "Method", "Frozen"), template))


def _row(one: dict[str, Any]) -> dict[str, str]:
    return {
        "Name": one["Name"],
        "CreatedAt": one["CreatedAt"],
        "Size": human_size(one["Size"]),
        "Method": one["Method"],
        "Frozen": f"{one['Frozen'] * 1000:.0f} ms",
        "Automatic": str(one["Automatic"]).lower(),
        "Volume": one["Volume"],
        "Bytes": str(one["Size"]),
        "FrozenSeconds": str(one["Frozen"]),
    }


@click.command("rm", short_help="Delete snapshots.")
@click.argument("volume")
@click.argument("names", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All snapshots of the volume.")
@pass_session
def remove_snapshots(session: Session, volume: str, names: tuple[str, ...], everything: bool) -> None:
    """Delete snapshots of VOLUME."""
    if bool(names) is everything:
        raise click.UsageError("name the snapshots, or use --all")
    if everything:
        names = tuple(one["Name"] for one in session.run(lambda client: client.volumes.snapshots(volume)))

    async def act(client: Client, name: str) -> str:
        await client.volumes.remove_snapshot(volume, name)
        return name

    session.each(names, act)


@click.command(short_help="Make a volume of what another one holds.")
@click.argument("source")
@click.argument("target")
@click.option("--snapshot", default="", metavar="NAME", help="What it held when this snapshot was taken.")
@pass_session
def clone(session: Session, source: str, target: str, snapshot: str) -> None:
    """Make the volume TARGET with the content of the volume SOURCE."""
    print(session.run(lambda client: client.volumes.clone(source, target, snapshot=snapshot))["Name"])


@click.command(short_help="Give a volume an earlier content.")
@click.argument("volume")
@click.argument("snapshot", required=False, default="")
@click.option("--from", "source", default="", metavar="FILE|DIRECTORY|-", help="A backup instead of a snapshot.")
@pass_session
def restore(session: Session, volume: str, snapshot: str, source: str) -> None:
    """Give VOLUME what it held when SNAPSHOT was taken, or what a backup holds.

    What it holds now becomes a snapshot. No container that has the volume may run. A backup makes the volume when there
    is none.
    """
    if bool(snapshot) is bool(source):
        raise click.UsageError("name a snapshot, or a backup with --from")
    kept: dict[str, Any] | None
    if source:
        from tare.cli.volume_backups import send_backup

        kept = send_backup(session, volume, source)
    else:
        kept = session.run(lambda client: client.volumes.restore(volume, snapshot))
    print(volume, flush=True)
    if kept is not None:
        print(f"tare: what {volume} held until now is its snapshot {kept['Name']}", file=sys.stderr)


@click.command(short_help="Refuse to remove volumes.")
@click.argument("names", nargs=-1, required=True)
@pass_session
def protect(session: Session, names: tuple[str, ...]) -> None:
    """Refuse to remove or prune volumes, also by force, until they are unprotected."""

    async def act(client: Client, name: str) -> str:
        await client.volumes.protect(name)
        return name

    session.each(names, act)


@click.command(short_help="Allow to remove volumes again.")
@click.argument("names", nargs=-1, required=True)
@pass_session
def unprotect(session: Session, names: tuple[str, ...]) -> None:
    """Allow to remove protected volumes again."""

    async def act(client: Client, name: str) -> str:
        await client.volumes.unprotect(name)
        return name

    session.each(names, act)
