"""``prune``: remove what nothing uses."""

from __future__ import annotations

import sys
from typing import Any

import click

from tare.cli.filters import read_filters
from tare.cli.session import Session, pass_session
from tare.cli.units import human_size
from tare.client.client import Client

_force = click.option("-f", "--force", is_flag=True, help="Don't ask.")
_filter = click.option("--filter", "filters", multiple=True, metavar="KEY=VALUE", help="Only those that match.")


def _confirm(warning: str, *, force: bool) -> None:
    if not force:
        click.confirm(f"WARNING! {warning}\nAre you sure you want to continue?", abort=True)


def _report(title: str, names: list[str]) -> None:
    if names:
        print(title)
        print("".join(f"{name}\n" for name in names))


@click.command("prune", short_help="Remove all stopped containers.")
@_force
@_filter
@pass_session
def prune_containers(session: Session, force: bool, filters: tuple[str, ...]) -> None:
    """Remove all stopped containers."""
    _confirm("This will remove all stopped containers.", force=force)
    removed = session.run(lambda client: client.containers.prune(read_filters(filters)))
    _report("Deleted Containers:", removed["ContainersDeleted"] or [])
    print(f"Total reclaimed space: {human_size(removed['SpaceReclaimed'])}")


@click.command("prune", short_help="Remove unused images.")
@_force
@_filter
@click.option("-a", "--all", "everything", is_flag=True, help="Also images that have a name.")
@pass_session
def prune_images(session: Session, force: bool, filters: tuple[str, ...], everything: bool) -> None:
    """Remove images that nothing uses and that have no name (or all unused ones)."""
    what = "all images without at least one container associated to them" if everything else "all dangling images"
    _confirm(f"This will remove {what}.", force=force)
    removed = session.run(lambda client: client.images.prune(_dangling(read_filters(filters), everything=everything)))
    _report_images(removed)
    print(f"Total reclaimed space: {human_size(removed['SpaceReclaimed'])}")


def _dangling(filters: dict[str, list[str]], *, everything: bool) -> dict[str, list[str]]:
    return {**filters, "dangling": ["false" if everything else "true"]}


def _report_images(removed: dict[str, Any]) -> None:
    lines = [f"untagged: {one['Untagged']}" for one in removed["ImagesDeleted"] or [] if one.get("Untagged")]
    lines += [f"deleted: {one['Deleted']}" for one in removed["ImagesDeleted"] or [] if one.get("Deleted")]
    _report("Deleted Images:", lines)


@click.command("prune", short_help="Remove unused networks.")
@_force
@_filter
@pass_session
def prune_networks(session: Session, force: bool, filters: tuple[str, ...]) -> None:
    """Remove networks without containers."""
    _confirm("This will remove all custom networks not used by at least one container.", force=force)
    removed = session.run(lambda client: client.networks.prune(read_filters(filters)))
    _report("Deleted Networks:", removed["NetworksDeleted"] or [])


@click.command("prune", short_help="Remove unused volumes.")
@_force
@_filter
@click.option("-a", "--all", "everything", is_flag=True, help="Also volumes that have a name.")
@pass_session
def prune_volumes(session: Session, force: bool, filters: tuple[str, ...], everything: bool) -> None:
    """Remove volumes that no container uses; their data is lost."""
    kind = "all local volumes" if everything else "anonymous local volumes"
    _confirm(f"This will remove {kind} not used by at least one container.", force=force)
    wanted = read_filters(filters) | ({"all": ["true"]} if everything else {})
    removed = session.run(lambda client: client.volumes.prune(wanted))
    _report("Deleted Volumes:", removed["VolumesDeleted"] or [])
    print(f"Total reclaimed space: {human_size(removed['SpaceReclaimed'])}")


@click.command("prune", short_help="Remove everything that is not used.")
@_force
@click.option("-a", "--all", "everything", is_flag=True, help="Also unused images that have a name.")
@click.option("--volumes", is_flag=True, help="Also anonymous volumes.")
@pass_session
def prune_system(session: Session, force: bool, everything: bool, volumes: bool) -> None:
    """Remove stopped containers, unused networks and images, and on demand volumes."""
    _confirm("This will remove stopped containers, unused networks and unused images.", force=force)

    async def work(client: Client) -> list[dict[str, Any]]:
        found = [await client.containers.prune(), await client.networks.prune()]
        if volumes:
            found.append(await client.volumes.prune())
        return [*found, await client.images.prune(_dangling({}, everything=everything))]

    removed = session.run(work)
    reclaimed = 0
    for one in removed:
        for kind in ("Containers", "Networks", "Volumes"):
            _report(f"Deleted {kind}:", one.get(f"{kind}Deleted") or [])
        if "ImagesDeleted" in one:
            _report_images(one)
        reclaimed += one.get("SpaceReclaimed", 0)
    print(f"Total reclaimed space: {human_size(reclaimed)}")
    sys.stdout.flush()
