"""The directories of ``RUN --mount=type=cache``: which there are, when they were used, how large they are.

Each is a directory ``<name>`` with its content in ``data`` and its id in ``id``, and a row in table ``cache_mounts``.
A directory that is being made or deleted has a name with a dot and a word: ``<name>.new-…``, ``<name>.gone-…``.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tare.base.locks import KeyedLocks
from tare.base.shielding import to_end
from tare.base.trees import remove_tree
from tare.model import new_id
from tare.store.database import Database
from tare.store.usage import disk_usage

CONTENT = "data"
ID = "id"
_MAKING, _DELETING = ".new-", ".gone-"


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheMount:
    """One directory: ``id`` is what Dockerfiles call it, ``size`` the bytes on disk; times are seconds since 1970."""

    name: str
    id: str
    created: float
    last_used: float
    uses: int
    size: int
    in_use: bool


class CacheMountStore:
    """The cache mounts of one engine, below ``root``."""

    def __init__(self, db: Database, root: Path, locks: KeyedLocks) -> None:
        self.root = root
        self._db = db
        self._locks = locks
        self._users: Counter[str] = Counter()
        self._sizes: dict[str, int] = {}  # as they were when nobody had used them since

    def content(self, name: str) -> Path:
        """Where the content lies."""
        return self.root / name / CONTENT

    def making(self, name: str) -> Path:
        """A fresh place to make the directory in, before it gets its name."""
        return self.root / f"{name}{_MAKING}{new_id()[:8]}"

    @contextmanager
    def using(self, name: str) -> Iterator[None]:
        """Keep the directory from being deleted for the length of the block."""
        self._users[name] += 1
        try:
            yield
        finally:
            self._users[name] -= 1
            if not self._users[name]:
                del self._users[name]
            self._sizes.pop(name, None)

    def used(self, name: str) -> bool:
        """Whether a step has it now."""
        return name in self._users

    async def note_use(self, name: str, mount_id: str) -> None:
        """Write down that a step uses it now."""
        now = time.time()

        def work(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT INTO cache_mounts VALUES (?, ?, ?, ?, 1)"
                " ON CONFLICT (name) DO UPDATE SET last_used = excluded.last_used, uses = uses + 1",
                (name, mount_id, now, now),
            )

        await self._db.write(work, durable=False)

    async def list(self) -> list[CacheMount]:
        """All of them with their sizes, which are measured anew where a step has used them since."""
        rows = await self._db.read(
            lambda db: db.execute("SELECT name, id, created, last_used, uses FROM cache_mounts").fetchall()
        )
        found = []
        for name, mount_id, created, last_used, uses in rows:
            found.append(
                CacheMount(
                    name=name,
                    id=mount_id,
                    created=created,
                    last_used=last_used,
                    uses=uses,
                    size=await self._size(name),
                    in_use=self.used(name),
                )
            )
        return found

    async def _size(self, name: str) -> int:
        known = self._sizes.get(name)
        if known is not None:
            return known
        size = await asyncio.to_thread(disk_usage, self.root / name)
        if not self.used(name):
            self._sizes[name] = size
        return size

    async def remove(self, name: str) -> bool:
        """Delete it unless a step uses it; returns whether it is gone."""
        async with self._locks.hold(f"make {name}"):
            if self.used(name):
                return False
            # a step that comes now waits for the lock and makes it anew
            await to_end(self._forget(name))
        return True

    async def _forget(self, name: str) -> None:
        await self._db.write(lambda db: db.execute("DELETE FROM cache_mounts WHERE name = ?", (name,)))
        self._sizes.pop(name, None)
        doomed = self.root / f"{name}{_DELETING}{new_id()[:8]}"
        await asyncio.to_thread(_delete, self.root / name, doomed)

    async def recover(self) -> None:
        """Delete what a killed engine left half-made or half-deleted; bring rows and directories in line."""
        names = await asyncio.to_thread(self._sweep)
        now = time.time()

        def work(db: sqlite3.Connection) -> None:
            known = {row[0] for row in db.execute("SELECT name FROM cache_mounts")}
            db.executemany("DELETE FROM cache_mounts WHERE name = ?", [(name,) for name in known - names.keys()])
            db.executemany(
                "INSERT INTO cache_mounts VALUES (?, ?, ?, ?, 1)",
                [(name, mount_id, now, now) for name, mount_id in names.items() if name not in known],
            )

        await self._db.write(work)

    def _sweep(self) -> dict[str, str]:
        """The ids of the whole directories by name; the others are deleted."""
        whole: dict[str, str] = {}
        for path in list(self.root.iterdir()) if self.root.is_dir() else []:
            broken = _MAKING in path.name or _DELETING in path.name or not (path / CONTENT).is_dir()
            if broken or not (path / ID).is_file():
                remove_tree(path)
            else:
                whole[path.name] = (path / ID).read_text()
        return whole


def _delete(directory: Path, doomed: Path) -> None:
    try:
        directory.rename(doomed)
    except FileNotFoundError:
        return
    remove_tree(doomed)
