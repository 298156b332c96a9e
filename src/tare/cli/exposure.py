"""``exposure``: what the world can reach."""

from __future__ import annotations

import sys
from typing import Any

import click

from tare.cli.session import Session, pass_session
from tare.cli.tables import align, write
from tare.cli.template import to_json

_TITLES = ("REACHABLE AT", "FROM", "CONTAINER", "NETWORK", "LISTENING", "RISK")
_RED, _PLAIN = "\x1b[31;1m", "\x1b[0m"


@click.command(short_help="List what the world can reach.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@pass_session
def exposure(session: Session, as_json: bool) -> None:
    """List what the world can reach: published ports, and containers on the host's network with what listens there.

    What is reachable on every address of the host, or not isolated from it, is marked as a risk.
    """
    found = session.run(lambda client: client.reachability.exposure())
    if as_json:
        write(to_json(found) + "\n")
        return
    write(describe(found["exposures"], colour=sys.stdout.isatty()))


def describe(exposures: list[dict[str, Any]], *, colour: bool) -> str:
    """A line for each; risks are marked with ``!``, and red on a terminal."""
    if not exposures:
        return "nothing: no port is published, and no container uses the host's network\n"
    table = align([_TITLES, *map(_row, exposures)])
    lines = table.splitlines()
    if colour:
        risky = [False, *(bool(one["risk"]) for one in exposures)]
        lines = [f"{_RED}{line}{_PLAIN}" if risk else line for line, risk in zip(lines, risky, strict=True)]
    return "".join(f"{line}\n" for line in lines)


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    sources = ", ".join(one["sources"]) or "anywhere"
    risk = f"! {one['risk']}" if one["risk"] else "-"
    if not one["port"]:
        return ("-", "-", one["container"], one["network"], "-", risk)
    listening = "yes" if one["listening"] else "no"
    return (place(one), sources if one["scope"] == "outside" else "this host", one["container"], one["network"],
            listening, risk)  # fmt: skip


def place(one: dict[str, Any]) -> str:
    """``0.0.0.0:8080 -> 80/tcp``."""
    address = f"[{one['address']}]" if ":" in one["address"] else one["address"]
    inside = f" -> {one['container_port']}" if one["kind"] == "published" else ""
    return f"{address}:{one['port']}{inside}/{one['protocol']}"
