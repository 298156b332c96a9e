"""``ps``, ``top``, ``port``."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click

from tare.cli.filters import read_filters
from tare.cli.risk_notes import tell_risks
from tare.cli.session import Session, pass_session
from tare.cli.tables import align, listing, short_id, shorten, write
from tare.cli.template import Nil
from tare.cli.units import ago, human_size, local_time
from tare.client.client import Client

_TITLES = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "RunningFor": "CREATED",
    "CreatedAt": "CREATED AT",
    "Status": "STATUS",
    "State": "STATE",
    "Ports": "PORTS",
    "Names": "NAMES",
    "Size": "SIZE",
    "Labels": "LABELS",
    "Mounts": "MOUNTS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Networks": "NETWORKS",
    "Platform": "PLATFORM",
}
_COLUMNS = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")
_COMMAND_WIDTH = 20
_TOP_WIDTH = 20


@click.command(short_help="List containers.")
@click.option("-a", "--all", "everything", is_flag=True, help="Show all containers, not only running ones.")
@click.option("-q", "--quiet", is_flag=True, help="Only show container IDs.")
@click.option("--no-trunc", is_flag=True, help="Don't shorten the output.")
@click.option("-f", "--filter", "filters", multiple=True, metavar="KEY=VALUE", help="Only those that match.")
@click.option("--format", "template", default="", help="'table', 'json', 'table TEMPLATE' or a Go template.")
@click.option("-n", "--last", type=int, default=-1, help="Show the last N created containers, in any state.")
@click.option("-l", "--latest", is_flag=True, help="Show the latest created container, in any state.")
@click.option("-s", "--size", is_flag=True, help="Show file sizes.")
@pass_session
def ps(
    session: Session,
    *,
    everything: bool,
    quiet: bool,
    no_trunc: bool,
    filters: tuple[str, ...],
    template: str,
    last: int,
    latest: bool,
    size: bool,
) -> None:
    """List containers."""
    limit = 1 if latest else max(last, 0)
    wants_size = size or ".Size" in template or "json ." in template

    async def work(client: Client) -> list[dict[str, Any]]:
        return await client.containers.list(
            everything=everything or limit > 0, limit=limit, size=wants_size, filters=read_filters(filters)
        )

    found = session.run(work)
    now = time.time()
    rows = [container_row(one, now, full=no_trunc) for one in found]
    if quiet and not template:
        write("".join(f"{row['ID']}\n" for row in rows))
        return
    columns = (*_COLUMNS, "Size") if size else _COLUMNS
    write(listing(rows, _TITLES, columns, template))
    if not template:
        tell_risks(found)


class _Row(dict[str, Any]):
    """A container's columns; ``labels`` are asked for by name."""

    labels: dict[str, str]

    def label(self, name: str) -> str:
        """The value of a label; empty without it."""
        return self.labels.get(name, "")


def container_row(document: dict[str, Any], now: float, *, full: bool) -> _Row:
    """The columns of a container, nothing shortened if ``full``; ``now`` is seconds since 1970."""
    command = document["Command"]
    image = document["Image"]
    mounts = [mount.get("Name") or mount.get("Source", "") for mount in document.get("Mounts") or []]
    row = _Row(
        {
            "ID": document["Id"] if full else short_id(document["Id"]),
            "Image": short_id(image) if image.startswith("sha256:") and not full else image,
            "Command": json.dumps(command if full else shorten(command, _COMMAND_WIDTH), ensure_ascii=False),
            "RunningFor": ago(document["Created"], now),
            "CreatedAt": local_time(document["Created"]),
            "Status": document["Status"],
            "State": document["State"],
            "Ports": ports_text(document.get("Ports") or []),
            "Names": ",".join(name.lstrip("/") for name in document["Names"]),
            "Size": _size(document),
            "Labels": ",".join(f"{key}={value}" for key, value in sorted((document.get("Labels") or {}).items())),
            "Mounts": ",".join(mount if full else shorten(mount, 15) for mount in mounts),
            "LocalVolumes": str(sum(1 for mount in document.get("Mounts") or [] if mount.get("Driver") == "local")),
            "Networks": ",".join(sorted((document.get("NetworkSettings") or {}).get("Networks") or {})),
            "Platform": _platform(document),
        }
    )
    row.labels = document.get("Labels") or {}
    return row


def _platform(document: dict[str, Any]) -> str | Nil:
    """``OS/ARCHITECTURE[/VARIANT]``, where the engine knows the manifest that the container was made of."""
    found = (document.get("ImageManifestDescriptor") or {}).get("platform")
    if not found:
        return Nil()
    return "/".join(filter(None, (found.get("os"), found.get("architecture"), found.get("variant"))))


def _size(document: dict[str, Any]) -> str:
    written = human_size(document.get("SizeRw", 0))
    return f"{written} (virtual {human_size(document['SizeRootFs'])})" if document.get("SizeRootFs") else written


def ports_text(ports: list[dict[str, Any]]) -> str:
    """The PORTS column as Docker writes it: neighbours are a range, ports under another number come last."""
    groups: dict[tuple[str, str], tuple[int, int]] = {}
    texts, mapped = [], []
    for port in sorted(ports, key=_port_order):
        number, public, address = port["PrivatePort"], port.get("PublicPort", 0), port.get("IP", "")
        if address and public != number:
            mapped.append(f"{_place(address, str(public))}->{number}/{port['Type']}")
            continue
        key = (address, port["Type"])
        if key in groups and number == groups[key][1] + 1:
            groups[key] = (groups[key][0], number)
            continue
        if key in groups:
            texts.append(_group(key, groups[key]))
        groups[key] = (number, number)
    texts += [_group(key, span) for key, span in groups.items()]
    return ", ".join([*texts, *mapped])


def _port_order(port: dict[str, Any]) -> tuple[int, str, int, str]:
    return port["PrivatePort"], port.get("IP", ""), port.get("PublicPort", 0), port["Type"]


def _group(key: tuple[str, str], span: tuple[int, int]) -> str:
    address, protocol = key
    numbers = str(span[0]) if span[0] == span[1] else f"{span[0]}-{span[1]}"
    return f"{_place(address, numbers)}->{numbers}/{protocol}" if address else f"{numbers}/{protocol}"


def _place(address: str, port: str) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@click.command(short_help="Show the processes of a container.", context_settings={"ignore_unknown_options": True})
@click.argument("container")
@click.argument("ps_options", nargs=-1, type=click.UNPROCESSED)
@pass_session
def top(session: Session, container: str, ps_options: tuple[str, ...]) -> None:
    """Show the processes of a container."""
    found = session.run(lambda client: client.containers.top(container, " ".join(ps_options)))
    write(align([found["Titles"], *found["Processes"]], min_width=_TOP_WIDTH))


@click.command(short_help="List published ports of a container.")
@click.argument("container")
@click.argument("private_port", required=False)
@pass_session
def port(session: Session, container: str, private_port: str | None) -> None:
    """List published ports of a container."""
    found = session.run(lambda client: client.containers.inspect(container))
    published = found["NetworkSettings"]["Ports"] or {}
    if private_port:
        wanted = private_port if "/" in private_port else f"{private_port}/tcp"
        if not published.get(wanted):
            print(f"Error: No public port '{private_port}' published for {container}", file=sys.stderr)
            sys.exit(1)
        published = {wanted: published[wanted]}
    for inside, bindings in sorted(published.items()):
        for binding in bindings or []:
            address = binding["HostIp"] or "0.0.0.0"  # noqa: S104
            place = f"{f'[{address}]' if ':' in address else address}:{binding['HostPort']}"
            sys.stdout.write(f"{place}\n" if private_port else f"{inside} -> {place}\n")
