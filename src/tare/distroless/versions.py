"""Order of Debian versions (deb-version(7), Debian Policy 5.6.12)."""

from __future__ import annotations

import functools
import re

_DIGITS = re.compile(r"(\d+)")
_END = (0,)  # orders after a tilde and before any other character


@functools.lru_cache(maxsize=4096)
def version_key(version: str) -> tuple[object, ...]:
    """A key that sorts as dpkg compares: epoch, upstream version, Debian revision."""
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, dash, revision = rest.rpartition("-")
    if not dash:
        upstream, revision = rest, "0"
    return (int(epoch) if epoch.isdigit() else 0, _part_key(upstream), _part_key(revision))


def _part_key(text: str) -> tuple[object, ...]:
    pieces = _DIGITS.split(text)  # non-digits, digits, non-digits, …
    key: list[object] = []
    for index, piece in enumerate(pieces):
        key.append(int(piece) if index % 2 else tuple(_order(character) for character in piece) + _END)
    if len(key) % 2:
        key.append(0)
    while key[-2:] == [_END, 0]:  # an absent number is 0, so that these compare as nothing
        del key[-2:]
    return (*key, _END, 0, _END, 0)  # two pairs: "0" itself is one, and "0~" orders before it


def _order(character: str) -> int:
    if character == "~":
        return -1
    return ord(character) if character.isalpha() else ord(character) + 256


def compare(left: str, right: str) -> int:
    """Negative, zero or positive as ``left`` is older than, equal to or newer than ``right``."""
    a, b = version_key(left), version_key(right)
    return (a > b) - (a < b)


def satisfies(version: str, operator: str, wanted: str) -> bool:
    """Whether ``version`` stands in the relation (``<<``, ``<=``, ``=``, ``>=``, ``>>``) to ``wanted``."""
    order = compare(version, wanted)
    match operator:
        case "<<":
            return order < 0
        case "<=" | "<":
            return order <= 0
        case "=":
            return order == 0
        case ">=" | ">":
            return order >= 0
        case ">>":
            return order > 0
        case _:
            return False
