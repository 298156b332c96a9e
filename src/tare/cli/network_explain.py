"""``network explain``: whether one place reaches another, hop by hop."""

from __future__ import annotations

import sys
from typing import Any

import click

from tare.cli.session import Session, pass_session
from tare.cli.tables import write
from tare.cli.template import to_json

_SAYS = {
    "reachable": "reaches",
    "refused": "is refused by",
    "dropped": "does not reach",
    "unroutable": "has no route to",
}


@click.command(short_help="Say whether one place reaches another, and which rule decides.")
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.argument("service", metavar="[PORT[/PROTOCOL]]", required=False, default="")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="How to show it.")
@pass_session
def explain(session: Session, source: str, target: str, service: str, form: str) -> None:
    """Say whether FROM reaches TO, and which rule decides at each hop.

    FROM and TO are a running container, host, outside, or an address; without a port, an echo request (ping) is asked
    about. The exit status is 0 when FROM reaches TO, else 1.
    """
    answer = session.run(lambda client: client.reachability.explain(source, target, service))
    write(to_json(answer) + "\n" if form == "json" else describe(answer))
    if not answer["reachable"]:
        sys.exit(1)


def describe(answer: dict[str, Any]) -> str:
    """The answer for people."""
    port = f" port {answer['port']}" if answer["port"] else ""
    protocol = "ping" if answer["protocol"] == "icmp" else answer["protocol"]
    at = "" if answer["address"] == answer["to"] else f" at {answer['address']}"
    lines = [
        f"{answer['from']} {_SAYS[answer['verdict']]} {answer['to']}{at} ({protocol}{port}): {answer['reason']}",
        "",
    ]
    width = max(len(hop["where"]) for hop in answer["hops"])
    for number, hop in enumerate(answer["hops"], 1):
        lines.append(f"{number:3}. {hop['where'].ljust(width)}  {hop['rule']}")
        comment = f"   # {hop['comment']}" if hop["comment"] else ""
        lines.append(f"{' ' * (width + 7)}{hop['decision']}{comment}")
    others = [
        one
        for one in answer["attempts"]
        if (one["address"], one["port"]) != (answer["address"], answer["port"]) and one["verdict"] != "unroutable"
    ]
    if others:
        lines += ["", "other ways:"]
        lines += [f"  {_place(one)}  {one['verdict']}: {one['reason']}" for one in others]
    if answer["allow"]:
        lines += ["", "to allow it:", *(f"  {text}" for text in answer["allow"])]
    return "\n".join(lines) + "\n"


def _place(attempt: dict[str, Any]) -> str:
    address = attempt["address"]
    if not attempt["port"]:
        return str(address)
    return f"[{address}]:{attempt['port']}" if ":" in address else f"{address}:{attempt['port']}"
