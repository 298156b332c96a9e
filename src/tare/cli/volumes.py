"""``volume create|ls|rm``."""

from __future__ import annotations

import click

from tare.cli.environment import read_labels
from tare.cli.filters import read_filters
from tare.cli.session import Session, pass_session
from tare.cli.tables import listing, write
from tare.client.client import Client

_TITLES = {
    "Driver": "DRIVER",
    "Name": "VOLUME NAME",
    "Mountpoint": "MOUNTPOINT",
    "Scope": "SCOPE",
    "Labels": "LABELS",
}


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
@pass_session
def list_volumes(session: Session, quiet: bool, filters: tuple[str, ...], template: str) -> None:
    """List volumes."""
    found = session.run(lambda client: client.volumes.list(read_filters(filters)))
    rows = [
        {
            "Driver": one["Driver"],
            "Name": one["Name"],
            "Mountpoint": one["Mountpoint"],
            "Scope": one["Scope"],
            "Labels": ",".join(f"{key}={value}" for key, value in sorted((one["Labels"] or {}).items())),
        }
        for one in sorted(found, key=lambda one: one["Name"])
    ]
    if quiet and not template:
        write("".join(f"{row['Name']}\n" for row in rows))
        return
    write(listing(rows, _TITLES, ("Driver", "Name"), template))


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
