"""The name that was probably meant."""

from __future__ import annotations

from collections.abc import Iterable

_LIMIT = 3  # changes that make another name of it
_LONGEST = 100  # characters; longer names are compared with nothing


def nearest(name: str, known: Iterable[str]) -> str:
    """The one of ``known`` that is fewer than three insertions, deletions or replacements away; empty if none is."""
    best, found = _LIMIT, ""
    for candidate in known:
        if len(name) > _LONGEST or abs(len(name) - len(candidate)) >= best:
            continue
        changes = _distance(name, candidate)
        if 0 < changes < best:
            best, found = changes, candidate
    return found


def _distance(one: str, other: str) -> int:
    """Levenshtein's distance."""
    above = list(range(len(other) + 1))
    for row, left in enumerate(one, start=1):
        current = [row]
        for column, right in enumerate(other, start=1):
            current.append(min(above[column] + 1, current[-1] + 1, above[column - 1] + (left != right)))
        above = current
    return above[-1]
