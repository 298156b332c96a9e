"""Draw an image's directories as a treemap: SVG, or a page of HTML with the listings beside it.

The layout is squarified (Bruls, Huizing, van Wijk: "Squarified Treemaps", 2000). Files need nothing from elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Any

from tare.cli.units import human_size

_WIDTH, _HEIGHT = 1200.0, 760.0
_HEADER = 16.0  # room for a directory's name above what is in it
_SMALLEST = 3.0  # a rectangle narrower than this many units is not divided
_LETTER = 6.6  # width of a letter of the labels
_OWN = "(files)"  # smaller files of a directory itself


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of the drawing."""

    x: float
    y: float
    width: float
    height: float


def squarify(sizes: list[int], box: Box) -> list[Box]:
    """A rectangle in ``box`` for each size, in proportion; ``sizes`` are positive and fall."""
    boxes: list[Box] = []
    total = float(sum(sizes))
    rest, index = box, 0
    while index < len(sizes):
        scale = rest.width * rest.height / total if total else 0.0
        side = min(rest.width, rest.height)
        count, best = 1, _worst(sizes[index : index + 1], side, scale)
        while index + count < len(sizes):
            ratio = _worst(sizes[index : index + count + 1], side, scale)
            if ratio > best:
                break
            count, best = count + 1, ratio
        row = sizes[index : index + count]
        placed, rest = _place(row, rest, scale)
        boxes += placed
        total -= sum(row)
        index += count
    return boxes


def _worst(row: list[int], side: float, scale: float) -> float:
    """The worst ratio of the sides of a row's rectangles."""
    area = sum(row) * scale
    if not area or not side:
        return float("inf")
    thickness = area / side
    lengths = [size * scale / thickness for size in (row[0], row[-1])]
    return max(max(length / thickness, thickness / length) if length else float("inf") for length in lengths)


def _place(row: list[int], box: Box, scale: float) -> tuple[list[Box], Box]:
    area, wide = sum(row) * scale, box.width >= box.height
    side = box.height if wide else box.width
    thickness = area / side if side else 0.0
    placed, offset = [], 0.0
    for size in row:
        length = size * scale / thickness if thickness else 0.0
        placed.append(
            Box(box.x, box.y + offset, thickness, length) if wide else Box(box.x + offset, box.y, length, thickness)
        )
        offset += length
    if wide:
        return placed, Box(box.x + thickness, box.y, max(0.0, box.width - thickness), box.height)
    return placed, Box(box.x, box.y + thickness, box.width, max(0.0, box.height - thickness))


def draw_svg(found: dict[str, Any]) -> str:
    """The treemap as an SVG document; every rectangle has its path and bytes as a title."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" width="{_WIDTH:g}"'
        f' height="{_HEIGHT:g}" font-family="sans-serif" font-size="11" role="img">',
        f"<title>{_text(_name(found))}: {human_size(found['shipped'])} in files</title>",
    ]
    parts += _draw(found["tree"])
    return "\n".join([*parts, "</svg>", ""])


def _draw(tree: dict[str, Any]) -> Iterator[str]:
    pending = [(tree, "", Box(0.0, 0.0, _WIDTH, _HEIGHT), 0)]
    while pending:
        node, parent, box, level = pending.pop()
        path = "/" if not level else f"{parent}/{node['name']}".replace("//", "/")
        if box.width < _SMALLEST or box.height < _SMALLEST:
            continue
        yield _rectangle(node, path, box, level)
        children = [child for child in node["children"] if child["bytes"]]
        own = node["bytes"] - sum(child["bytes"] for child in children)
        inner = Box(box.x + 1, box.y + _HEADER, box.width - 2, box.height - _HEADER - 1)
        if not children or inner.width < _SMALLEST or inner.height < _SMALLEST:
            continue
        if own:
            hidden = node["hidden"] - sum(child["hidden"] for child in children)
            children.append({"name": _OWN, "bytes": own, "hidden": hidden, "children": []})
        children.sort(key=lambda child: -child["bytes"])
        places = squarify([child["bytes"] for child in children], inner)
        pending += [(child, path, place, level + 1) for child, place in zip(children, places, strict=True)][::-1]


def _rectangle(node: dict[str, Any], path: str, box: Box, level: int) -> str:
    unseen = f", {human_size(node['hidden'])} of it unseen" if node["hidden"] else ""
    label = f"{node['name']} {human_size(node['bytes'])}"
    shown = label if len(label) * _LETTER < box.width - 6 else node["name"]
    text = ""
    if len(shown) * _LETTER < box.width - 6 and box.height >= _HEADER:
        text = f'<text x="{box.x + 4:.1f}" y="{box.y + 12:.1f}">{_text(shown)}</text>'
    return (
        f'<g><rect x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}"'
        f' fill="{_colour(path, level, node)}" stroke="#fff" stroke-width="0.8"/>'
        f"<title>{_text(path)}: {human_size(node['bytes'])}{unseen}</title>{text}</g>"
    )


def _colour(path: str, level: int, node: dict[str, Any]) -> str:
    """A hue for each directory of the first two levels, paler further down; red where most of it is unseen."""
    if node["bytes"] and node["hidden"] * 2 > node["bytes"]:
        return f"hsl(2 70% {min(86, 66 + 4 * level)}%)"
    if not level:
        return "hsl(0 0% 93%)"
    top = "/".join(path.split("/")[1:3])
    hue = 40 + int.from_bytes(hashlib.sha256(top.encode()).digest()[:2], "big") % 260
    return f"hsl({hue} 45% {min(90, 66 + 4 * level)}%)"


_STYLE = """body{font-family:sans-serif;margin:2em auto;max-width:1200px;color:#222}
svg{width:100%;height:auto}table{border-collapse:collapse;margin:1em 0}
td,th{padding:.2em .8em;text-align:left;border-bottom:1px solid #ddd}td.n{text-align:right;white-space:nowrap}
code{font-size:90%}"""


def draw_html(found: dict[str, Any]) -> str:
    """A page with the treemap, the layers, the packages and what could be saved; needs no other file."""
    name = _text(_name(found))
    by = found["by"]
    parts = [
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title>',
        f"<style>{_STYLE}</style></head><body><h1>{name}</h1>",
        f"<p>{human_size(found['size'])}: {human_size(found['shipped'])} in files, of which "
        f"{human_size(found['replaced'])} are written again and {human_size(found['deleted'])} deleted by later layers "
        "(red where most of a directory is).</p>",
        draw_svg(found),
    ]
    parts += _rows("What could be saved", [(one["bytes"], one["what"], one["fix"]) for one in found["suggestions"]])
    parts += _rows("Layers", [(row["bytes"], row["stage"] or "-", row["instruction"]) for row in by["layer"]])
    parts += _rows("Packages", [(row["bytes"], row["package"], row["version"]) for row in by["package"]])
    return "\n".join([*parts, "</body></html>", ""])


def _rows(title: str, rows: list[tuple[int, str, str]]) -> Iterator[str]:
    yield f"<h2>{title}</h2><table>"
    for size, first, second in rows:
        yield f'<tr><td class="n">{human_size(size)}</td><td>{_text(first)}</td>'
        yield f"<td><code>{_text(second)}</code></td></tr>"
    yield "</table>"


def _name(found: dict[str, Any]) -> str:
    return ", ".join(found["tags"]) or str(found["id"])


def _text(text: str) -> str:
    """``text`` as XML may have it: control characters, which it may not, as their escapes."""
    return escape("".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text))
