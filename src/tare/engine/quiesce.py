"""Let every running container that has a volume stand still for a moment, whatever happens in that moment."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from tare.base.locks import KeyedLocks
from tare.base.shielding import finish
from tare.engine.paths import EnginePaths
from tare.engine.records import ContainerRecords
from tare.kernel.cgroups import CgroupLayout
from tare.kernel.freezer import freeze, freezer_directory, is_frozen, thaw
from tare.model import ContainerStatus
from tare.model.container import Container
from tare.store.database import Database

logger = logging.getLogger(__name__)

FREEZE_SECONDS = 10.0


class Quiescer:
    """Freezes the control groups of a volume's users; holds their locks, so that none starts or ends meanwhile.

    What is frozen is written down first: an engine that is killed leaves containers frozen, the next one thaws them.
    """

    def __init__(
        self, db: Database, records: ContainerRecords, locks: KeyedLocks, layout: CgroupLayout, paths: EnginePaths
    ) -> None:
        self._db = db
        self._records = records
        self._locks = locks
        self._layout = layout
        self._paths = paths
        self._alone = asyncio.Lock()  # two of these that share containers could wait for each other

    async def recover(self) -> None:
        """Thaw what an earlier engine has left frozen."""

        def query(connection: sqlite3.Connection) -> list[Path]:
            return [Path(row[0]) for row in connection.execute("SELECT directory FROM frozen_cgroups")]

        if directories := await self._db.read(query):
            logger.warning("thawing %d containers that an engine left frozen when it was killed", len(directories))
            await asyncio.to_thread(_thaw_all, directories)
            await self._forget(directories)

    async def users(self, volume: str) -> list[Container]:
        """The containers that have the volume, in whatever state."""

        def query(connection: sqlite3.Connection) -> set[str]:
            rows = connection.execute("SELECT DISTINCT container FROM container_volumes WHERE volume = ?", (volume,))
            return {row[0] for row in rows}

        wanted = await self._db.read(query)
        return [container for container in await self._records.list() if container.id in wanted] if wanted else []

    async def still(self, volume: str, work: Callable[[], Awaitable[None]]) -> float:
        """Run ``work`` while every running container that has ``volume`` is frozen; answers for how many seconds.

        It runs again when a container with the volume was started meanwhile. Containers that are paused stay so. Raises
        Unavailable when a process cannot be frozen, Unsupported on a host without freezer, and what ``work`` raises.
        """
        total = 0.0
        async with self._alone, AsyncExitStack() as stack:
            held: set[str] = set()
            while True:
                users = await self._hold_users(volume, held, stack)
                directories = await asyncio.to_thread(self._freezable, [one for one in users if _is_live(one)])
                await self._note(directories)
                begin = time.monotonic()
                try:
                    await asyncio.to_thread(_freeze_all, directories)
                    await work()
                    changed = not {one.id for one in await self.users(volume)} <= held
                finally:
                    await finish(asyncio.to_thread(_thaw_all, directories), what=f"thaw the users of volume {volume}")
                    total += time.monotonic() - begin if directories else 0.0
                    await finish(self._forget(directories), what=f"records of frozen users of volume {volume}")
                if not changed:
                    return total

    async def held(self, volume: str, work: Callable[[frozenset[str]], Awaitable[None]]) -> None:
        """Run ``work`` with the locks of all containers that have ``volume``; it gets their identifiers."""
        async with self._alone, AsyncExitStack() as stack:
            held: set[str] = set()
            await self._hold_users(volume, held, stack)
            await work(frozenset(held))

    async def _hold_users(self, volume: str, held: set[str], stack: AsyncExitStack) -> list[Container]:
        """Take the locks of all users, also of those that come while it waits; answers what they are now."""
        while missing := sorted({one.id for one in await self.users(volume)} - held):
            for container_id in missing:
                await stack.enter_async_context(self._locks.hold(container_id))
            held.update(missing)
        return await self.users(volume)

    def _freezable(self, containers: Sequence[Container]) -> list[Path]:
        found = []
        for container in containers:
            parent = container.host_config.cgroup_parent or self._paths.cgroup_parent
            directory = freezer_directory(self._layout, f"{parent}/{container.id}")
            if directory is not None and not is_frozen(directory):
                found.append(directory)
        return found

    async def _note(self, directories: Sequence[Path]) -> None:
        rows = [(str(directory), time.time()) for directory in directories]

        def note(connection: sqlite3.Connection) -> None:
            connection.executemany("INSERT OR REPLACE INTO frozen_cgroups VALUES (?, ?)", rows)

        if rows:
            await self._db.write(note, durable=False)  # nothing is frozen after a power failure

    async def _forget(self, directories: Sequence[Path]) -> None:
        names = [(str(directory),) for directory in directories]

        def forget(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM frozen_cgroups WHERE directory = ?", names)

        if names:
            await self._db.write(forget, durable=False)


def _is_live(container: Container) -> bool:
    return ContainerStatus(container.state.status).is_live


def _freeze_all(directories: Sequence[Path]) -> None:
    for directory in directories:
        freeze(directory, seconds=FREEZE_SECONDS)


def _thaw_all(directories: Sequence[Path]) -> None:
    for directory in directories:
        thaw(directory)
