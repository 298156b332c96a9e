"""The name that was probably meant."""

from __future__ import annotations

from collections.abc import Collection

_NEAR = 3  # changes that make another name of it
_LONGEST = 100  # characters of a name
_MOST = 500  # names to compare with
_TRIES = 100  # names that are looked for in one Dockerfile


class Suggestions:
    """Looks for names that were probably meant; for a bounded time, however large the Dockerfile is."""

    def __init__(self) -> None:
        self._left = _TRIES

    def nearest(self, name: str, known: Collection[str]) -> str:
        """The one of ``known`` that is fewer than three insertions, deletions or replacements away.

        The first in the alphabet of several; empty where none is near, or after too much looking.
        """
        best, found = _NEAR, ""
        if not self._left or len(name) > _LONGEST or len(known) > _MOST:
            return found
        self._left -= 1
        for candidate in sorted(known):
            if abs(len(name) - len(candidate)) < best:
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
