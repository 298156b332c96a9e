"""``network graph``: networks, containers, ports and reachability, drawn as text or SVG."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from tare.cli.exposure import place
from tare.cli.session import Session, pass_session
from tare.cli.tables import write
from tare.cli.template import to_json
from tare.errors import InvalidArgument

Graph = dict[str, Any]
_LINES = {"├─ ": "|- ", "└─ ": "`- ", "│  ": "|  ", "→": "->", "◄": "<-"}


@click.command(short_help="Draw networks, containers, ports and who reaches whom.")
@click.option("--format", "form", type=click.Choice(["text", "svg", "json"]), default="text", help="How to draw it.")
@click.option("-o", "--output", default="-", metavar="FILE", help="Where to write it; by default, standard output.")
@pass_session
def graph(session: Session, form: str, output: str) -> None:
    """Draw networks, running containers, their addresses and published ports, and who reaches whom."""
    document = session.run(lambda client: client.reachability.graph())
    if form == "json":
        text = to_json(document) + "\n"
    elif form == "svg":
        from tare.cli.network_drawing import draw

        text = draw(document)
    else:
        text = describe(document)
    if output == "-":
        write(text if _can_show(text) else plain(text))
        return
    try:
        Path(output).write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidArgument(f"cannot write {output}: {error.strerror}", hint="name another file: -o FILE") from error


def _can_show(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def plain(text: str) -> str:
    """The drawing in ASCII."""
    for fine, coarse in _LINES.items():
        text = text.replace(fine, coarse)
    return text.encode("ascii", "replace").decode()


def describe(document: Graph) -> str:
    """The drawing for a terminal: a tree of networks, and who reaches whom."""
    lines = ["host" + "".join(f"  {address}" for address in document["host"]["addresses"])]
    branches = [*map(_network_branch, _shown(document))]
    if document["host"]["containers"]:
        risk = "network host  ! not isolated from the host"
        branches.append([risk, *_leaves([[name] for name in document["host"]["containers"]])])
    lines += _leaves(branches)
    lines += ["", "reached from outside:"]
    ports = [one for node in document["nodes"] for one in node["exposures"]]
    ports += document["host"]["exposures"]
    for one in ports:
        mark = f"  ! {one['risk']}" if one["risk"] else ""
        scope = "  (this host only)" if one["scope"] == "host" else ""
        lines.append(f"  {place(one).replace('->', '→')}  {one['container']}{scope}{mark}")
    if not ports:
        lines.append("  nothing")
    lines += ["", "who reaches whom (ping):"]
    width = max((len(name) for name in document["reaches"]), default=0)
    for name, reached in document["reaches"].items():
        lines.append(f"  {name.ljust(width)} → {', '.join(reached) or 'nobody'}")
    if not document["complete"]:
        lines.append("  (of the first 200 only)")
    return "\n".join(lines) + "\n"


def _shown(document: Graph) -> Iterable[Graph]:
    """Networks with somebody on them, and those of the user's."""
    return [one for one in document["networks"] if one["members"] or one["driver"] not in ("host", "null")]


def _network_branch(network: Graph) -> list[str]:
    pools = "".join(f"  {pool['subnet']} (gateway {pool['gateway'] or 'none'})" for pool in network["pools"])
    facts = [network["driver"]] if network["driver"] not in ("bridge", "null") else []
    facts += ["internal"] if network["internal"] else []
    facts += ["its containers do not reach each other"] if not network["icc"] else []
    title = f"network {network['name']}{pools}" + (f"  [{', '.join(facts)}]" if facts else "")
    width = max((len(_label(one)) for one in network["members"]), default=0)
    return [title, *_leaves([[f"{_label(one).ljust(width)}  {_rest(one)}".rstrip()] for one in network["members"]])]


def _label(member: Graph) -> str:
    return " + ".join(member["names"])


def _rest(member: Graph) -> str:
    ports = ", ".join(place(one).replace("->", "→") + (" !" if one["risk"] else "") for one in member["exposures"])
    return " ".join(member["addresses"]) + (f"  ◄ {ports}" if ports else "")


def _leaves(branches: list[list[str]]) -> list[str]:
    """The branches of a tree, each its title and the lines below it."""
    lines = []
    for number, branch in enumerate(branches, 1):
        last = number == len(branches)
        lines.append(("└─ " if last else "├─ ") + branch[0])
        lines += [("   " if last else "│  ") + line for line in branch[1:]]
    return lines
