"""The weigh-in at the end of a build: what ships, what stays behind, what was written twice."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from tare.cli.units import human_size

_HEAVIEST = 5  # instructions that are listed
_WORTH_TELLING = 0.01  # share of the image below which an instruction is not listed
_WIDTH = 72  # characters of an instruction


@dataclass(slots=True)
class Weight:
    """Bytes of a stage."""

    shipped: int = 0
    left: int = 0
    twice: int = 0


def show_weighing(event: dict[str, Any], tags: list[str]) -> None:
    """The end of a build that went well, on standard error: the image, its stages, its heaviest instructions."""
    lines = [f"image {event['image_id']}", *(f"named {tag}" for tag in tags)]
    ledger = event.get("ledger") or []
    stages = weigh_stages(ledger)
    lines += _table(stages, Weight(event["shipped"], event["left_behind"], event.get("rewritten", 0)))
    lines += heaviest(ledger, event["shipped"])
    print("\n".join(lines), file=sys.stderr, flush=True)


def weigh_stages(ledger: list[dict[str, Any]]) -> dict[str, Weight]:
    """What each stage ships, leaves behind and writes twice, in the order of the Dockerfile."""
    stages: dict[str, Weight] = {}
    for line in ledger:
        weight = stages.setdefault(line["stage"], Weight())
        if line["shipped"]:
            weight.shipped += int(line["bytes"])
            weight.twice += int(line.get("rewritten", 0))
        else:
            weight.left += int(line["bytes"])
    return stages


def _table(stages: dict[str, Weight], total: Weight) -> list[str]:
    rows = [("", "shipped", "left behind", "written twice")]
    rows += [(name, *_cells(weight)) for name, weight in stages.items()]
    if len(stages) != 1:
        rows.append(("together", *_cells(total)))
    width = max(len(row[0]) for row in rows)
    return [f"  {name:<{width}}  {a:>9}  {b:>12}  {c:>14}".rstrip() for name, a, b, c in rows]


def _cells(weight: Weight) -> tuple[str, str, str]:
    return (human_size(weight.shipped), human_size(weight.left), human_size(weight.twice) if weight.twice else "-")


def heaviest(ledger: list[dict[str, Any]], shipped: int) -> list[str]:
    """The instructions that weigh most in the image, with their lines; and what of them is written twice."""
    wanted = [line for line in ledger if line["shipped"] and line["bytes"] > shipped * _WORTH_TELLING]
    wanted.sort(key=lambda line: -line["bytes"])
    twice = [line for line in ledger if line["shipped"] and line.get("rewritten", 0) > shipped * _WORTH_TELLING]
    lines = []
    if len(wanted) > 1:
        lines += ["heaviest", *(_line(line, line["bytes"], "") for line in wanted[:_HEAVIEST])]
    if twice:
        note = " of lower layers replaced or deleted"
        lines += ["written twice", *(_line(line, line["rewritten"], note) for line in twice[:_HEAVIEST])]
    return lines


def _line(line: dict[str, Any], size: int, note: str) -> str:
    text = line["text"] if len(line["text"]) <= _WIDTH else line["text"][: _WIDTH - 1] + "…"
    place = f"{line.get('file', '')}:{line.get('line', '')}"
    return f"  {human_size(size):>9}  {place}  {text}{note}"
