"""Remove containers: first from the database, then from the disk."""

from __future__ import annotations

import asyncio
import logging

from tare.engine.events import Events
from tare.engine.paths import EnginePaths
from tare.engine.records import ContainerRecords
from tare.engine.sandbox import remove_tree
from tare.errors import TareError
from tare.model.container import Container
from tare.store.store import Store
from tare.volumes.catalogue import VolumeCatalogue

logger = logging.getLogger(__name__)


class Remover:
    """Removes containers that do not run; the caller holds the container's lock."""

    def __init__(
        self, *, records: ContainerRecords, store: Store, volumes: VolumeCatalogue, events: Events, paths: EnginePaths
    ) -> None:
        self._records = records
        self._store = store
        self._volumes = volumes
        self._events = events
        self._paths = paths

    async def remove_locked(self, container: Container, *, volumes: bool) -> None:
        """Remove ``container``; with ``volumes`` also the anonymous volumes that only it used."""
        await self.forget(container, volumes=volumes)
        await self.delete_files(container.id)

    async def forget(self, container: Container, *, volumes: bool) -> None:
        """The first half: from now on the container does not exist. :meth:`delete_files` is the second."""
        anonymous = await self._records.delete(container.id)
        if volumes:
            for name in anonymous:
                try:
                    await self._volumes.remove(name, force=False)
                except TareError as error:
                    logger.warning("anonymous volume %s stays: %s", name, error)
        attributes = {**(container.config.labels or {}), "image": container.image_name, "name": container.name}
        self._events.publish("container", "destroy", container.id, attributes)

    async def delete_files(self, container_id: str) -> None:
        """Delete the writable layer, the log and the bundle; what cannot be is collected at the next start."""
        try:
            await self._store.snapshots.remove(container_id)
            await asyncio.to_thread(remove_tree, self._paths.container(container_id))
        except (TareError, OSError) as error:
            # The container is gone from the database; what is left is collected at the next start.
            logger.warning("container %s: its files stay until the next start: %s", container_id[:12], error)
