"""Plans (``--plan``) and explanations (``--why``) as text."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

_VERDICTS = ("run", "cached", "depends")


def plan_text(lines: list[dict[str, Any]]) -> str:
    """What would run, by stage, each step with the reasons."""
    counts = {verdict: sum(line["verdict"] == verdict for line in lines) for verdict in _VERDICTS}
    head = f"plan: {counts['run']} to run, {counts['cached']} cached"
    if counts["depends"]:
        head += f", {counts['depends']} depending on output that is yet to come"
    rows = [head]
    stage = None
    for line in lines:
        if line["stage"] != stage:
            stage = line["stage"]
            rows.append(f"  {stage}")
        rows.append(f"    {line['verdict']:<8} {line['name']}")
        rows += _reasons(line["causes"], " " * 13)
    return "\n".join(rows)


def why_text(explained: Iterable[dict[str, Any]], names: dict[str, str]) -> str:
    """Why each step ran that did; empty where none did."""
    rows = []
    for event in explained:
        rows.append(f"  {names.get(event['id'], event['id'])}")
        rows += _reasons(event["causes"], " " * 6)
    return "\n".join(["why these steps ran", *rows]) if rows else "nothing ran: every step was cached"


def show_plan(lines: list[dict[str, Any]]) -> None:
    """Print a plan on standard output."""
    print(plan_text(lines), flush=True)


def show_why(explained: list[dict[str, Any]], names: dict[str, str]) -> None:
    """Print the reasons on standard error, where a build talks."""
    print(why_text(explained, names), file=sys.stderr, flush=True)


def _reasons(causes: Iterable[dict[str, Any]], indent: str) -> list[str]:
    return [indent + cause["text"] for cause in causes]
