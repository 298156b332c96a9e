"""Blobs on their way in: partial files that survive, verified before anybody reads them.

``<hex>.partial`` holds the first bytes of a blob, ``<hex>`` a whole one whose digest was right. Both are found again by
the next download of the same blob, after a crash as well.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from tare.base.atomic import fsync_directory
from tare.base.locks import KeyedLocks
from tare.base.shielding import to_end
from tare.base.single_flight import SingleFlight
from tare.errors import DataCorrupt
from tare.model import Digest
from tare.oci.image import Descriptor
from tare.store.space import disk_errors

Progress = Callable[[int], None]
"""Called with the number of a blob's bytes that are here (or there) by now; it falls when a transfer starts over."""

_CHUNK = 1 << 20
_PARTIAL = ".partial"
STALE_SECONDS = 7 * 24 * 3600.0


class Incoming:
    """A blob that is being received: its partial file, and the digest of what is there."""

    def __init__(self, path: Path, blob: Descriptor, progress: Progress) -> None:
        self.blob = blob
        self.expected = Digest.parse(blob.digest)
        self.offset = 0
        self.kept = 0
        self._path = path
        self._progress = progress
        self._hash = hashlib.sha256()
        self._fd = -1

    async def open(self) -> None:
        """Open the partial file and read what it holds; more than the blob has is dropped. Raises Exhausted."""
        await to_end(asyncio.to_thread(self._open))
        self.kept = self.offset
        self._progress(self.offset)

    async def close(self) -> None:
        """Close the file; it stays. Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            await to_end(asyncio.to_thread(os.close, fd))

    async def write(self, data: bytes | bytearray) -> None:
        """Append ``data``. Raises DataCorrupt when it is more than the blob has, Exhausted without space."""
        if self.offset + len(data) > self.blob.size:
            await self.restart()
            raise DataCorrupt(
                f"{self.expected}: the registry sends more than the {self.blob.size} bytes of the manifest",
                code="blob-oversize",
            )
        await to_end(asyncio.to_thread(self._write, data))
        self._progress(self.offset)

    async def restart(self) -> None:
        """Begin at the first byte again."""
        await to_end(asyncio.to_thread(self._restart))
        self.kept = 0
        self._progress(0)

    async def verify(self) -> None:
        """Check the digest of the whole. Raises DataCorrupt, in Docker's words, with the partial file emptied."""
        found = Digest(self._hash.hexdigest())
        if found == self.expected and self.offset == self.blob.size:
            return
        size = self.offset
        await self.restart()
        raise DataCorrupt(
            f"filesystem layer verification failed for digest {self.expected}: received {size} bytes with {found}",
            code="blob-digest",
        )

    def _open(self) -> None:
        with disk_errors(self._path.parent):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            if os.fstat(self._fd).st_size > self.blob.size:
                os.ftruncate(self._fd, 0)
            while data := os.read(self._fd, _CHUNK):
                self._hash.update(data)
                self.offset += len(data)

    def _write(self, data: bytes | bytearray) -> None:
        view = memoryview(data)
        with disk_errors(self._path.parent):
            while view:
                count = os.write(self._fd, view)
                self._hash.update(view[:count])
                self.offset += count
                view = view[count:]

    def _restart(self) -> None:
        with disk_errors(self._path.parent):
            os.ftruncate(self._fd, 0)
            os.lseek(self._fd, 0, os.SEEK_SET)
        self._hash = hashlib.sha256()
        self.offset = 0

    async def install(self, target: Path) -> None:
        """Give the file its final name, durably."""

        def install() -> None:
            with disk_errors(target.parent):
                os.fsync(self._fd)
                self._path.replace(target)
                fsync_directory(target.parent)

        await to_end(asyncio.to_thread(install))


class _Watchers:
    """Everybody who wants to know how one download goes."""

    def __init__(self) -> None:
        self._callbacks: list[Progress] = []
        self._position = 0

    def add(self, callback: Progress) -> None:
        self._callbacks.append(callback)
        if self._position:
            callback(self._position)

    def remove(self, callback: Progress) -> None:
        self._callbacks.remove(callback)

    def __bool__(self) -> bool:
        return bool(self._callbacks)

    def __call__(self, position: int) -> None:
        self._position = position
        for callback in tuple(self._callbacks):
            callback(position)


class Downloads:
    """The directory of blobs on their way in; several who want the same blob share one download."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running: SingleFlight[Path] = SingleFlight()
        self._watchers: dict[str, _Watchers] = {}
        self._locks = KeyedLocks()  # one whose callers all left may still be writing

    async def get(self, blob: Descriptor, receive: Callable[[Incoming], Awaitable[None]], progress: Progress) -> Path:
        """The file with the verified content of ``blob``; ``receive`` is called to get what is missing.

        The file stays until :meth:`discard`. Raises what ``receive`` raises, Exhausted; the partial file stays then.
        """
        digest = Digest.parse(blob.digest)
        watchers = self._watchers.setdefault(digest.hex, _Watchers())
        watchers.add(progress)
        try:
            return await self._running.do(digest.hex, lambda: self._complete(blob, digest, receive, watchers))
        finally:
            watchers.remove(progress)
            if not watchers and self._watchers.get(digest.hex) is watchers:
                del self._watchers[digest.hex]

    async def discard(self, digest: Digest) -> None:
        """Delete what there is of a blob; a file that somebody has open stays readable to them."""

        def discard() -> None:
            for path in (self._whole(digest), self._partial(digest)):
                path.unlink(missing_ok=True)

        await asyncio.to_thread(discard)

    async def remove_stale(self, seconds: float = STALE_SECONDS) -> int:
        """Delete files that nobody has written to for ``seconds``; returns how many bytes they had."""

        def remove() -> int:
            freed, oldest = 0, time.time() - seconds
            if not self._directory.is_dir():
                return 0
            for path in self._directory.iterdir():
                state = path.lstat()
                if path.name.removesuffix(_PARTIAL) not in self._watchers and state.st_mtime < oldest:
                    path.unlink(missing_ok=True)
                    freed += state.st_size
            return freed

        return await asyncio.to_thread(remove)

    async def _complete(
        self,
        blob: Descriptor,
        digest: Digest,
        receive: Callable[[Incoming], Awaitable[None]],
        progress: Progress,
    ) -> Path:
        whole = self._whole(digest)
        async with self._locks.hold(digest.hex):
            if await asyncio.to_thread(_has_size, whole, blob.size):
                progress(blob.size)
                return whole
            async with self._incoming(blob, digest, progress) as incoming:
                await receive(incoming)
                await incoming.install(whole)
        return whole

    @asynccontextmanager
    async def _incoming(self, blob: Descriptor, digest: Digest, progress: Progress) -> AsyncIterator[Incoming]:
        incoming = Incoming(self._partial(digest), blob, progress)
        try:
            await incoming.open()
            yield incoming
        finally:
            await incoming.close()

    def _whole(self, digest: Digest) -> Path:
        return self._directory / digest.hex

    def _partial(self, digest: Digest) -> Path:
        return self._directory / (digest.hex + _PARTIAL)


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False
