"""``image diff``: how one image differs from another."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click

from tare.cli.session import Session, pass_session
from tare.cli.tables import align, short_id, shorten
from tare.cli.units import human_size

_SIGNS = {"added": "+", "removed": "-", "changed": "~"}
_WIDTH = 60  # characters of a value


@click.command("diff", short_help="Show how an image differs from another: files, packages, configuration.")
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every row.")
@click.option("--top", type=click.IntRange(min=1), default=20, metavar="N", help="Rows of each listing (20).")
@pass_session
def image_diff(session: Session, before: str, after: str, *, as_json: bool, top: int) -> None:
    """Show what image B has, lacks, and has otherwise than image A: files, packages and configuration."""
    found = session.run(lambda client: client.images.diff(before, after))
    if as_json:
        print(json.dumps(found, indent=2))
        return
    print("\n".join(difference_lines(found, names=(before, after), top=top)))


def difference_lines(found: dict[str, Any], *, names: Sequence[str], top: int) -> list[str]:
    """The difference for people; ``top`` is how many rows of each listing are shown."""
    sides = [found["before"], found["after"]]
    rows = [
        [name, short_id(side["id"]), human_size(side["size"]), str(side["layers"]), human_size(side["only"])]
        for name, side in zip(names, sides, strict=True)
    ]
    lines = _aligned([["IMAGE", "IMAGE ID", "SIZE", "LAYERS", "ONLY HERE"], *rows])
    count = len(found["shared_layers"])
    lines.append(f"{human_size(found['shared'])} in {count} layer{'s' if count != 1 else ''} that both have")
    difference = found["difference"]
    if not any(difference[name] for name in ("files", "packages", "configuration")):
        return [*lines, "", "files, packages and configuration are the same"]
    totals = difference["totals"]
    cells = [
        [change, str(totals[change]["names"]), *(human_size(totals[change][side]) for side in ("before", "after"))]
        for change in _SIGNS
    ]
    lines += ["", *_aligned([["FILES", "NAMES", "BYTES IN A", "BYTES IN B"], *cells])]
    for title, key, row in (
        (["", "FILE", "IN A", "IN B", "CHANGED"], "files", _file_row),
        (["", "PACKAGE", "IN A", "IN B", "BYTES"], "packages", _package_row),
        (["", "CONFIGURATION", "IN A", "IN B"], "configuration", _field_row),
    ):
        listed = difference[key]
        if listed:
            lines += ["", *_aligned([title, *(row(one) for one in listed[:top])], min_width=2)]
        if len(listed) > top:
            lines.append(f"… and {len(listed) - top} more (--top, --json)")
    return lines


def _aligned(cells: list[list[str]], *, min_width: int = 6) -> list[str]:
    return [line.rstrip() for line in align(cells, min_width=min_width).splitlines()]


def _file_row(row: dict[str, Any]) -> list[str]:
    sizes = ["-" if row[side] is None else human_size(row[side]) for side in ("before", "after")]
    what = ", ".join(row["what"]) or ("" if row["kind"] == "file" else row["kind"])
    return [_SIGNS[row["change"]], row["path"], *sizes, what]


def _package_row(row: dict[str, Any]) -> list[str]:
    name = row["package"] if row["kind"] == "deb" else f"{row['package']} ({row['kind']})"
    versions = [", ".join(row[f"versions_{side}"]) or "-" for side in ("before", "after")]
    more = row["after"] - row["before"]
    return [
        _SIGNS[row["change"]],
        name,
        *versions,
        f"{'-' if more < 0 else '+'}{human_size(abs(more))}" if more else "0B",
    ]


def _field_row(row: dict[str, Any]) -> list[str]:
    name = f"{row['field']}.{row['key']}" if row["key"] else row["field"]
    return [_SIGNS[row["change"]], name, *(_value(row[side]) for side in ("before", "after"))]


def _value(value: object) -> str:
    if value is None:
        return "-"
    return shorten(value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False), _WIDTH)
