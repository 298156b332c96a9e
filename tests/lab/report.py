"""Print the tables of ``docs/isolation-lab.md``: Tare in the lab, beside the record of Docker.

As root: ``.venv/bin/python tests/lab/report.py``.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])]

from lab.differences import DIFFERENCES, rule_for  # noqa: E402
from lab.measuring import verdict  # noqa: E402
from lab.run import Found, run  # noqa: E402


def main() -> None:
    """Print."""
    found = run()
    print("\n".join([*kinds(found), "", *reasons(found)]))


def kinds(found: Found) -> list[str]:
    """A row for each kind of attempt."""
    lines = ["| kind | attempts | reachable | predicted | right | other than Docker |", "|---|---|---|---|---|---|"]
    different = Counter(attempt.kind for attempt, _, _ in found.different())
    total: Counter[str] = Counter()
    for kind in sorted({attempt.kind for attempt in found.attempts}):
        mine = [attempt for attempt in found.attempts if attempt.kind == kind]
        asked = [attempt for attempt in mine if attempt.key in found.predicted]
        row = {
            "attempts": len(mine),
            "reachable": sum(verdict(found.measured[attempt.key]) == "reachable" for attempt in mine),
            "predicted": len(asked),
            "right": sum(found.is_right(attempt) for attempt in asked),
            "different": different[kind],
        }
        total.update(row)
        lines.append(f"| {kind} | {' | '.join(map(str, row.values()))} |")
    return [*lines, f"| **all** | {' | '.join(map(str, total.values()))} |"]


def reasons(found: Found) -> list[str]:
    """A row for each kind of difference."""
    counted = Counter(rule.name for difference in found.different() for rule in rule_for(*difference))
    rows = [f"| {rule.name} | {counted[rule.name]} | {rule.reason} |" for rule in DIFFERENCES]
    return ["| difference | attempts | reason |", "|---|---|---|", *rows]


if __name__ == "__main__":
    main()
