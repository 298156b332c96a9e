"""Load images from archives: all of an archive, or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tare.archive.expansion import ExpansionLimits
from tare.base.readers import Readable
from tare.base.shielding import finish
from tare.engine.events import Events
from tare.engine.image_archives.contents import FoundImage, read_images
from tare.engine.image_archives.receiving import Received, Receiver, StagedLayer
from tare.engine.progress import transfer_message
from tare.errors import DataCorrupt
from tare.model import Digest, Platform, Reference
from tare.store.images import NewImage
from tare.store.store import Store
from tare.store.threads import Abort, run_undoable

Progress = Callable[[dict[str, Any]], None]
"""Receives progress messages in the shape of the Engine API's JSON stream."""


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """An image that has come, with its names, the images that had these before, and platforms that were left out."""

    id: Digest
    names: tuple[Reference, ...]
    renamed: dict[Reference, Digest]
    others: tuple[Platform, ...]


class ImageLoader:
    """Loads what ``docker save``, ``podman save`` and tools of OCI layouts write."""

    def __init__(self, store: Store, events: Events, limits: ExpansionLimits) -> None:
        self._store = store
        self._events = events
        self._limits = limits

    async def load(
        self, stream: Readable, *, platform: Platform | None = None, progress: Progress | None = None
    ) -> list[LoadedImage]:
        """Read an archive to its end and store its images; names move from images that have them.

        Images for several platforms have their name together; with ``platform`` only that one comes. Raises
        DataCorrupt, InvalidArgument, Unsupported, NotFound (``platform-missing``), Exhausted; the store is unchanged
        then.
        """
        try:
            async with self._store.leases.hold() as lease:
                received = await self._receive(stream, lease, progress)
                try:
                    images = await asyncio.to_thread(read_images, received, platform)
                    await self._install(images, lease)
                    new = [NewImage(image.document, image.names) for image in images]
                    renamed = await self._store.images.create_all(new) if new else []
                finally:
                    await finish(asyncio.to_thread(received.discard), what="remove what an archive had")
        except BaseException:
            await finish(self._store.collect(), what="remove layers of an archive that was not loaded")
            raise
        loaded = [
            LoadedImage(image.id, image.names, before, image.others)
            for image, before in zip(images, renamed, strict=True)
        ]
        for image in images:
            labels = image.config.config.labels or {}
            self._events.publish("image", "load", str(image.id), {**labels, "name": str(image.id)})
        return loaded

    async def _receive(self, stream: Readable, lease: str, progress: Progress | None) -> Received:
        loop = asyncio.get_running_loop()

        def stored(digest: Digest) -> int | None:
            return asyncio.run_coroutine_threadsafe(self._held(digest, lease), loop).result()

        def tell(name: str, current: int, total: int) -> None:
            if progress is not None:
                loop.call_soon_threadsafe(progress, transfer_message(name, "Loading layer", current, total))

        def work(abort: Abort) -> Received:
            watcher = None if progress is None else tell
            return Receiver(self._store.staging, self._limits, stored, watcher, abort).receive(stream)

        return await run_undoable(work, Received.discard)

    async def _held(self, digest: Digest, lease: str) -> int | None:
        """Bytes of a layer that the store has and keeps for ``lease``."""
        if not await self._store.layers.hold_whole(digest, lease):
            return None
        return (await self._store.layers.get(digest)).size

    async def _install(self, images: Sequence[FoundImage], lease: str) -> None:
        """Have all layers in the store. What is missing is found out before the first one is stored."""
        staged = {
            diff_id: member
            for image in images
            for diff_id, member in zip(image.diff_ids, image.layers, strict=True)
            if isinstance(member, StagedLayer)
        }
        for image in images:
            for position, diff_id in enumerate(image.diff_ids):
                if diff_id not in staged and not await self._store.layers.hold_whole(diff_id, lease):
                    raise DataCorrupt(
                        f"layer {position} ({diff_id}) of image {image.id} is not in the archive",
                        hint="the archive is incomplete: make it again",
                        code="archive-incomplete",
                    )
                if diff_id in staged and (fault := staged[diff_id].fault) is not None:
                    raise DataCorrupt(
                        f"layer {position} ({diff_id}) of image {image.id}: {fault.message}",
                        hint=fault.hint or "whoever made the image has to make it again",
                        code=fault.code or "layer-damaged",
                    )
        for diff_id, member in staged.items():
            if not await self._store.layers.hold_whole(diff_id, lease):
                await self._store.layers.install(member.file, lease)
