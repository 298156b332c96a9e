"""Files in and out of containers: ``cp``, ``diff``, ``export``."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import TypeVar

from tare.archive.changes import Change
from tare.archive.compression import decompress
from tare.archive.resource import ResourceStat, stat_resource, write_members, write_resource
from tare.archive.tar_writer import TarWriter
from tare.archive.unpack import unpack_into
from tare.base.readers import Readable
from tare.engine.archives import extraction_point, file_error, stream_tar
from tare.engine.container_root import ContainerRoots, first_id
from tare.engine.lifecycle import Lifecycle
from tare.engine.records import ContainerRecords
from tare.errors import InvalidArgument, NotFound
from tare.model.container import Container
from tare.runtime.users import resolve_user
from tare.store.store import Store

T = TypeVar("T")

MOUNT_POINTS = frozenset(
    {
        "dev", "dev/console", "dev/mqueue", "dev/pts", "dev/shm",
        "etc", "etc/hostname", "etc/hosts", "etc/resolv.conf", "proc", "sys",
    }
)  # fmt: skip
"""Places that the runtime makes in a root file system to mount something there; Docker has them in a layer apart."""


class ContainerFiles:
    """Reads, writes and compares the files of containers, whether they run or not."""

    def __init__(self, *, records: ContainerRecords, roots: ContainerRoots, store: Store, lifecycle: Lifecycle) -> None:
        self._records = records
        self._roots = roots
        self._store = store
        self._lifecycle = lifecycle

    async def stat(self, reference: str, path: str) -> ResourceStat:
        """What stands at ``path`` in the container. Raises NotFound, InvalidArgument."""
        container = await self._records.get(reference)
        return await self._visit(container, reference, path, lambda root: stat_resource(root, path))

    async def read(self, reference: str, path: str) -> tuple[ResourceStat, AsyncGenerator[bytes, None]]:
        """What stands at ``path`` and, piece by piece, a tar of it; close the iterator. Raises as :meth:`stat`."""
        container = await self._records.get(reference)
        found = await self.stat(reference, path)

        def write(root: Path, writer: TarWriter) -> None:
            write_resource(root, path, writer, first_id=first_id(container))

        self._lifecycle.emit(container, "archive-path")
        return found, self._stream(container, write, volumes=True)

    async def export(self, reference: str) -> AsyncGenerator[bytes, None]:
        """A tar of the whole file system without volumes, piece by piece; close the iterator. Raises NotFound."""
        container = await self._records.get(reference)
        self._lifecycle.emit(container, "export")

        def write(root: Path, writer: TarWriter) -> None:
            write_members(root, writer, first_id=first_id(container))

        return self._stream(container, write, volumes=False)

    async def write(
        self, reference: str, path: str, stream: Readable, *, keep_kinds: bool = False, user_owns: bool = False
    ) -> None:
        """Unpack a tar, plain or compressed, at the directory ``path``; ``stream`` is read in a thread.

        ``keep_kinds`` refuses to replace a directory by something else or the other way round; with ``user_owns`` all
        belongs to the container's user. Raises NotFound, InvalidArgument when ``path`` is no directory or is
        read-only, DataCorrupt, Exhausted.
        """
        container = await self._records.get(reference)

        def work(root: Path) -> None:
            place = extraction_point(root, path)
            _refuse_read_only(container, place)
            owner = None
            if user_owns and container.config.user:
                user = resolve_user(root, container.config.user)
                owner = (user.uid, user.gid)
            unpack_into(
                decompress(stream), root, place, keep_kinds=keep_kinds, owner=owner, first_id=first_id(container)
            )

        await self._visit(container, reference, path, work)
        self._lifecycle.emit(container, "extract-to-dir")

    async def changes(self, reference: str) -> list[Change]:
        """What the container's own layer adds, changes and deletes, sorted by path. Raises NotFound."""
        container = await self._records.get(reference)
        return await self._store.snapshots.changes(container.id, MOUNT_POINTS)

    async def _visit(self, container: Container, reference: str, path: str, work: Callable[[Path], T]) -> T:
        try:
            return await self._roots.visit(container, work)
        except FileNotFoundError as error:
            raise NotFound(f"Could not find the file {path} in container {reference}", code="no-such-file") from error
        except OSError as error:
            raise file_error(error, "the container") from error

    def _stream(
        self, container: Container, write: Callable[[Path, TarWriter], None], *, volumes: bool
    ) -> AsyncGenerator[bytes, None]:
        return stream_tar(
            lambda work: self._roots.visit(container, work, volumes=volumes), write, f"container {container.id[:12]}"
        )


def _refuse_read_only(container: Container, place: str) -> None:
    inside = [
        point
        for point in container.mounts
        if point.type in ("bind", "volume") and f"{place}/".startswith(f"{point.destination}/")
    ]
    if inside:
        if not max(inside, key=lambda point: len(point.destination)).rw:
            raise InvalidArgument("mounted volume is marked read-only", code="read-only")
    elif container.host_config.readonly_rootfs:
        raise InvalidArgument("container rootfs is marked read-only", code="read-only")
