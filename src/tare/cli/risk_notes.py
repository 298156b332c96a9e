"""Marks risks where containers are shown to people: on a terminal, below the table, never in what programs read."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import click

_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared, nothing is bound


def tell_risks(containers: Iterable[Mapping[str, Any]]) -> None:
    """Say on stderr which of the containers (ContainerSummary) the host's network or the world has, on a terminal."""
    if not (sys.stdout.isatty() and sys.stderr.isatty()):
        return
    for container in containers:
        name = container["Names"][0].lstrip("/")
        for note in risks_of(container):
            click.secho(f"! {name}: {note}", fg="red", err=True)


def tell_host_network(mode: str) -> None:
    """Say on stderr, on a terminal, that a container of this network mode is not isolated from the host."""
    if mode == "host" and sys.stderr.isatty():
        click.secho("! uses the host's network: not isolated from the host", fg="red", err=True)


def risks_of(container: Mapping[str, Any]) -> Iterator[str]:
    """The risks that a ContainerSummary shows."""
    if (container.get("HostConfig") or {}).get("NetworkMode") == "host":
        yield "uses the host's network: not isolated from the host"
    ports = sorted({port["PublicPort"] for port in container.get("Ports") or [] if port.get("IP") in _EVERYWHERE})
    if ports:
        shown = ", ".join(map(str, ports[:3])) + (f" and {len(ports) - 3} more" if len(ports) > 3 else "")
        yield f"published on every address of the host: {shown} (see `tare exposure`)"
