"""``network verify``: predictions of who reaches whom beside what real sockets find."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import click

from tare.cli.session import Session, pass_session
from tare.cli.tables import write
from tare.cli.template import to_json

Result = dict[str, Any]
_OPEN = ("reachable", "refused")
_GATEWAYS = "other gateways"
_COLOURS = {"yes": "32", "no": "2", "part": "33", "WRONG": "31;1"}


@click.command(short_help="Compare who should reach whom with what real sockets find.")
@click.argument("containers", nargs=-1)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", help="How to show it.")
@pass_session
def verify(session: Session, containers: tuple[str, ...], form: str) -> None:
    """Compare who should reach whom, as predicted from the rules, with what real sockets find.

    Sockets are opened inside every running container's network namespace (of CONTAINERS only, where some are named)
    and on the host: TCP, UDP and echo requests between each two, and a SYN to every published TCP port. The exit
    status is 1 when anything differs from what was predicted.
    """
    proof = session.run(lambda client: client.reachability.verify(containers))
    write(to_json(proof) + "\n" if form == "json" else describe(proof, colour=sys.stdout.isatty()))
    if not proof["agreed"]:
        sys.exit(1)


def describe(proof: dict[str, Any], *, colour: bool) -> str:
    """The matrix, the published ports, and every disagreement."""
    pairs = [one for one in proof["results"] if not one["published"]]
    ports = [one for one in proof["results"] if one["published"]]
    wrong = [one for one in proof["results"] if not one["agrees"]]
    parts = [_matrix(pairs, colour=colour)] if pairs else []
    if ports:
        parts.append(_ports(ports, colour=colour))
    if wrong:
        parts.append("".join(f"{_disagreement(one)}\n" for one in wrong))
    left_out = f", {proof['left_out']} left out" if proof["left_out"] else ""
    said = "as predicted" if not wrong else f"{len(wrong)} NOT as predicted"
    parts.append(f"{proof['attempts']} attempts in {proof['seconds']:.1f} s{left_out}: {said}\n")
    return "\n".join(parts)


def _matrix(results: Iterable[Result], *, colour: bool) -> str:
    """A row for each source, a column for each target; ``part``: some addresses or protocols only."""
    cells: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for one in results:
        cells[one["from"], _GATEWAYS if one["gateway"] == "other" else one["to"]].append(one)
    sources = sorted(dict.fromkeys(source for source, _ in cells), key=lambda name: (name == "host", name))
    order = [*sources, "host", _GATEWAYS]
    targets = sorted(dict.fromkeys(target for _, target in cells), key=order.index)
    lines = [["FROM \\ TO", *targets]]
    for source in sources:
        lines.append([source, *(_cell(cells.get((source, target), [])) for target in targets)])
    widths = [max(len(line[column]) for line in lines) + 2 for column in range(len(lines[0]))]
    text = "".join(_line(line, widths, colour=colour and number > 0) for number, line in enumerate(lines))
    return f"{text}\nyes: reached; no: not reached; part: by some of its addresses only; WRONG: not as predicted\n"


def _cell(results: list[Result]) -> str:
    if not results:
        return "."
    if not all(one["agrees"] for one in results):
        return "WRONG"
    reached = {one["observed"] in _OPEN for one in results}
    return "part" if len(reached) == 2 else "yes" if reached == {True} else "no"


def _line(cells: list[str], widths: list[int], *, colour: bool) -> str:
    padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
    if colour:
        padded = [f"\x1b[{_COLOURS[c]}m{p}\x1b[0m" if c in _COLOURS else p for c, p in zip(cells, padded, strict=True)]
    return "".join(padded).rstrip() + "\n"


def _ports(results: Iterable[Result], *, colour: bool) -> str:
    """Which sources reach a published port, in one line each."""
    ports: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for one in results:
        ports[f"{_host(one['address'])}:{one['port']}", one["to"]].append(one)
    lines = [["PUBLISHED", "CONTAINER", "REACHED BY", "NOT BY"]]
    for (place, target), some in ports.items():
        reached = [one["from"] for one in some if one["observed"] in _OPEN]
        others = [one["from"] for one in some if one["observed"] not in _OPEN]
        lines.append([place, target, ", ".join(reached) or "-", ", ".join(others) or "-"])
    widths = [max(len(line[column]) for line in lines) + 2 for column in range(4)]
    return "".join(_line(line, widths, colour=colour) for line in lines)


def _disagreement(one: Result) -> str:
    port = f" port {one['port']}" if one["port"] else ""
    rule = f" [{one['rule']}]" if one["rule"] else ""
    return (
        f"{one['from']} -> {one['to']} at {one['address']} ({one['protocol']}{port}): predicted {one['predicted']}"
        f" ({one['reason']}{rule}), observed {one['observed']}"
    )


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address
