"""Images that clients are in the middle of fetching: kept for them, also when they are removed meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tare.errors import NotFound
from tare.model import Digest
from tare.store.images import Image
from tare.store.store import Store

HOLD_SECONDS = 300.0
"""How long after the last request an image stays: clients ask for layers one after the other."""


class _Hold:
    def __init__(self) -> None:
        self.repositories: set[str] = set()
        self.users = 0
        self.ready: asyncio.Future[Image] = asyncio.get_running_loop().create_future()
        self.over = asyncio.Event()
        self.timer: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None


class ImageHolds:
    """Holds an image's configuration and layers by a lease while somebody uses it, and ``seconds`` longer."""

    def __init__(self, store: Store, seconds: float = HOLD_SECONDS) -> None:
        self._store = store
        self._seconds = seconds
        self._holds: dict[Digest, _Hold] = {}

    def of(self, repository: str) -> list[Digest]:
        """The images that are held for a repository."""
        return [image for image, hold in self._holds.items() if repository in hold.repositories]

    @asynccontextmanager
    async def using(self, image: Digest, repository: str) -> AsyncIterator[Image]:
        """Keep ``image``, which clients know by ``repository``, for the time of the block and a while longer.

        Raises NotFound when it has gone.
        """
        hold = self._holds.get(image)
        if hold is None:
            hold = self._holds[image] = _Hold()
            hold.task = asyncio.ensure_future(self._keep(image, hold))
        hold.users += 1
        if hold.timer is not None:
            hold.timer.cancel()
            hold.timer = None
        try:
            found = await asyncio.shield(hold.ready)
            hold.repositories.add(repository)
            yield found
        finally:
            hold.users -= 1
            if not hold.users:
                hold.timer = asyncio.get_running_loop().call_later(self._seconds, hold.over.set)

    async def _keep(self, image: Digest, hold: _Hold) -> None:
        try:
            async with self._store.leases.hold() as lease:
                found = await self._store.images.get(image)
                await self._store.leases.add(lease, "blob", str(image))
                for diff_id in found.diff_ids:
                    await self._store.leases.add(lease, "layer", str(diff_id))
                await self._store.images.get(image)  # it was there when all of it was held
                hold.ready.set_result(found)
                while not hold.over.is_set() or hold.users:
                    hold.over.clear()
                    await hold.over.wait()
        except Exception as error:
            if hold.ready.done():
                raise
            hold.ready.set_exception(error)
            hold.ready.exception()  # retrieved: those who wait for it may have gone
            return
        finally:
            self._holds.pop(image, None)
            if hold.timer is not None:
                hold.timer.cancel()
        with contextlib.suppress(NotFound):
            await self._store.images.get(image)
            return
        await self._store.collect()  # it was removed meanwhile, and stayed for those who were fetching it

    async def close(self) -> None:
        """Let go of all images."""
        tasks = [hold.task for hold in self._holds.values() if hold.task is not None]
        for hold in list(self._holds.values()):
            hold.users = 0
            hold.over.set()
        await asyncio.gather(*tasks)
