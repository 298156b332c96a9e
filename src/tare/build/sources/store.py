"""Fetched sources, kept on disk for the next build: trees and files by key, the least recently used ones go first.

An entry is a directory ``<digest of the key>/`` with ``content`` and ``facts.json``, complete before it gets its name.
Entries are not synced: those from before the machine's last start are not trusted but thrown away. What was remembered
without content (``facts/``) is, and stays.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tare.base.atomic import write_atomic
from tare.base.locks import KeyedLocks
from tare.base.shielding import finish, to_end
from tare.model import new_id
from tare.store.usage import disk_usage

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NEW, _OLD = ".new-", ".old-"
_REMEMBERED = 5000  # facts without content, the newest
_CONTENT, _FACTS, _SIZE = "content", "facts.json", "size"

Facts = Mapping[str, str]
Make = Callable[[Path], Awaitable[Facts]]
"""``make(directory)`` puts ``content`` into the directory and returns what is to be remembered about it."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An entry: where its content is, a file or a tree, and what is known about it."""

    content: Path
    facts: Facts


class SourceStore:
    """The entries below ``directory``; ``limit`` is how many bytes are kept."""

    def __init__(self, directory: Path, limit: int) -> None:
        self._top = directory
        self._remembered = directory / "facts"
        self._directory = directory / _BOOT.read_text().strip()[:8]
        self._limit = limit
        self._locks = KeyedLocks()
        self._held: dict[str, int] = {}

    async def recover(self) -> None:
        """Delete what is of an earlier start of the machine, or half made; call before the first build."""
        await asyncio.to_thread(self._recover)

    def _recover(self) -> None:
        for place in self._top.iterdir() if self._top.is_dir() else ():
            if place not in (self._directory, self._remembered):
                shutil.rmtree(place, ignore_errors=True)
        for place in self._directory.iterdir() if self._directory.is_dir() else ():
            if place.name.startswith((_NEW, _OLD)):
                shutil.rmtree(place, ignore_errors=True)

    @asynccontextmanager
    async def get(self, key: str, make: Make) -> AsyncIterator[Stored]:
        """The entry, made if it is not there; it stays for the length of the block. Raises what ``make`` raises."""
        name = _name(key)
        self._held[name] = self._held.get(name, 0) + 1
        try:
            async with self._locks.hold(name):
                stored = await asyncio.to_thread(self._read, name)
                if stored is None:
                    stored = await self._make(name, make)
            yield stored
        finally:
            self._held[name] -= 1
            if not self._held[name]:
                del self._held[name]

    @asynccontextmanager
    async def scratch(self) -> AsyncIterator[Path]:
        """A directory beside the entries, for what has no key yet; it is deleted afterwards."""
        place = self._directory / f"{_NEW}{new_id()[:16]}"
        await asyncio.to_thread(place.mkdir, parents=True, mode=0o700)
        try:
            yield place
        finally:
            await finish(asyncio.to_thread(shutil.rmtree, place, ignore_errors=True), what=f"delete {place}")

    async def remember(self, key: str, facts: Facts) -> None:
        """Keep facts without content."""
        await asyncio.to_thread(self._remember, _name(key), facts)

    def _remember(self, name: str, facts: Facts) -> None:
        self._remembered.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomic(self._remembered / name, msgspec.json.encode(dict(facts)), mode=0o600)
        known = list(self._remembered.iterdir())
        if len(known) > _REMEMBERED:
            for place in sorted(known, key=_modified)[:-_REMEMBERED]:
                place.unlink(missing_ok=True)

    async def recall(self, key: str) -> Facts | None:
        """What was remembered under ``key``."""
        return await asyncio.to_thread(_facts, self._remembered / _name(key))

    async def size(self) -> int:
        """Bytes of all entries."""
        return sum(size for _, _, size in await asyncio.to_thread(self._entries))

    async def last_used(self) -> float:
        """When an entry was used last, in seconds since 1970; 0 without entries."""
        return max((used for used, _, _ in await asyncio.to_thread(self._entries)), default=0.0)

    async def trim(self, limit: int | None = None) -> int:
        """Delete entries that nobody uses, least recently used first, until ``limit`` bytes are left; returns bytes."""
        entries = await asyncio.to_thread(self._entries)
        total, freed = sum(size for _, _, size in entries), 0
        for _, name, size in sorted(entries):
            if total - freed <= (self._limit if limit is None else limit):
                break
            if name in self._held:
                continue  # its lock may be held by who waits for ours
            async with self._locks.hold(name):
                if name not in self._held:
                    await to_end(asyncio.to_thread(self._drop, name))
                    freed += size
        return freed

    async def _make(self, name: str, make: Make) -> Stored:
        async with self.scratch() as place:
            facts = await make(place)
            stored = await to_end(asyncio.to_thread(self._keep, name, place, dict(facts)))
        await self.trim()
        return stored

    def _keep(self, name: str, place: Path, facts: dict[str, str]) -> Stored:
        facts[_SIZE] = str(disk_usage(place))
        (place / _FACTS).write_bytes(msgspec.json.encode(facts))
        place.rename(self._directory / name)
        return Stored(self._directory / name / _CONTENT, facts)

    def _read(self, name: str) -> Stored | None:
        facts = _facts(self._directory / name / _FACTS)
        if facts is None:
            return None
        os.utime(self._directory / name)
        return Stored(self._directory / name / _CONTENT, facts)

    def _entries(self) -> list[tuple[float, str, int]]:
        """When used last, name, size."""
        found = []
        for place in self._directory.iterdir() if self._directory.is_dir() else ():
            facts = None if place.name.startswith(".") else _facts(place / _FACTS)
            if facts is not None:
                found.append((place.stat().st_mtime, place.name, int(facts.get(_SIZE, "0"))))
        return found

    def _drop(self, name: str) -> None:
        doomed = self._directory / f"{_OLD}{new_id()[:16]}"
        (self._directory / name).rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def _modified(place: Path) -> int:
    """When, in nanoseconds; 0 for what another thread has renamed or deleted meanwhile."""
    try:
        return place.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _name(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:40]


def _facts(file: Path) -> Facts | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, str])
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return None
