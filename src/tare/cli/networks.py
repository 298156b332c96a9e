"""``network create|ls|rm|connect|disconnect``."""

from __future__ import annotations

from typing import Any

import click

from tare.cli.environment import read_labels
from tare.cli.filters import read_filters
from tare.cli.network_options import read_driver_options, read_pool
from tare.cli.options import BooleanValues
from tare.cli.session import Session, pass_session
from tare.cli.tables import listing, short_id, write
from tare.client.client import Client

_TITLES = {
    "ID": "NETWORK ID",
    "Name": "NAME",
    "Driver": "DRIVER",
    "Scope": "SCOPE",
    "Labels": "LABELS",
    "IPv4": "IPV4",
    "IPv6": "IPV6",
    "Internal": "INTERNAL",
    "CreatedAt": "CREATED AT",
}


@click.command(short_help="Create a network.", cls=BooleanValues)
@click.argument("name")
@click.option("-d", "--driver", default="bridge", help="Driver.")
@click.option("--subnet", "subnets", multiple=True, help="Subnet in CIDR form.")
@click.option("--gateway", "gateways", multiple=True, help="Gateway of the subnet.")
@click.option("--ip-range", "ranges", multiple=True, help="Part of the subnet that addresses come from.")
@click.option("--aux-address", "aux", multiple=True, help="Address that is never given: NAME=ADDRESS.")
@click.option("--internal", is_flag=True, help="No way to the outside.")
@click.option("--attachable", is_flag=True, help="Allow containers to be attached by hand.")
@click.option("--ipv4/--no-ipv4", default=None, help="Use IPv4, which is the default.")
@click.option("--ipv6/--no-ipv6", default=None, help="Use IPv6.")
@click.option("--ipam-driver", default="default", help="IPAM driver.")
@click.option("--ipam-opt", "ipam_options", multiple=True, help="Option of the IPAM driver: KEY=VALUE.")
@click.option("--scope", default="", help="Scope: local.")
@click.option("--label", "labels", multiple=True, help="Label: KEY=VALUE.")
@click.option("-o", "--opt", "options", multiple=True, help="Driver option: KEY=VALUE.")
@pass_session
def create(session: Session, /, *, name: str, **given: Any) -> None:
    """Create a network."""
    document = {
        "Name": name,
        "Driver": given["driver"],
        "Internal": given["internal"],
        "Attachable": given["attachable"],
        **({} if given["ipv4"] is None else {"EnableIPv4": given["ipv4"]}),
        **({} if given["ipv6"] is None else {"EnableIPv6": given["ipv6"]}),
        "Scope": given["scope"],
        "IPAM": {
            "Driver": given["ipam_driver"],
            "Options": read_labels(given["ipam_options"]),
            "Config": read_pool(given["subnets"], given["gateways"], given["ranges"], given["aux"]),
        },
        "Labels": read_labels(given["labels"]),
        "Options": read_labels(given["options"]),
    }
    created = session.run(lambda client: client.networks.create(document))
    if created.get("Warning"):
        click.echo(f"WARNING: {created['Warning']}", err=True)
    print(created["Id"])


class _Row(dict[str, Any]):
    """A network's columns; ``labels`` are asked for by name."""

    labels: dict[str, str]

    def label(self, name: str) -> str:
        """The value of a label; empty without it."""
        return self.labels.get(name, "")


def _row(one: dict[str, Any], *, full: bool) -> _Row:
    labels = one["Labels"] or {}
    row = _Row(
        {
            "ID": one["Id"] if full else short_id(one["Id"]),
            "Name": one["Name"],
            "Driver": one["Driver"],
            "Scope": one["Scope"],
            "IPv4": str(one.get("EnableIPv4", True)).lower(),
            "IPv6": str(one["EnableIPv6"]).lower(),
            "Internal": str(one["Internal"]).lower(),
            "CreatedAt": one["Created"],
            "Labels": ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
        }
    )
    row.labels = labels
    return row


@click.command("ls", short_help="List networks.")
@click.option("-q", "--quiet", is_flag=True, help="Only show network IDs.")
@click.option("--no-trunc", is_flag=True, help="Don't shorten the output.")
@click.option("-f", "--filter", "filters", multiple=True, metavar="KEY=VALUE", help="Only those that match.")
@click.option("--format", "template", default="", help="'table', 'json', 'table TEMPLATE' or a Go template.")
@pass_session
def list_networks(session: Session, quiet: bool, no_trunc: bool, filters: tuple[str, ...], template: str) -> None:
    """List networks."""
    found = session.run(lambda client: client.networks.list(read_filters(filters)))
    rows = [_row(one, full=no_trunc) for one in sorted(found, key=lambda one: one["Name"])]
    if quiet and not template:
        write("".join(f"{row['ID']}\n" for row in rows))
        return
    write(listing(rows, _TITLES, ("ID", "Name", "Driver", "Scope"), template))


@click.command("rm", short_help="Remove networks.")
@click.argument("names", nargs=-1, required=True)
@click.option("-f", "--force", is_flag=True, help="Don't complain about a network that is not there.")
@pass_session
def remove(session: Session, names: tuple[str, ...], force: bool) -> None:
    """Remove networks."""
    from tare.errors import NotFound

    async def act(client: Client, name: str) -> str | None:
        try:
            await client.networks.remove(name)
        except NotFound:
            if not force:
                raise
            return None
        return name

    session.each(names, act)


@click.command(short_help="Put a container on a network.")
@click.argument("network")
@click.argument("container")
@click.option("--alias", "aliases", multiple=True, help="One more name on the network.")
@click.option("--ip", default="", help="IPv4 address.")
@click.option("--ip6", default="", help="IPv6 address.")
@click.option("--link", "links", multiple=True, help="Link to another container.")
@click.option("--link-local-ip", "local", multiple=True, help="Link-local address.")
@click.option("--driver-opt", "options", multiple=True, help="Driver option: KEY=VALUE.")
@click.option("--gw-priority", "priority", type=int, default=0, help="The highest gets the default route.")
@pass_session
def connect(session: Session, /, *, network: str, container: str, **given: Any) -> None:
    """Put a container on a network."""
    addresses = {"IPv4Address": given["ip"], "IPv6Address": given["ip6"], "LinkLocalIPs": list(given["local"])}
    settings = {
        "Aliases": list(given["aliases"]),
        "IPAMConfig": {member: value for member, value in addresses.items() if value},
        "Links": list(given["links"]) or None,
        "DriverOpts": read_driver_options(given["options"]),
        "GwPriority": given["priority"],
    }
    session.run(lambda client: client.networks.connect(network, container, settings))


@click.command(short_help="Take a container off a network.")
@click.argument("network")
@click.argument("container")
@click.option("-f", "--force", is_flag=True, help="Even when the container is gone.")
@pass_session
def disconnect(session: Session, network: str, container: str, force: bool) -> None:
    """Take a container off a network."""
    session.run(lambda client: client.networks.disconnect(network, container, force=force))
