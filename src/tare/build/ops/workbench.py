"""What operations work with: the store, the executor, mounts that do not outlive their use."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tare.base.locks import KeyedLocks
from tare.base.shielding import finish, to_end
from tare.build.cache import BuildCache, Part
from tare.build.cache_mount_store import CacheMountStore
from tare.build.kept import KeptSteps
from tare.build.ops.hashes import HashCache
from tare.build.ops.manifests import Manifests
from tare.build.sources.fetcher import Sources
from tare.model import Digest, new_id
from tare.model.execution import Executor
from tare.store.leases import insert_reference
from tare.store.snapshotter import Lower
from tare.store.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Workbench:
    """Shared by all builds of an engine; ``directory`` is the builder's own part of the cache directory."""

    store: Store
    executor: Executor
    cache: BuildCache
    kept: KeptSteps
    hashes: HashCache
    manifests: Manifests
    directory: Path
    locks: KeyedLocks
    mounts: CacheMountStore
    sources: Sources
    private_caches: set[str] = field(default_factory=set)

    @property
    def views(self) -> Path:
        """Where read-only views are mounted while they are needed."""
        return self.directory / "views"

    async def protect(self, lease: str, parts: Sequence[Part]) -> None:
        """Let ``lease`` hold layers and snapshots, a layer's mountable form included."""

        def work(db: sqlite3.Connection) -> None:
            for part in parts:
                if part.kind == "layer":
                    insert_reference(db, lease, "layer", part.key)
                insert_reference(db, lease, "snapshot", part.key)

        if parts:
            await self.store.db.write(work, durable=False)

    async def lowers(self, chain: Sequence[Part]) -> list[Lower]:
        """The chain as lowers that can be stacked; the caller's lease holds them."""
        snapshots = self.store.snapshots
        return [
            await snapshots.ensure_layer(Digest.parse(part.key)) if part.kind == "layer" else Lower(part.key)
            for part in chain
        ]

    @asynccontextmanager
    async def view(self, chain: Sequence[Part]) -> AsyncIterator[Path]:
        """The root file system ``chain``, read-only, for the length of the block."""
        lowers = await self.lowers(chain)
        target = self.views / new_id()[:16]
        await asyncio.to_thread(target.mkdir, parents=True)
        try:
            await to_end(self.store.snapshots.view(lowers, target))
            yield target
        finally:
            await finish(self.drop_view(target), what=f"unmount {target}")

    async def drop_view(self, target: Path) -> None:
        """Unmount and delete a view."""
        await self.store.snapshots.unmount(target)
        await asyncio.to_thread(target.rmdir)

    async def recover(self) -> None:
        """Undo views, sockets and half-made files that a killed engine left."""
        left = await asyncio.to_thread(lambda: list(self.views.iterdir()) if self.views.is_dir() else [])
        for target in left:
            await self.drop_view(target)
        await asyncio.to_thread(shutil.rmtree, self.directory / "ssh", ignore_errors=True)
        await asyncio.to_thread(self.hashes.sweep)
        await asyncio.to_thread(self.manifests.sweep)
        await self.mounts.recover()
