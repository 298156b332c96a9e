"""The graph of networks as SVG: a panel for each network with its containers, and below who reaches whom."""

from __future__ import annotations

from html import escape
from itertools import pairwise
from typing import Any

from tare.cli.exposure import place
from tare.cli.tables import shorten

Graph = dict[str, Any]

_PER_ROW, _CARD, _GAP, _MARGIN = 4, 210, 14, 20
_WIDTH = 2 * _MARGIN + _PER_ROW * (_CARD + _GAP) + _GAP
_LINE, _TITLE, _CELL = 16, 44, 18
_LONGEST = 30  # characters that fit into a card's line
_STYLE = """\
text { font: 12px ui-monospace, 'DejaVu Sans Mono', Menlo, monospace; fill: #1b1f24; }
.title { font-weight: bold; font-size: 14px; } .small { font-size: 11px; fill: #57606a; }
.network { fill: #f6f8fa; stroke: #8c959f; } .internal { stroke-dasharray: 6 4; }
.card { fill: #ffffff; stroke: #0969da; } .risk { fill: #cf222e; font-weight: bold; }
.risky { stroke: #cf222e; stroke-width: 2; } .same { fill: none; stroke: #8250df; stroke-dasharray: 3 3; }
.yes { fill: #2da44e; } .no { fill: #eaeef2; } .self { fill: #ffffff; }"""


class _Canvas:
    """Shapes, from top to bottom."""

    def __init__(self) -> None:
        self.shapes: list[str] = []
        self.bottom = _MARGIN

    def rect(self, x: float, y: float, width: float, height: float, kind: str, *, hint: str = "") -> None:
        body = f"><title>{escape(hint)}</title></rect>" if hint else "/>"
        self.shapes.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5" class="{kind}"{body}'
        )

    def text(self, x: float, y: float, words: str, kind: str = "", *, turned: bool = False) -> None:
        turn = f' transform="rotate(-60 {x:g} {y:g})"' if turned else ""
        self.shapes.append(f'<text x="{x:g}" y="{y:g}" class="{kind}"{turn}>{escape(words)}</text>')


def draw(document: Graph) -> str:
    """An SVG document."""
    canvas = _Canvas()
    canvas.text(_MARGIN, canvas.bottom + 12, "host  " + "  ".join(document["host"]["addresses"]), "title")
    canvas.bottom += 28
    places: dict[str, list[tuple[float, float]]] = {}
    if document["host"]["containers"]:
        _panel(canvas, _host_panel(document), places)
    for network in document["networks"]:
        if network["members"] or network["driver"] not in ("host", "null"):
            _panel(canvas, network, places)
    for points in places.values():
        for (x1, y1), (x2, y2) in pairwise(points):
            side = min(x1, x2) - 12  # around the cards between them
            curve = f"M {x1:g} {y1:g} C {side:g} {y1:g}, {side:g} {y2:g}, {x2:g} {y2:g}"
            canvas.shapes.append(f'<path d="{curve}" class="same"/>')
    width = max(_WIDTH, _matrix(canvas, document["reaches"]))
    height = canvas.bottom + _MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}"'
        f' viewBox="0 0 {width:g} {height:g}">\n<style>\n{_STYLE}\n</style>\n'
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n' + "\n".join(canvas.shapes) + "\n</svg>\n"
    )


def _host_panel(document: Graph) -> Graph:
    """The containers on the host's network, as a network."""
    exposures = document["host"]["exposures"]
    members = [
        {"names": [name], "addresses": [], "exposures": [one for one in exposures if one["container"] == name]}
        for name in document["host"]["containers"]
    ]
    return {"name": "host", "driver": "host", "pools": [], "internal": False, "icc": True, "members": members}


def _panel(canvas: _Canvas, network: Graph, places: dict[str, list[tuple[float, float]]]) -> None:
    members = network["members"]
    rows = [members[start : start + _PER_ROW] for start in range(0, len(members), _PER_ROW)]
    heights = [max(_card_height(one) for one in row) + _GAP for row in rows]
    top, left = canvas.bottom, _MARGIN
    kind = "network internal" if network["internal"] else "network"
    risky = " risky" if network["driver"] == "host" else ""
    canvas.rect(left, top, _WIDTH - 2 * _MARGIN, _TITLE + sum(heights) + 4, kind + risky)
    canvas.text(left + _GAP, top + 18, f"network {network['name']}", "title")
    canvas.text(left + _GAP, top + 34, _facts(network), "risk" if risky else "small")
    y = top + _TITLE
    for row, height in zip(rows, heights, strict=True):
        for column, member in enumerate(row):
            x = left + _GAP + column * (_CARD + _GAP)
            _card(canvas, member, x, y, risky=bool(risky))
            places.setdefault(member["names"][0], []).append((x, y + 12))
        y += height
    canvas.bottom = y + 4 + _GAP


def _facts(network: Graph) -> str:
    if network["driver"] == "host":
        return "! not isolated from the host"
    facts = [f"{pool['subnet']} gateway {pool['gateway'] or 'none'}" for pool in network["pools"]]
    facts += [network["driver"]] if network["driver"] not in ("bridge", "null") else []
    facts += ["internal"] if network["internal"] else []
    facts += ["its containers do not reach each other"] if not network["icc"] else []
    return ", ".join(facts)


def _card_height(member: Graph) -> int:
    return 12 + _LINE * (len(member["names"]) + len(member["addresses"]) + len(member["exposures"]))


def _card(canvas: _Canvas, member: Graph, x: float, y: float, *, risky: bool) -> None:
    exposed = risky or any(one["risk"] for one in member["exposures"])
    canvas.rect(x, y, _CARD, _card_height(member), "card risky" if exposed else "card")
    lines = [(name, "title") for name in member["names"]]
    lines += [(address, "small") for address in member["addresses"]]
    lines += [
        (("! " if one["risk"] else "") + place(one), "risk" if one["risk"] else "") for one in member["exposures"]
    ]
    for number, (words, kind) in enumerate(lines):
        canvas.text(x + 8, y + _LINE * (number + 1), shorten(words, _LONGEST), kind)


def _matrix(canvas: _Canvas, reaches: dict[str, list[str]]) -> float:
    """Who reaches whom; returns the width that it needs."""
    names = list(reaches)
    if not names:
        return 0
    longest = max(map(len, names))
    left, top = _MARGIN + 8 * longest + _GAP, canvas.bottom + 30 + 7 * longest
    canvas.text(_MARGIN, canvas.bottom + 14, "who reaches whom (row reaches column; ping)", "title")
    for column, name in enumerate(names):
        canvas.text(left + column * _CELL + 12, top - 6, name, turned=True)
    for row, source in enumerate(names):
        y = top + row * _CELL
        canvas.text(_MARGIN, y + 13, source)
        for column, target in enumerate(names):
            reached = target in reaches[source]
            kind = "self" if source == target else "yes" if reached else "no"
            hint = "" if source == target else f"{source} {'reaches' if reached else 'does not reach'} {target}"
            canvas.rect(left + column * _CELL + 1, y + 1, _CELL - 3, _CELL - 3, kind, hint=hint)
    canvas.bottom = top + len(names) * _CELL
    return left + len(names) * _CELL + 6 * longest + _MARGIN
