"""Checks of everything that the engine stores, beside what it does."""

from __future__ import annotations

import asyncio

from tare.errors import Conflict
from tare.store.fsck.findings import Observe, Options, Problem, Report
from tare.store.store import Store
from tare.volumes.snapshots import SnapshotStore


class Fsck:
    """Checks the store and the snapshots of volumes, one check at a time."""

    def __init__(self, store: Store, snapshots: SnapshotStore) -> None:
        self._store = store
        self._snapshots = snapshots
        self._one = asyncio.Lock()

    async def run(self, options: Options, observe: Observe) -> Report:
        """Look at everything; see :meth:`tare.store.fsck.check.StoreCheck.run`.

        Raises Conflict while another check runs, Exhausted when a repair finds no space.
        """
        if self._one.locked():
            raise Conflict(
                "another check of the store is running", hint="wait for its end, or end its client", code="fsck-running"
            )
        async with self._one:
            missing = [
                Problem(
                    code="volume-snapshot-missing",
                    kind="volume-snapshot",
                    object=f"{one.volume}:{one.name}",
                    cause=f"its directory {self._snapshots.content(one)} is missing",
                    fix=f"it is lost: delete it with `tare volume snapshot rm {one.volume} {one.name}`",
                )
                for one in await self._snapshots.without_content()
            ]
            return await self._store.check.run(options, observe, missing)
