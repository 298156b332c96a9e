"""The workshop in which images are put together: packages in, one layer and an image out."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Literal

from tare.archive.filetree import FileTree
from tare.archive.tar_writer import TarWriter
from tare.base.shielding import finish
from tare.distroless import debian
from tare.distroless.deb import Deb, read_deb
from tare.distroless.debs import DebCache, Progress
from tare.distroless.packages import Package
from tare.errors import InternalError
from tare.model import Digest, Platform, Reference, new_id
from tare.model.execution import ExecRequest, Executor
from tare.oci.image import ExecutionConfig, History, ImageConfig, RootFS, encode
from tare.store.store import Store

SPOOL_PREFIX = "unpacked-"
SNAPSHOT_PREFIX = "assembly-"
_TAIL_LINES = 30  # of a failing second stage's output, shown in the error
_READERS = 2  # packages decompressed at a time; each takes a core


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePlan:
    """What the finished image says about itself; ``reference`` names it, if anything does."""

    reference: Reference | None
    platform: Platform
    config: ExecutionConfig
    created_by: str


class Assembler:
    """Turns cached packages into images of one store. ``source_date_epoch`` bounds all times (seconds)."""

    def __init__(
        self, store: Store, executor: Executor, debs: DebCache, cache_dir: Path, source_date_epoch: int | None
    ) -> None:
        self._store = store
        self._executor = executor
        self._debs = debs
        self._cache = cache_dir
        self._epoch = source_date_epoch

    @asynccontextmanager
    async def opened(self, packages: Sequence[Package]) -> AsyncIterator[list[Deb]]:
        """The fetched packages, read; their data lives in a temporary directory until the block ends."""
        slots = asyncio.Semaphore(_READERS)
        failed = asyncio.Event()

        async def read(package: Package, spool: Path) -> Deb:
            async with slots:
                if failed.is_set():
                    raise asyncio.CancelledError
                try:
                    return await asyncio.to_thread(read_deb, self._debs.path(package), spool)
                except BaseException:
                    failed.set()
                    raise

        temporary = await asyncio.to_thread(tempfile.TemporaryDirectory, prefix=SPOOL_PREFIX, dir=self._cache)
        try:
            root = Path(temporary.name)
            # the largest first: begun last, it would be read alone at the end
            order = sorted(packages, key=lambda package: package.size, reverse=True)
            reading = asyncio.gather(*(read(p, root / p.sha256) for p in order), return_exceptions=True)
            try:
                results = await asyncio.shield(reading)
            finally:
                failed.set()
                await finish(reading, what="reading packages")  # threads do not stop when cancelled
            for result in results:
                if isinstance(result, Exception):
                    raise result
            read_debs = dict(zip(order, results, strict=True))
            yield [deb for package in packages if isinstance(deb := read_debs[package], Deb)]
        finally:
            await finish(asyncio.to_thread(temporary.cleanup), what="delete unpacked packages")

    def newest(self, debs: Sequence[Deb], epoch: int | None = None) -> int:
        """The newest time that may appear in an image of these packages: ``epoch``, else as the settings say."""
        bound = epoch if epoch is not None else self._epoch
        return bound if bound is not None else max((deb.built for deb in debs), default=0)

    @asynccontextmanager
    async def configured(self, unpacked: FileTree, progress: Progress) -> AsyncIterator[FileTree]:
        """The tree after dpkg has configured all packages in it; its files live until the block ends.

        Raises InternalError with the last lines of dpkg's output.
        """
        snapshots = self._store.snapshots
        key = f"{SNAPSHOT_PREFIX}{new_id()}"
        await snapshots.prepare(key, [])
        try:
            upper = await snapshots.upper_path(key)
            await _in_thread(lambda: unpacked.unpack(upper))
            await self._configure(key, progress)
            yield await asyncio.to_thread(FileTree.from_directory, upper)
        finally:
            await finish(snapshots.remove(key), what=f"remove snapshot {key}")

    async def _configure(self, key: str, progress: Progress) -> None:
        lines: list[str] = []

        def output(_: Literal["stdout", "stderr"], data: bytes) -> None:
            fresh = data.decode(errors="replace").splitlines()
            lines.extend(fresh)
            del lines[:-_TAIL_LINES]
            for line in fresh:
                if line.startswith("Setting up "):
                    progress("configure", line.removesuffix(" ..."))

        request = ExecRequest(
            snapshot=key,
            argv=("/bin/sh", "-c", debian.CONFIGURE),
            env=debian.ENVIRONMENT,
            network="none",
            hostname="localhost",
            host_ca=False,
        )
        status = await self._executor.execute(request, output)
        if status:
            tail = "\n".join(lines)
            raise InternalError(f"configuring Debian failed with exit status {status}:\n{tail}", code="configure")

    async def store_image(self, tree: FileTree, plan: ImagePlan, newest: int) -> tuple[Digest, bytes]:
        """Write ``tree`` as the only layer of a new image, tagged with the plan's reference.

        Returns the image's ID and its configuration.
        """

        def produce(sink: BinaryIO) -> None:
            writer = TarWriter(sink)
            tree.write(writer)
            writer.finish()

        created = datetime.fromtimestamp(newest, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        async with self._store.leases.hold() as lease:
            layer = await self._store.layers.write(produce, lease=lease)
            config = ImageConfig(
                architecture=plan.platform.architecture,
                os=plan.platform.os,
                variant=plan.platform.variant,
                created=created,
                config=plan.config,
                rootfs=RootFS(diff_ids=[str(layer.diff_id)]),
                history=[History(created=created, created_by=plan.created_by, comment="tare")],
            )
            document = encode(config)
            return await self._store.images.create_from(document, tag=plan.reference, beside=True), document


async def _in_thread(work: Callable[[], None]) -> None:
    """Run ``work`` in a thread and, when cancelled, wait for it before going on: it writes where clean-up deletes."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await finish(asyncio.wait({task}), what="unpacking")
        raise
