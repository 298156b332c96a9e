"""One run of a check: what it works on, what it tells, what it cannot heal."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import msgspec

from tare.base.locks import KeyedLocks
from tare.errors import Exhausted, TareError
from tare.store.content import ContentStore
from tare.store.database import Database
from tare.store.fsck.findings import Observe, Options, Problem, Progress, Report, State
from tare.store.fsck.reading import Seen
from tare.store.gc import Node
from tare.store.layers import LayerStore
from tare.store.leases import Leases
from tare.store.unpacked import UnpackedSnapshotter

T = TypeVar("T")

_TELLINGS = 200  # of progress in one check, at most
_TELLING = 1 << 20  # bytes between two of them, at least


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of a store that a check works on.

    ``locks`` are the objects' (``blob <digest>``, ``layer <diffID>``, ``snapshot <key>``), ``collecting`` is held while
    garbage is deleted, ``collect`` deletes it.
    """

    db: Database
    root: Path
    locks: KeyedLocks
    collecting: asyncio.Lock
    content: ContentStore
    layers: LayerStore
    snapshots: UnpackedSnapshotter
    leases: Leases
    collect: Callable[[], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Lost:
    """An object that could not be healed; whether anybody needs it is found out at the end.

    ``path`` and ``seen`` are the damaged file, where there is one.
    """

    node: Node
    problem: Problem
    path: Path | None = None
    seen: Seen | None = None


@dataclass(slots=True)
class Run:
    """A check under way."""

    parts: Parts
    options: Options
    observe: Observe
    total: int = 0
    done: int = 0
    checked: Counter[str] = field(default_factory=Counter)
    states: Counter[State] = field(default_factory=Counter)
    lost: list[Lost] = field(default_factory=list)
    corrected: set[str] = field(default_factory=set)
    """Layers that the database has another size of."""
    promised: set[tuple[str, object]] = field(default_factory=set)
    """Keys that a table lacks and that a repair will, or may, write anew: ``("layers", diffID)``."""
    _told: int = -1
    _began: float = field(default_factory=time.monotonic)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)

    async def read(self, query: str, *values: object) -> list[tuple[str, ...]]:
        """The rows of a query."""
        return await self.parts.db.read(lambda connection: connection.execute(query, values).fetchall())

    async def write(self, statement: str, *values: object) -> int:
        """Change rows; returns how many. Raises Exhausted."""
        return await self.change(lambda connection: connection.execute(statement, values).rowcount)

    async def change(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run a transaction that heals something. Raises Exhausted."""
        return await self.parts.db.write(work, freeing=True)

    def looking_at(self, what: str) -> None:
        """Tell what is looked at now, if enough has been read since it was told last."""
        if self._told < 0 or self.done - self._told >= max(self.total // _TELLINGS, _TELLING):
            self._told = self.done
            self.observe(Progress(done=self.done, total=self.total, what=what))

    def count_bytes(self, count: int, what: str) -> None:
        """Note that bytes were read; from any thread."""

        def note() -> None:
            self.done += count
            self.looking_at(what)

        self._loop.call_soon_threadsafe(note)

    def tell(self, problem: Problem) -> None:
        """Report a problem."""
        self.states[problem.state] += 1
        self.observe(problem)

    async def heal(self, problem: Problem, repair: Callable[[], Awaitable[object]]) -> None:
        """Report a problem that can be healed, after it has been when a repair was asked for.

        What keeps it from being healed is told with it. Raises Exhausted.
        """
        if not self.options.repair:
            self.tell(problem)
            return
        try:
            await repair()
        except Exhausted:
            raise
        except (TareError, OSError, sqlite3.IntegrityError) as error:
            self.leave(msgspec.structs.replace(problem, repair="", fix=f"the repair failed: {error}"))
        else:
            self.tell(msgspec.structs.replace(problem, state=State.REPAIRED))

    def leave(self, problem: Problem) -> None:
        """Report a problem that nothing can be done about here."""
        self.tell(msgspec.structs.replace(problem, state=State.LEFT))

    def is_lost(self, kind: str, name: str) -> bool:
        """Whether an object was found to be beyond healing."""
        return any(one.node == Node(kind, name) for one in self.lost)

    def report(self) -> Report:
        """What it came to."""
        return Report(
            checked=dict(self.checked),
            bytes=self.done,
            seconds=round(time.monotonic() - self._began, 3),
            found=self.states[State.FOUND],
            repaired=self.states[State.REPAIRED],
            left=self.states[State.LEFT],
            deep=self.options.deep,
            repair=self.options.repair,
        )
