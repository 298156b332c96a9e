"""The build cache service: what is in it, pruning on demand, collection in the background."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from tare.base.durations import parse_duration
from tare.build.cache_gc import CacheKeeper, Pruned
from tare.build.cache_ledger import CacheRecord
from tare.build.cache_policy import CacheLimits, Policy, keep_bytes, private_size
from tare.engine.events import Events
from tare.engine.requests import Filters
from tare.errors import InvalidArgument

logger = logging.getLogger(__name__)

_Matcher = Callable[[CacheRecord], bool]

_TEXTS: dict[str, Callable[[CacheRecord], str]] = {
    "id": lambda record: record.id,
    "type": lambda record: record.type,
    "description": lambda record: record.description,
}
_FLAGS: dict[str, _Matcher] = {
    "inuse": lambda record: record.in_use,
    "shared": lambda record: record.shared,
    "private": lambda record: not record.shared,
    "mutable": lambda record: record.mutable,
    "immutable": lambda record: not record.mutable,
}
_AGES = ("until", "unused-for")
_IGNORED = ("label", "label!")  # `system prune --filter label=…` sends them here, too; records have no labels


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneCache:
    """What to delete; sizes in bytes, 0 for not given (see ``build.cache_policy.keep_bytes``)."""

    everything: bool = False
    reserved: int = 0
    max_used: int = 0
    min_free: int = 0
    filters: Filters = field(default_factory=dict)


class BuildCacheService:
    """Lists and prunes the build cache."""

    def __init__(self, keeper: CacheKeeper, events: Events, limits: CacheLimits) -> None:
        self._keeper = keeper
        self._events = events
        self._limits = limits
        self._collection: asyncio.Task[None] | None = None
        self._again = False
        self._cut_short = False
        self._closing = False

    async def list(self, filters: Filters | None = None) -> list[CacheRecord]:
        """The records that fit, those used last coming last. Raises InvalidArgument for a filter."""
        chosen = filters or {}
        matches, before = read_filters(chosen, time.time())
        records = await self._keeper.records()
        return [record for record in records if matches(record) and (before is None or record.last_used <= before)]

    async def prune(self, request: PruneCache) -> Pruned:
        """Delete what nothing uses, without ``everything`` only what no image has. Raises InvalidArgument."""
        matches, before = read_filters(request.filters, time.time())
        keep = None
        if request.reserved or request.max_used or request.min_free:
            _, free = await self._keeper.disk()
            keep = keep_bytes(
                private_size(await self._keeper.records()),
                free,
                reserved=request.reserved,
                max_used=request.max_used,
                min_free=request.min_free,
            )
        policy = Policy(everything=request.everything, before=before, keep=keep, matches=matches)
        pruned = await self._keeper.prune(policy)
        self._tell(pruned)
        return pruned

    def collect_soon(self, *, cut_short: bool = False) -> None:
        """Bring the cache within its limits, in the background; call it whenever it may have grown.

        ``cut_short``: a build has ended before its time.
        """
        if self._closing:
            return
        self._cut_short |= cut_short
        if self._collection is not None:
            self._again = True
            return
        self._collection = asyncio.ensure_future(self._collect())

    async def _collect(self) -> None:
        try:
            while True:
                self._again = False
                cut_short, self._cut_short = self._cut_short, False
                pruned = await self._keeper.collect(self._limits, cut_short=cut_short)
                if pruned.ids:
                    logger.info("build cache: deleted %d records, %d bytes", len(pruned.ids), pruned.size)
                    self._tell(pruned)
                if not self._again:
                    return
        except Exception:
            logger.exception("the build cache could not be collected")
        finally:
            self._collection = None

    async def close(self) -> None:
        """End the collection; what it has not deleted yet goes with the next one."""
        self._closing = True
        if self._collection is not None:
            self._collection.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._collection

    def _tell(self, pruned: Pruned) -> None:
        self._events.publish("builder", "prune", "", {"reclaimed": str(pruned.size)})


def read_filters(filters: Filters, now: float) -> tuple[_Matcher, float | None]:
    """What a record must be, and the time after which it must not have been used, from the API's filters.

    ``id`` matches as a regular expression, others as a whole; ``name~`` and ``name!`` match and exclude (BuildKit's
    ``~=`` and ``!=``). Raises InvalidArgument.
    """
    tests: list[_Matcher] = []
    before: float | None = None
    for name, values in filters.items():
        if name in _IGNORED:
            continue
        if len(values) > 1:
            raise InvalidArgument(f"filter {name!r} expects only one value")
        value = values[0] if values else ""
        if name in _AGES:
            if before is not None:
                raise InvalidArgument('conflicting filters: "until" and "unused-for"')
            before = _moment(name, value, now)
        else:
            tests.append(_test(name, value))
    return lambda record: all(test(record) for test in tests), before


def _test(name: str, value: str) -> _Matcher:
    plain = name.rstrip("~!")
    if plain in _FLAGS and name == plain:
        wanted = value.lower() not in ("false", "0")
        flag = _FLAGS[plain]
        return lambda record: flag(record) is wanted
    if plain == "parent" and name == plain:
        return lambda record: value in record.parents
    if plain not in _TEXTS or name[len(plain) :] not in ("", "~", "!"):
        raise InvalidArgument(f"invalid filter '{name}'")
    text = _TEXTS[plain]
    if name.endswith("!"):
        return lambda record: text(record) != value
    if name.endswith("~") or plain == "id":
        try:
            pattern = re.compile(value)
        except re.error as error:
            raise InvalidArgument(f"filter {name!r}: {value!r} is no regular expression: {error}") from error
        return lambda record: pattern.search(text(record)) is not None
    return lambda record: text(record) == value


def _moment(name: str, value: str, now: float) -> float:
    """A duration before now, seconds since 1970, or RFC 3339."""
    if (seconds := parse_duration(value)) is not None:
        return now - seconds
    try:
        return float(value)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(value).timestamp()
    except ValueError as error:
        raise InvalidArgument(
            f"filter {name!r} expects a duration or a time, not {value!r}", hint="such as 24h or 2026-05-30T12:00:00Z"
        ) from error
