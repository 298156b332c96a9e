"""The build cache: results of steps under keys whose fields are kept.

A key is the sha256 of its fields' JSON. Records refer to a layer or a committed snapshot; the database deletes a record
together with what it refers to, so a record whose result is gone does not exist.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from tare.base.locks import SharedLock
from tare.base.shielding import finish
from tare.model import Digest
from tare.store.store import Store


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of a root file system: a layer (key: its diffID) or a committed snapshot."""

    kind: Literal["layer", "snapshot"]
    key: str


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a step made: its own ``part``, the whole ``chain`` (bottom first), bytes added and when it was made.

    ``hidden`` are bytes of files below that the step replaced or deleted. ``value`` holds the result of a step that is
    no file system: a content digest.
    """

    part: Part | None = None
    chain: tuple[Part, ...] = ()
    bytes: int = 0
    hidden: int = 0
    created: float = 0.0
    value: str = ""


@dataclass(frozen=True, slots=True)
class Key:
    """A cache key and the fields that it is made of."""

    digest: str
    fields: Mapping[str, Any]


def make_key(fields: Mapping[str, Any]) -> Key:
    """The key of ``fields`` (JSON values)."""
    data = msgspec.json.encode(fields, order="deterministic")
    return Key("sha256:" + hashlib.sha256(data).hexdigest(), fields)


_Session = dict[str, bool]  # keys that a build has seen, and whether their use is noted

_session: ContextVar[_Session | None] = ContextVar("build cache session", default=None)


class BuildCache:
    """Results in table ``build_cache``.

    ``pruning`` is shared by those that look up and held alone by who deletes records: what a lookup has found is in
    its build's session, and thereby safe, before anybody can delete it.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sessions: dict[int, _Session] = {}
        self.pruning = SharedLock()
        self.made = 0  # records put since the start

    @asynccontextmanager
    async def session(self) -> AsyncIterator[None]:
        """For the length of a build, keep the records that it finds and makes; note their use, also when it fails."""
        seen: _Session = {}
        self._sessions[id(seen)] = seen
        token = _session.set(seen)
        try:
            yield
        finally:
            _session.reset(token)
            try:
                rest = [key for key, noted in seen.items() if not noted]
                await finish(self.touch(rest), what="note the use of build results")
            finally:
                del self._sessions[id(seen)]

    def in_use(self) -> set[str]:
        """The keys that running builds have seen."""
        return {key for seen in self._sessions.values() for key in seen}

    async def find(self, key: Key) -> Result | None:
        """The result under ``key``; None when there is none or what it refers to is gone."""
        async with self.pruning.shared():
            result = await self._store.db.read(lambda db: self._find(db, key.digest))
            if result is not None and (seen := _session.get()) is not None:
                seen.setdefault(key.digest, False)
        return result

    def _find(self, db: sqlite3.Connection, key: str) -> Result | None:
        row = db.execute("SELECT result FROM build_cache WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        result = msgspec.json.decode(row[0], type=Result)
        part = result.part
        if part is None or part.kind != "layer":
            return result
        if not self._store.layers.path(Digest.parse(part.key)).exists():
            return None
        return result

    async def put(self, key: Key, result: Result, *, kind: Literal["definition", "content"] = "definition") -> None:
        """Store ``result`` under ``key``, replacing what was there."""
        row = (
            key.digest,
            kind,
            msgspec.json.encode(result).decode(),
            msgspec.json.encode(key.fields, order="deterministic").decode(),
        )
        if (seen := _session.get()) is not None:
            seen[key.digest] = True
        self.made += 1
        # not durable: a lost record is a cache miss, and the fsync would be felt in every step
        await self._store.db.write(lambda db: _put(db, row, result.part), durable=False)

    async def fields(self, kind: Literal["definition", "content"]) -> list[dict[str, Any]]:
        """What went into the keys of all records of one kind."""
        query = "SELECT fields FROM build_cache WHERE kind = ?"
        rows = await self._store.db.read(lambda db: db.execute(query, (kind,)).fetchall())
        return [msgspec.json.decode(row[0]) for row in rows]

    async def touch(self, keys: Iterable[str]) -> None:
        """Note that the records under these keys were used now."""
        rows = [(time.time(), key) for key in keys]
        if not rows:
            return

        def work(db: sqlite3.Connection) -> None:
            db.executemany("UPDATE build_cache SET last_used = ?, uses = uses + 1 WHERE key = ?", rows)

        await self._store.db.write(work, durable=False)
        if (seen := _session.get()) is not None:
            seen.update((key, True) for _, key in rows)


def _put(db: sqlite3.Connection, row: tuple[str, str, str, str], part: Part | None) -> None:
    snapshot = diff_id = None
    if part is not None and part.kind == "snapshot":
        found = db.execute("SELECT id FROM snapshots WHERE key = ?", (part.key,)).fetchone()
        if found is None:
            return
        snapshot = found[0]
    elif part is not None:
        diff_id = part.key
    now = time.time()
    db.execute(
        "INSERT OR REPLACE INTO build_cache (key, kind, result, fields, snapshot, diff_id, created, last_used)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (*row, snapshot, diff_id, now, now),
    )
