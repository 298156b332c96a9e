"""Write the tables of ``docs/isolation-lab.md``: Tare in the lab, beside the record of Docker.

As root: ``make lab``; with ``--record`` Docker's outcomes are recorded first.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])]

from lab.differences import DIFFERENCES, rule_for  # noqa: E402
from lab.measuring import verdict  # noqa: E402
from lab.record import record  # noqa: E402
from lab.run import Found, run  # noqa: E402

PAGE = Path(__file__).parents[2] / "docs" / "isolation-lab.md"


def main() -> None:
    """Write, and print."""
    if "--record" in sys.argv[1:]:
        record()
    found, text = run(), PAGE.read_text()
    for first, *others in (kinds(found), reasons(found)):
        table = "\n".join([first, *others])
        text = re.sub(rf"^{re.escape(first)}\n(\|.*\n)*", lambda _, table=table: f"{table}\n", text, flags=re.MULTILINE)
        print(table, end="\n\n")
    PAGE.write_text(text)


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
