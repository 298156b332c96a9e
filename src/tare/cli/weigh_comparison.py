"""Two images beside each other: ``weigh --compare``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tare.cli.tables import align
from tare.cli.units import human_size

_FIGURES = (
    ("size", "size"),
    ("compressed", "transfer size"),
    ("visible", "visible"),
    ("replaced", "written twice"),
    ("deleted", "deleted later"),
    ("duplicates", "duplicates"),
)
_COUNTS = (("layers", "layers"), ("files", "files"), ("directories", "directories"), ("packages", "packages"))
_NAMES = (("shells", "shells"), ("package_managers", "package managers"), ("setuid", "setuid/setgid files"))


def compare_weights(fat: dict[str, Any], lean: dict[str, Any]) -> dict[str, Any]:
    """Both weighings, and ``difference``: what the fat image has more, negative where it has less.

    Packages and directories are listed where their bytes or version differ, the largest difference first.
    """
    difference: dict[str, Any] = {key: fat[key] - lean[key] for key, _ in (*_FIGURES, *_COUNTS)}
    difference |= {key: sorted(set(fat[key]) - set(lean[key])) for key, _ in _NAMES}
    shared = {row["diff_id"]: row["size"] for row in fat["by"]["layer"]}
    both = {row["diff_id"] for row in lean["by"]["layer"]} & shared.keys()
    difference["shared"] = sum(shared[diff_id] for diff_id in both)
    difference["package"] = _packages(fat["by"]["package"], lean["by"]["package"])
    difference["directory"] = _rows(
        {row["path"]: row["bytes"] for row in fat["by"]["directory"]},
        {row["path"]: row["bytes"] for row in lean["by"]["directory"]},
        "path",
    )
    return {"fat": fat, "lean": lean, "difference": difference}


def _rows(fat: dict[str, int], lean: dict[str, int], key: str) -> list[dict[str, Any]]:
    rows = [
        {key: name, "fat": fat.get(name), "lean": lean.get(name), "bytes": fat.get(name, 0) - lean.get(name, 0)}
        for name in {**fat, **lean}
    ]
    found = [row for row in rows if row["bytes"] or row["fat"] is None or row["lean"] is None]
    return sorted(found, key=lambda row: (-abs(row["bytes"]), row[key]))


def _packages(fat: list[dict[str, Any]], lean: list[dict[str, Any]]) -> list[dict[str, Any]]:
    sides: list[dict[str, int]] = [{}, {}]
    versions: list[dict[str, list[str]]] = [{}, {}]
    for side, rows in enumerate((fat, lean)):
        for row in rows:
            name = f"{row['kind']}:{row['package']}" if row["kind"] not in ("", "deb") else row["package"]
            sides[side][name] = sides[side].get(name, 0) + row["bytes"]
            versions[side].setdefault(name, []).append(row["version"])
    found = _rows(sides[0], sides[1], "package")
    for row in found:
        row["versions"] = [", ".join(versions[side].get(row["package"], [])) for side in (0, 1)]
    return found


def comparison_lines(fat: dict[str, Any], lean: dict[str, Any], *, names: Sequence[str], top: int) -> list[str]:
    """The comparison for people."""
    difference = compare_weights(fat, lean)["difference"]
    table = [["", *names, "RATIO"]]
    for key, title in _FIGURES:
        table.append([title, human_size(fat[key]), human_size(lean[key]), _ratio(fat[key], lean[key])])
    for key, title in _COUNTS:
        table.append([title, str(fat[key]), str(lean[key]), _ratio(fat[key], lean[key])])
    for key, title in _NAMES:
        table.append([title, str(len(fat[key])), str(len(lean[key])), ""])
    lines = [line.rstrip() for line in align(table, min_width=6).splitlines()]
    lines += ["", f"{human_size(difference['shared'])} are in layers that both have"]
    for key, title in (("package", "PACKAGE"), ("directory", "DIRECTORY")):
        rows = difference[key]
        label = "path" if key == "directory" else "package"
        cells = [[row[label], _size(row["fat"]), _size(row["lean"]), _signed(row["bytes"])] for row in rows[:top]]
        lines += ["", *align([[title, *names, "DIFFERENCE"], *cells], min_width=6).splitlines()]
        if len(rows) > top:
            lines.append(f"… and {len(rows) - top} more (--top, --json)")
    return lines


def _ratio(fat: int, lean: int) -> str:
    return f"{fat / lean:.1f} : 1" if lean and fat else "-"


def _size(size: int | None) -> str:
    return "-" if size is None else human_size(size)


def _signed(size: int) -> str:
    return f"{'-' if size > 0 else '+'}{human_size(abs(size))}" if size else "0B"
