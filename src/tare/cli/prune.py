"""``prune``: remove what nothing uses."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import click

from tare.cli.filters import read_filters
from tare.cli.session import Session, pass_session
from tare.cli.units import human_size
from tare.cli.unpersisted import notes_before_prune, tell_notes
from tare.client.client import Client
from tare.errors import InvalidArgument

_force = click.option("-f", "--force", is_flag=True, help="Don't ask.")
_filter = click.option("--filter", "filters", multiple=True, metavar="KEY=VALUE", help="Only those that match.")


def ask(warning: str, *, force: bool) -> None:
    """Warn and ask whether to go on, unless ``force``; raises click.Abort for a no."""
    if not force:
        click.confirm(f"WARNING! {warning}\nAre you sure you want to continue?", abort=True)


def report(title: str, names: list[str]) -> None:
    """Print what went, one a line, if anything did."""
    if names:
        print(title)
        print("".join(f"{name}\n" for name in names))


@click.command("prune", short_help="Remove all stopped containers.")
@_force
@_filter
@pass_session
def prune_containers(session: Session, force: bool, filters: tuple[str, ...]) -> None:
    """Remove all stopped containers."""
    ask("This will remove all stopped containers.", force=force)

    async def work(client: Client) -> tuple[dict[str, Any], dict[str, list[str]]]:
        notes = await notes_before_prune(client)
        return await client.containers.prune(read_filters(filters)), notes

    removed, notes = session.run(work)
    report("Deleted Containers:", removed["ContainersDeleted"] or [])
    _tell(removed, notes)
    print(f"Total reclaimed space: {human_size(removed['SpaceReclaimed'])}")


def _tell(removed: dict[str, Any], notes: dict[str, list[str]]) -> None:
    for identifier in removed.get("ContainersDeleted") or []:
        tell_notes(notes.get(identifier, ()))


@click.command("prune", short_help="Remove unused images.")
@_force
@_filter
@click.option("-a", "--all", "everything", is_flag=True, help="Also images that have a name.")
@pass_session
def prune_images(session: Session, force: bool, filters: tuple[str, ...], everything: bool) -> None:
    """Remove images that nothing uses and that have no name (or all unused ones)."""
    what = "all images without at least one container associated to them" if everything else "all dangling images"
    ask(f"This will remove {what}.", force=force)
    removed = session.run(lambda client: client.images.prune(_dangling(read_filters(filters), everything=everything)))
    _report_images(removed)
    print(f"Total reclaimed space: {human_size(removed['SpaceReclaimed'])}")


def _dangling(filters: dict[str, list[str]], *, everything: bool) -> dict[str, list[str]]:
    return {**filters, "dangling": ["false" if everything else "true"]}


def _report_images(removed: dict[str, Any]) -> None:
    lines = [f"untagged: {one['Untagged']}" for one in removed["ImagesDeleted"] or [] if one.get("Untagged")]
    lines += [f"deleted: {one['Deleted']}" for one in removed["ImagesDeleted"] or [] if one.get("Deleted")]
    report("Deleted Images:", lines)


@click.command("prune", short_help="Remove unused networks.")
@_force
@_filter
@pass_session
def prune_networks(session: Session, force: bool, filters: tuple[str, ...]) -> None:
    """Remove networks without containers."""
    ask("This will remove all custom networks not used by at least one container.", force=force)
    removed = session.run(lambda client: client.networks.prune(read_filters(filters)))
    report("Deleted Networks:", removed["NetworksDeleted"] or [])


@click.command("prune", short_help="Remove unused volumes.")
@_force
@_filter
@click.option("-a", "--all", "everything", is_flag=True, help="Also volumes that have a name.")
@pass_session
def prune_volumes(session: Session, force: bool, filters: tuple[str, ...], everything: bool) -> None:
    """Remove volumes that no container uses; their data is lost."""
    kind = "all local volumes" if everything else "anonymous local volumes"
    ask(f"This will remove {kind} not used by at least one container.", force=force)
    wanted = read_filters(filters) | ({"all": ["true"]} if everything else {})
    removed = session.run(lambda client: client.volumes.prune(wanted))
    report("Deleted Volumes:", removed["VolumesDeleted"] or [])
    print(f"Total reclaimed space: {human_size(removed['SpaceReclaimed'])}")


@click.command("prune", short_help="Remove everything that is not used.")
@_force
@click.option("-a", "--all", "everything", is_flag=True, help="Also unused images that have a name.")
@click.option("--volumes", is_flag=True, help="Also anonymous volumes.")
@_filter
@pass_session
def prune_system(session: Session, *, force: bool, everything: bool, volumes: bool, filters: tuple[str, ...]) -> None:
    """Remove stopped containers, unused networks, images and build cache, and on demand volumes."""
    wanted = read_filters(filters)
    if volumes and "until" in wanted:
        raise InvalidArgument('the "until" filter is not supported with "--volumes"', hint="prune volumes separately")
    ask(_everything_unused(everything=everything, volumes=volumes, filters=wanted), force=force)

    async def work(client: Client) -> tuple[list[dict[str, Any]], dict[str, list[str]]]:
        notes = await notes_before_prune(client)
        found = [await client.containers.prune(wanted), await client.networks.prune(wanted)]
        if volumes:
            found.append(await client.volumes.prune(wanted))
        found.append(await client.images.prune(_dangling(wanted, everything=everything)))
        return [*found, await client.builds.prune(everything=everything, filters=wanted)], notes

    removed, notes = session.run(work)
    reclaimed = 0
    for one in removed:
        for kind in ("Containers", "Networks", "Volumes"):
            report(f"Deleted {kind}:", one.get(f"{kind}Deleted") or [])
        _tell(one, notes)
        if "ImagesDeleted" in one:
            _report_images(one)
        report("Deleted build cache objects:", one.get("CachesDeleted") or [])
        reclaimed += one.get("SpaceReclaimed", 0)
    print(f"Total reclaimed space: {human_size(reclaimed)}")
    sys.stdout.flush()


def _everything_unused(*, everything: bool, volumes: bool, filters: Mapping[str, list[str]]) -> str:
    lines = ["all stopped containers", "all networks not used by at least one container"]
    if volumes:
        lines.append("all anonymous volumes not used by at least one container")
    if everything:
        lines += ["all images without at least one container associated to them", "all build cache"]
    else:
        lines += ["all dangling images", "unused build cache"]
    text = "This will remove:" + "".join(f"\n  - {line}" for line in lines) + "\n"
    if filters:
        given = sorted(f"{name}={value}" for name, values in filters.items() for value in values)
        text += "\n  Items to be pruned will be filtered with:\n" + "".join(f"  - {line}\n" for line in given)
    return text
