"""Names that were perhaps meant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

_MAX_LENGTH = 100
_MAX_CANDIDATES = 20_000


def nearest(wanted: str, candidates: Iterable[str], count: int = 3) -> list[str]:
    """Up to ``count`` of ``candidates`` that look like ``wanted``, the nearest first; deterministic.

    Near are: the same in other case, with a version (``python3``) or one or two letters at the end, or a few typing
    errors away (letters missing, added, exchanged or swapped).
    """
    if not wanted or len(wanted) > _MAX_LENGTH:
        return []
    allowed = 1 if len(wanted) <= 6 else 2 if len(wanted) <= 12 else 3
    scored: set[tuple[int, str]] = set()
    for number, name in enumerate(candidates):
        if number >= _MAX_CANDIDATES:
            break
        if name != wanted and (score := _score(wanted, name, allowed)) is not None:
            scored.add((score, name))
    return [name for _, name in sorted(scored)][:count]


def _score(wanted: str, name: str, allowed: int) -> int | None:
    """How far ``name`` is away; None when it is too far."""
    if name.lower() == wanted.lower():
        return 0
    if name.startswith(wanted) and not name[len(wanted) :].strip("0123456789.-"):
        return 0
    if abs(len(name) - len(wanted)) <= allowed:
        different = Counter(wanted)
        different.subtract(name)
        if sum(abs(number) for number in different.values()) <= 2 * allowed:
            distance = edit_distance(wanted, name)
            if distance <= allowed and distance < len(wanted):
                return distance
    if len(wanted) >= 3 and name.startswith(wanted) and len(name) - len(wanted) <= 2:
        return allowed + 1
    return None


def edit_distance(one: str, two: str) -> int:
    """The fewest letters to add, leave out, exchange or swap with a neighbour (optimal string alignment)."""
    before: list[int] = []
    last = list(range(len(two) + 1))
    for row, letter in enumerate(one, 1):
        current = [row]
        for column, other in enumerate(two, 1):
            cost = min(last[column] + 1, current[column - 1] + 1, last[column - 1] + (letter != other))
            if row > 1 and column > 1 and letter == two[column - 2] and one[row - 2] == other:
                cost = min(cost, before[column - 2] + 1)
            current.append(cost)
        before, last = last, current
    return last[-1]


def listed(names: Iterable[str], last: str = "or") -> str:
    """``a``, ``a or b``, ``a, b or c``."""
    words = list(names)
    return " ".join([", ".join(words[:-1]), last, words[-1]]) if len(words) > 1 else "".join(words)
