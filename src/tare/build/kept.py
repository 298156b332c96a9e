"""Failed steps that are kept: their file systems, and what is needed to enter them again.

A step is named by its cache key: ``step:`` and the key's first digits. The database's rows are the truth; they hold the
frozen upper directory and what the step's mounts show against garbage collection. How many there are is bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from tare.build.cache import Part
from tare.build.graph import RunMount, Script
from tare.errors import InvalidArgument, NotFound, TareError
from tare.model.execution import Limit
from tare.store.store import Store

PREFIX = "step:"
SHORT = 8  # digits of a key that a step is shown with
_DAY = 86400.0
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepPolicy:
    """What is kept of itself; builds that ask for it (``--debug``) keep their step in any case.

    ``count`` failed steps (0: none) for ``seconds``, and none while the disk has less free than ``free_share`` of it
    and less than ``free_bytes``: a step that failed because the disk is full must not keep it full.
    """

    count: int = 10
    seconds: float = 7 * _DAY
    free_share: float = 0.05
    free_bytes: int = 1 << 30


class KeptMount(msgspec.Struct, frozen=True, kw_only=True):
    """A mount of a kept step; ``chain`` is the file system that a bind, or a new cache's first content, comes from."""

    mount: RunMount
    chain: tuple[Part, ...] = ()


class KeptStep(msgspec.Struct, frozen=True, kw_only=True):
    """A step that can be entered; nothing secret is in it.

    ``key`` is the cache key's digest, ``parent`` the file system before the step, ``part`` what the step changed.
    ``place`` is the Dockerfile's name and the line, ``withheld`` what was mounted or set and is not kept (secrets,
    agents). ``created`` is in seconds since the epoch, sizes are in bytes. Only steps that ``failed`` have rows here.
    """

    key: str
    stage: str
    text: str
    place: str
    argv: tuple[str, ...]
    parent: tuple[Part, ...]
    part: Part
    exit_code: int
    created: float
    script: Script | None = None
    env: tuple[str, ...] = ()
    cwd: str = "/"
    user: str = ""
    network: str = "default"
    insecure: bool = False
    mounts: tuple[KeptMount, ...] = ()
    withheld: tuple[str, ...] = ()
    output: tuple[str, ...] = ()
    extra_hosts: tuple[str, ...] = ()
    shm_size: int = 64 << 20
    host_ca: bool = True
    limits: tuple[Limit, ...] = ()
    bytes: int = 0
    failed: bool = True

    @property
    def id(self) -> str:
        """The short identifier, without prefix."""
        return _digits(self.key)[:SHORT]

    @property
    def reference(self) -> str:
        """What a user types."""
        return PREFIX + self.id


def _digits(key: str) -> str:
    return key.rpartition(":")[2]


_decoder = msgspec.json.Decoder(KeptStep)


class KeptSteps:
    """The kept steps of one engine."""

    def __init__(self, store: Store, policy: KeepPolicy | None = None) -> None:
        self._store = store
        self.policy = policy or KeepPolicy()

    async def wanted(self) -> bool:
        """Whether a step that fails now is to be kept."""
        usage = await asyncio.to_thread(shutil.disk_usage, self._store.root)
        scarce = usage.free < min(usage.total * self.policy.free_share, self.policy.free_bytes)
        return self.policy.count > 0 and not scarce

    async def keep(self, step: KeptStep) -> None:
        """Keep a step whose snapshot is frozen; an earlier failure of the same step and what is too much goes.

        The caller's lease holds the snapshot and what the mounts show until this returns.
        """
        dropped = await self._store.db.write(lambda db: self._insert(db, step))
        await self._delete(dropped)

    def _insert(self, db: sqlite3.Connection, step: KeptStep) -> list[str]:
        name = _digits(step.key)
        dropped = _remove(db, [name])
        found = db.execute("SELECT id FROM snapshots WHERE key = ?", (step.part.key,)).fetchone()
        if found is None:
            raise NotFound(f"no such snapshot: {step.part.key}")
        row = (name, found[0], step.created, msgspec.json.encode(step).decode())
        db.execute("INSERT INTO kept_steps (id, snapshot, created, document) VALUES (?, ?, ?, ?)", row)
        parts = {part for mount in step.mounts for part in mount.chain}
        db.executemany("INSERT INTO kept_step_parts VALUES (?, ?, ?)", [(name, part.kind, part.key) for part in parts])
        return dropped + self._bound(db, spared=name)

    def _bound(self, db: sqlite3.Connection, spared: str = "") -> list[str]:
        rows = db.execute("SELECT id, created FROM kept_steps ORDER BY created DESC, rowid DESC").fetchall()
        oldest = time.time() - self.policy.seconds
        excess = [row[0] for place, row in enumerate(rows) if place >= self.policy.count or row[1] < oldest]
        return _remove(db, [name for name in excess if name != spared])

    async def expire(self) -> None:
        """Remove what is older or more than the policy allows."""
        await self._delete(await self._store.db.write(self._bound))

    async def list(self) -> list[KeptStep]:
        """All kept steps, newest first."""

        def load(db: sqlite3.Connection) -> list[KeptStep]:
            rows = db.execute("SELECT document FROM kept_steps ORDER BY created DESC, rowid DESC")
            return [_decoder.decode(row[0]) for row in rows]

        return await self._store.db.read(load)

    async def find(self, reference: str) -> KeptStep:
        """The step of ``step:<digits>`` (the prefix may be left out, the digits may be the first ones).

        Raises NotFound, and InvalidArgument for what is no identifier or fits several.
        """
        digits = parse_reference(reference)

        def load(db: sqlite3.Connection) -> list[str]:
            query = "SELECT document FROM kept_steps WHERE id >= ? AND id < ? LIMIT 2"
            return [row[0] for row in db.execute(query, (digits, digits + "g"))]

        found = await self._store.db.read(load)
        if not found:
            raise no_such_step(digits)
        if len(found) > 1:
            raise InvalidArgument(f"{PREFIX}{digits} fits several steps", hint="give more digits")
        return _decoder.decode(found[0])

    async def remove(self, reference: str) -> KeptStep:
        """Remove a step; a shell that is in it goes on. Raises as :meth:`find`."""
        step = await self.find(reference)
        await self._delete(await self._store.db.write(lambda db: _remove(db, [_digits(step.key)])))
        return step

    async def prune(self, *, older_than: float = 0.0) -> int:
        """Remove all steps that failed more than ``older_than`` seconds ago; returns the bytes that they took."""
        limit = time.time() - older_than
        steps = [step for step in await self.list() if step.created <= limit]
        await self._delete(await self._store.db.write(lambda db: _remove(db, [_digits(step.key) for step in steps])))
        return sum(step.bytes for step in steps)

    async def release(self, step: KeptStep) -> None:
        """A shell has left ``step``: delete its file system if the step was removed meanwhile."""
        query = "SELECT 1 FROM kept_steps k JOIN snapshots s ON s.id = k.snapshot WHERE s.key = ?"
        kept = await self._store.db.read(lambda db: db.execute(query, (step.part.key,)).fetchone())
        if step.failed and kept is None:
            await self._delete([step.part.key])

    async def _delete(self, snapshots: Sequence[str]) -> None:
        for key in snapshots:
            with contextlib.suppress(TareError):  # a shell stands on it: it goes with the shell
                await self._store.snapshots.remove(key)
        if snapshots:
            await self._store.collect()  # what their mounts showed


def no_such_step(digits: str) -> NotFound:
    """The error for a step that is neither kept nor known."""
    return NotFound(
        f"no such step: {PREFIX}{digits}",
        hint="tare debug --ls lists the failed steps that are kept",
        code="no-such-step",
    )


def parse_reference(reference: str) -> str:
    """The digits of ``[step:]<digits>``. Raises InvalidArgument."""
    digits = reference.removeprefix(PREFIX).lower()
    if not digits or not set(digits) <= _HEX:
        raise InvalidArgument(f"invalid step {reference!r}", hint="write step:<id> as a failed build shows it")
    return digits


def _remove(db: sqlite3.Connection, names: Sequence[str]) -> list[str]:
    """Delete rows; returns the keys of their snapshots."""
    dropped = []
    for name in names:
        row = db.execute(
            "SELECT s.key FROM kept_steps k JOIN snapshots s ON s.id = k.snapshot WHERE k.id = ?", (name,)
        ).fetchone()
        if row is not None:
            db.execute("DELETE FROM kept_steps WHERE id = ?", (name,))
            dropped.append(row[0])
    return dropped
