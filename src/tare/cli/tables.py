"""Listings: tables aligned as Docker aligns them, templates, JSON."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from tare.cli.template import Template, to_json

_MIN_WIDTH = 10
_PADDING = 3

Row = Mapping[str, Any]


def align(lines: Sequence[Sequence[str]], *, min_width: int = _MIN_WIDTH) -> str:
    """Cells in columns (Go's tabwriter with Docker's settings); the last cell of a line is not padded."""
    columns = max((len(line) for line in lines), default=0)
    widths = [
        max([min_width, *(len(line[index]) + _PADDING for line in lines if index < len(line) - 1)])
        for index in range(columns)
    ]
    text = []
    for line in lines:
        padded = [cell.ljust(width) for cell, width in zip(line[:-1], widths, strict=False)]
        text.append("".join([*padded, *line[-1:]]))
    return "".join(f"{line}\n" for line in text)


def listing(rows: Sequence[Row], titles: Mapping[str, str], columns: Sequence[str], template: str = "") -> str:
    """``rows`` as ``--format`` asks: a table of ``columns``, a template for each row, or JSON lines.

    ``titles`` are the columns' headings by field name. Raises InvalidArgument for a template that cannot be done.
    """
    if template == "json":
        return "".join(to_json(dict(sorted(row.items()))) + "\n" for row in rows)
    if template in ("", "table"):
        return align([[titles[name] for name in columns], *([row[name] for name in columns] for row in rows)])
    if template.startswith("table "):
        parsed = Template(template.removeprefix("table ").lstrip())
        return align([parsed.header(titles).split("\t"), *(parsed.render(row).split("\t") for row in rows)])
    parsed = Template(template)
    return "".join(parsed.render(row) + "\n" for row in rows)


def write(text: str) -> None:
    """Write to standard output and flush."""
    sys.stdout.write(text)
    sys.stdout.flush()


def shorten(text: str, width: int) -> str:
    """At most ``width`` characters, the last one an ellipsis when something is left out."""
    return text if len(text) <= width else text[: width - 1] + "…"


def short_id(identifier: str) -> str:
    """The first twelve digits."""
    return identifier.removeprefix("sha256:")[:12]
