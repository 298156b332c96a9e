"""``volume create|inspect|ls|rm``."""

from __future__ import annotations

import sys
from typing import Any

import click

from tare.cli.environment import read_labels
from tare.cli.filters import read_filters
from tare.cli.inspection import show
from tare.cli.session import Session, pass_session
from tare.cli.tables import listing, write
from tare.cli.units import human_size
from tare.client.client import Client

_TITLES = {
    "Driver": "DRIVER",
    "Name": "VOLUME NAME",
    "Mountpoint": "MOUNTPOINT",
    "Scope": "SCOPE",
    "Labels": "LABELS",
    "Availability": "AVAILABILITY",
    "Group": "GROUP",
    "Links": "LINKS",
    "Size": "SIZE",
    "Status": "STATUS",
    "UsedBy": "USED BY",
    "Snapshots": "SNAPSHOTS",
    "Protected": "PROTECTED",
}
_USAGE = ("Size", "Snapshots", "Protected", "UsedBy")


@click.command(short_help="Create a volume.")
@click.argument("name", required=False, default="")
@click.option("-d", "--driver", default="local", help="Driver.")
@click.option("--label", "labels", multiple=True, help="Label: KEY=VALUE.")
@click.option("-o", "--opt", "options", multiple=True, help="Driver option: KEY=VALUE.")
@pass_session
def create(session: Session, name: str, driver: str, labels: tuple[str, ...], options: tuple[str, ...]) -> None:
    """Create a volume; one without a name gets one."""
    document = {"Name": name, "Driver": driver, "Labels": read_labels(labels), "DriverOpts": read_labels(options)}
    print(session.run(lambda client: client.volumes.create(document))["Name"])


@click.command("ls", short_help="List volumes.")
@click.option("-q", "--quiet", is_flag=True, help="Only show names.")
@click.option("-f", "--filter", "filters", multiple=True, metavar="KEY=VALUE", help="Only those that match.")
@click.option("--format", "template", default="", help="'table', 'json', 'table TEMPLATE' or a Go template.")
@click.option("-u", "--usage", is_flag=True, help="Also show who uses them, how big they are, and their snapshots.")
@pass_session
def list_volumes(session: Session, quiet: bool, filters: tuple[str, ...], template: str, usage: bool) -> None:
    """List volumes."""
    wanted = read_filters(filters)
    if usage:
        found = session.run(lambda client: client.volumes.usages(wanted, size=True))
    else:
        found, warnings = session.run(lambda client: client.volumes.list_with_warnings(wanted))
        for warning in warnings:
            print(f"WARNING: {warning}", file=sys.stderr, flush=True)
    rows = [_row(one) for one in sorted(found, key=lambda one: one["Name"])]
    if quiet and not template:
        write("".join(f"{row['Name']}\n" for row in rows))
        return
    write(listing(rows, _TITLES, ("Driver", "Name", *(_USAGE if usage else ())), template))


def _row(one: dict[str, Any]) -> dict[str, str]:
    """The fields of Docker's ``--format``, in its order for JSON; those of usage only where they are known."""
    data = one.get("UsageData")
    row = {
        "Availability": "N/A",
        "Driver": one["Driver"],
        "Group": "N/A",
        "Labels": ",".join(f"{key}={value}" for key, value in sorted((one["Labels"] or {}).items())),
        "Links": str(data["RefCount"]) if data else "N/A",
        "Mountpoint": one["Mountpoint"],
        "Name": one["Name"],
        "Scope": one["Scope"],
        "Size": human_size(data["Size"]) if data and data["Size"] >= 0 else "N/A",
        "Status": "N/A",
    }
    if data:
        users = dict.fromkeys(f"{user['Name']} ({user['State']})" for user in one["UsedBy"])
        row["UsedBy"] = ", ".join(users) or "-"
        row["Snapshots"] = str(one["Snapshots"]["Count"])
        row["Protected"] = "yes" if one["Protected"] else "no"
    return row


@click.command("inspect", short_help="Show everything about volumes.")
@click.argument("names", nargs=-1, required=True)
@click.option("-f", "--format", "template", default="", help="'json' or a Go template.")
@click.option("-u", "--usage", is_flag=True, help="Also show who uses them, how big they are, and their snapshots.")
@pass_session
def inspect(session: Session, names: tuple[str, ...], template: str, usage: bool) -> None:
    """Show everything about volumes."""
    if usage:
        show(session, names, template, lambda client, name: client.volumes.usage(name, size=True))
    else:
        show(session, names, template, lambda client, name: client.volumes.inspect(name))


@click.command("rm", short_help="Remove volumes and their data.")
@click.argument("names", nargs=-1, required=True)
@click.option("-f", "--force", is_flag=True, help="Don't complain about a volume that is not there.")
@pass_session
def remove(session: Session, names: tuple[str, ...], force: bool) -> None:
    """Remove volumes and their data."""

    async def act(client: Client, name: str) -> str:
        await client.volumes.remove(name, force=force)
        return name

    session.each(names, act)
