"""Which records of the build cache shall go: limits, policies, and the choice that follows from them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tare.base.durations import parse_duration
from tare.build.cache_ledger import CACHE_MOUNT, GIT_SOURCE, LOCAL_SOURCE, CacheRecord, Entry, removal_order
from tare.errors import InvalidArgument

EASY_BYTES = 512 * 10**6
"""What is easily made again goes, once unused for long, when the cache is larger than this (as in BuildKit)."""

DEFAULT_PERCENT = 10
DEFAULT_MOST = 50 * 10**9  # bytes
DEFAULT_KEEP_RECENT = 48 * 3600.0  # seconds

_SPACE = re.compile(r"(\d+(?:\.\d+)?)\s?([kKmMgGtTpP]?)(?:i?[bB])?")
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """An amount of space: ``size`` in bytes, or ``percent`` of the disk, at most ``most`` bytes of it."""

    size: int = 0
    percent: float = 0.0
    most: int = 0

    @classmethod
    def parse(cls, text: str) -> DiskSpace:
        """``20GB``, ``512m``, a number of bytes, ``10%``; units are binary, as Docker reads them.

        Raises InvalidArgument.
        """
        if text.endswith("%") and re.fullmatch(r"\d+(\.\d+)?", text[:-1].strip()) and float(text[:-1]) <= 100:
            return cls(percent=float(text[:-1]))
        match = _SPACE.fullmatch(text.strip())
        if match is None:
            raise InvalidArgument(f"{text!r} is no amount of disk space", hint="such as 20GB or 10%")
        return cls(size=int(float(match[1]) * 1024 ** _POWERS[match[2].lower()]))

    def of(self, disk: int) -> int:
        """Bytes, on a disk of ``disk`` bytes."""
        share = int(disk * self.percent / 100)
        return self.size or (min(share, self.most) if self.most else share)


DEFAULT_LIMIT = DiskSpace(percent=DEFAULT_PERCENT, most=DEFAULT_MOST)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheLimits:
    """What the collection in the background keeps to; ``limit`` 0 bytes for no limit.

    ``keep_recent``: cache mounts and file hashes unused for as many seconds go first, when there is much of the cache.
    """

    limit: DiskSpace = DEFAULT_LIMIT
    keep_recent: float = DEFAULT_KEEP_RECENT

    @classmethod
    def parse(cls, limit: str, keep_recent: str) -> CacheLimits:
        """From the texts of the configuration, empty ones standing for the default. Raises InvalidArgument."""
        seconds = parse_duration(keep_recent) if keep_recent else DEFAULT_KEEP_RECENT
        if seconds is None:
            raise InvalidArgument(f"{keep_recent!r} is no duration", hint="such as 48h or 30m")
        return cls(limit=DiskSpace.parse(limit) if limit else DEFAULT_LIMIT, keep_recent=seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What one pass may delete, and when it has deleted enough.

    ``everything`` includes what images have as well. Records used after ``before`` (seconds since 1970) stay.
    ``keep`` is the size in bytes that the cache may have; None deletes all that the other conditions allow.
    """

    everything: bool = False
    before: float | None = None
    keep: int | None = None
    matches: Callable[[CacheRecord], bool] = lambda _: True

    def allows(self, record: CacheRecord) -> bool:
        """Whether the record may go."""
        if record.in_use or not (self.everything or record.dangling):
            return False
        if self.before is not None and record.last_used > self.before:
            return False
        return self.matches(record)


def keep_bytes(total: int, free: int, *, reserved: int = 0, max_used: int = 0, min_free: int = 0) -> int | None:
    """The size that a cache of ``total`` bytes may keep on a disk with ``free`` bytes; None where all may go.

    As BuildKit combines its three options (cache/manager.go): at most ``max_used``, less as far as ``min_free`` needs
    it, but never less than ``reserved``. All in bytes, 0 for not given.
    """
    if not (reserved or max_used or min_free):
        return None
    keep = max_used
    excess = min_free - free
    if excess > 0:
        keep = min(keep, total - excess) if keep else total - excess
    elif min_free and not keep:
        keep = total
    return max(keep, reserved) or None


def collection_policies(limits: CacheLimits, disk: int, now: float) -> list[Policy]:
    """The passes of the collection in the background, one after the other (BuildKit's default policies)."""
    limit = limits.limit.of(disk)
    easily_made = (CACHE_MOUNT, LOCAL_SOURCE, GIT_SOURCE)
    easy_keep = min(EASY_BYTES, limit) if limit else EASY_BYTES
    stale = Policy(before=now - limits.keep_recent, keep=easy_keep, matches=lambda record: record.type in easily_made)
    if not limit:
        return [stale]
    return [stale, Policy(keep=limit), Policy(keep=limit, everything=True)]


def choose(entries: Mapping[str, Entry], policy: Policy) -> list[str]:
    """The records that ``policy`` deletes, in this order."""
    total = private_size(entry.record for entry in entries.values())
    chosen = []
    for name in removal_order(entries, [name for name, entry in entries.items() if policy.allows(entry.record)]):
        if policy.keep is not None and total <= policy.keep:
            break
        record = entries[name].record
        total -= 0 if record.shared else record.size
        chosen.append(name)
    return chosen


def private_size(records: Iterable[CacheRecord]) -> int:
    """Bytes that only the cache needs."""
    return sum(record.size for record in records if not record.shared)
