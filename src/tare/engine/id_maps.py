"""The option ``idmap`` of mounts: who owns the files, as the container sees it. The grammar is Podman's."""

from __future__ import annotations

import re

from tare.errors import InvalidArgument
from tare.kernel.idmap import LAST_ID, IdMap

_RANGE = re.compile(r"(\d{1,10})-(\d{1,10})-(\d{1,10})", re.ASCII)
Maps = tuple[tuple[IdMap, ...], tuple[IdMap, ...]]


def parse_idmap(text: str) -> Maps | None:
    """Read ``uids=STORED-SEEN-COUNT[#…];gids=…`` as maps of users and groups; None for an empty text.

    The kind that is not named keeps its ids. Raises InvalidArgument.
    """
    if not text:
        return None
    maps: dict[str, tuple[IdMap, ...]] = {}
    for part in text.split(";"):
        kind, equals, ranges = part.partition("=")
        matches = [_RANGE.fullmatch(item) for item in ranges.split("#")]
        if kind not in ("uids", "gids") or not equals or kind in maps or None in matches:
            raise InvalidArgument(
                f"invalid idmap {text!r}: cannot read {part!r}",
                hint="write idmap=uids=STORED-SEEN-COUNT[#…];gids=STORED-SEEN-COUNT[#…]",
                code="invalid-idmap",
            )
        maps[kind] = tuple(IdMap(int(match[1]), int(match[2]), int(match[3])) for match in matches if match)
    for entry in (*maps.get("uids", ()), *maps.get("gids", ())):
        if not entry.count or max(entry.stored, entry.seen) + entry.count - 1 > LAST_ID:
            raise InvalidArgument(
                f"invalid idmap {text!r}: {entry.line()} leaves the range of ids", code="invalid-idmap"
            )
    unchanged = (IdMap(0, 0, LAST_ID + 1),)
    return maps.get("uids", unchanged), maps.get("gids", unchanged)


def exchange(stored: int, seen: int) -> tuple[IdMap, ...]:
    """The map in which ``stored`` is seen as ``seen``, that one as ``stored``, and all others as they are."""
    if stored == seen:
        return (IdMap(0, 0, LAST_ID + 1),)
    low, high = sorted((stored, seen))
    ranges = (
        IdMap(0, 0, low),
        IdMap(low, high, 1),
        IdMap(low + 1, low + 1, high - low - 1),
        IdMap(high, low, 1),
        IdMap(high + 1, high + 1, LAST_ID - high),
    )
    return tuple(entry for entry in ranges if entry.count)
