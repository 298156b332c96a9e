"""Files in and out of volumes: ``volume cp``, whether or not a container has the volume."""

from __future__ import annotations

import errno
import sqlite3
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar

from tare.archive.compression import decompress
from tare.archive.resource import ResourceStat, stat_resource, write_resource
from tare.archive.tar_writer import TarWriter
from tare.archive.unpack import unpack_into
from tare.base.own_thread import in_own_thread
from tare.base.readers import Readable
from tare.base.shielding import finish
from tare.engine.archives import extraction_point, file_error, stream_tar
from tare.engine.events import Events
from tare.errors import Conflict, InvalidArgument, NotFound
from tare.model import new_id
from tare.volumes.catalogue import Volume, VolumeCatalogue

T = TypeVar("T")

_UNMOUNT_SECONDS = 150.0  # a plugin may take its time


class VolumeFiles:
    """Reads and writes the files of volumes; no path leads out of the volume, links in it start at its own root.

    A volume that has to be mounted is mounted for as long as it takes. Until then it cannot be removed, and while it is
    written to it cannot be restored.
    """

    def __init__(self, volumes: VolumeCatalogue, events: Events) -> None:
        self._volumes = volumes
        self._events = events
        self._open: Counter[str] = Counter()
        self._written: Counter[str] = Counter()
        self._closed: set[str] = set()
        volumes.add_guard(self._refuse_removal)

    async def stat(self, name: str, path: str) -> ResourceStat:
        """What stands at ``path`` in the volume. Raises NotFound, InvalidArgument, Unavailable."""
        return await self._visit(name, path, lambda root: stat_resource(root, path))

    @asynccontextmanager
    async def read(
        self, name: str, path: str, *, rename: str = ""
    ) -> AsyncIterator[tuple[ResourceStat, AsyncGenerator[bytes, None]]]:
        """What stands at ``path`` and, piece by piece, a tar of it, where it is called ``rename`` if that is given.

        All extended attributes are kept. Raises as :meth:`stat`.
        """
        if "/" in rename or rename == "..":
            raise InvalidArgument(f"name {rename!r}: not the name of a file", hint="give it without directories")
        volume = await self._volumes.get(name)

        def write(root: Path, writer: TarWriter) -> None:
            write_resource(root, path, writer, name=rename, all_attributes=True)

        async with self._mounted(name) as root:
            found = await _look(name, path, root, lambda root: stat_resource(root, path))
            self._tell(volume, "archive-path")
            chunks = stream_tar(
                lambda work: in_own_thread(lambda: work(root), name="volume files"), write, f"volume {name}"
            )
            async with aclosing(chunks):
                yield found, chunks

    async def write(self, name: str, path: str, stream: Readable, *, keep_kinds: bool = False) -> None:
        """Unpack a tar, plain or compressed, at the directory ``path``; ``stream`` is read in a thread.

        ``keep_kinds`` refuses to replace a directory by something else or the other way round. Raises NotFound,
        Conflict while the volume is restored, InvalidArgument when ``path`` is no directory or the volume is read-only,
        DataCorrupt, Exhausted, Unavailable. What was unpacked before an error stays, except for a file that is
        incomplete.
        """
        volume = await self._volumes.get(name)

        def work(root: Path) -> None:
            place = extraction_point(root, path)
            unpack_into(decompress(stream), root, place, keep_kinds=keep_kinds, holes=True)

        with self._writing(name):
            await self._visit(name, path, work)
        self._tell(volume, "extract-to-dir")

    @contextmanager
    def closed(self, name: str) -> Iterator[None]:
        """Keep writers away from a volume whose content is about to be exchanged. Raises Conflict when there is one."""
        if self._written[name]:
            raise Conflict(
                f"restore {name}: volume is in use - files are being copied to it",
                hint="try again when the copy has ended",
                code="volume-in-use",
            )
        self._closed.add(name)
        try:
            yield
        finally:
            self._closed.discard(name)

    @contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        if name in self._closed:
            raise Conflict(
                f"copy to {name}: volume is being restored", hint="try again in a moment", code="volume-in-use"
            )
        with _counted(self._written, name):
            yield

    async def _visit(self, name: str, path: str, work: Callable[[Path], T]) -> T:
        async with self._mounted(name) as root:
            return await _look(name, path, root, work)

    @asynccontextmanager
    async def _mounted(self, name: str) -> AsyncIterator[Path]:
        """Where the volume's files are, mounted if need be. The next start undoes the mount of an engine that dies."""
        reference = f"copy-{new_id()}"
        with _counted(self._open, name):
            if not await self._volumes.exists(name):  # only its plugin knows it: a mount needs a row
                await self._volumes.create(name, (await self._volumes.get(name)).driver)
            try:
                yield await self._volumes.mount(name, reference)
            finally:
                await finish(self._volumes.release(reference), what=f"unmount volume {name}", seconds=_UNMOUNT_SECONDS)

    def _refuse_removal(self, connection: sqlite3.Connection, name: str) -> None:
        # Asked by the database's writer: a copy counts itself before it looks for the volume's row.
        if self._open[name]:
            raise Conflict(
                f"remove {name}: volume is in use - its files are being copied",
                hint="try again when the copy has ended",
                code="volume-in-use",
            )

    def _tell(self, volume: Volume, action: str) -> None:
        self._events.publish("volume", action, volume.name, {"driver": volume.driver})


async def _look(name: str, path: str, root: Path, work: Callable[[Path], T]) -> T:
    try:
        return await in_own_thread(lambda: work(root), name="volume files")
    except FileNotFoundError as error:
        raise NotFound(f"Could not find the file {path} in volume {name}", code="no-such-file") from error
    except OSError as error:
        if error.errno == errno.EROFS:
            raise InvalidArgument(
                f"volume {name} is read-only", hint="it was made with the mount option ro", code="read-only"
            ) from error
        raise file_error(error, f"volume {name}") from error


@contextmanager
def _counted(counter: Counter[str], name: str) -> Iterator[None]:
    counter[name] += 1
    try:
        yield
    finally:
        counter[name] -= 1
        if not counter[name]:
            del counter[name]
