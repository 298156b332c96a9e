"""Content-addressed files: written under a temporary name while being hashed, renamed to their digest."""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import shutil
import tempfile
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from tare.base.atomic import fsync_directory
from tare.errors import DataCorrupt
from tare.kernel.syscalls import start_writeback, wait_for_writeback
from tare.model import Digest
from tare.store.space import disk_errors
from tare.store.threads import Abort, run_undoable

_BUFFER = 1 << 20
_AHEAD = 8  # buffers that are filled, hashed and written at the same time
_WINDOW = 16 << 20  # bytes after which the disk is told to begin
_KEPT = 64 << 20  # bytes at the beginning of a file that stay in the page cache


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A complete, synced temporary file."""

    path: Path
    digest: Digest
    size: int

    def install(self, target: Path) -> None:
        """Give it its final name, durably; a file that is there already has the same bytes, or is damaged."""
        with disk_errors(target.parent):
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)  # nothing of ours
            self.path.replace(target)
            fsync_directory(target.parent)

    def discard(self) -> None:
        """Delete it; quiet when it was installed."""
        self.path.unlink(missing_ok=True)


class _Chunk:
    """A filled buffer on its way through all workers; the last one gives it back."""

    def __init__(self, buffer: bytearray, used: int, users: int, free: queue.SimpleQueue[bytearray]) -> None:
        self._buffer = buffer
        self._free = free
        self._users = users
        self._lock = threading.Lock()
        self.data = memoryview(buffer)[:used]

    def release(self) -> None:
        """One worker is done with it."""
        with self._lock:
            self._users -= 1
            if self._users:
                return
        self.data.release()
        self._free.put(self._buffer)


class _Worker:
    """A thread that does ``work`` on chunks in their order; started with the first one."""

    def __init__(self, name: str, work: Callable[[memoryview], object]) -> None:
        self._name = name
        self._work = work
        self._waiting: queue.SimpleQueue[_Chunk | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def put(self, chunk: _Chunk) -> None:
        """Have ``chunk`` worked on."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        self._waiting.put(chunk)

    def _run(self) -> None:
        while (chunk := self._waiting.get()) is not None:
            try:
                if self._error is None:
                    self._work(chunk.data)
            except BaseException as error:
                self._error = error
            chunk.release()

    def end(self) -> None:
        """Wait until all is done; idempotent."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join()
            self._thread = None

    def check(self) -> None:
        """Raise what the work raised."""
        if self._error is not None:
            raise self._error


class HashingSink:
    """A writable stream that hashes what passes; making, hashing and writing of large files share the time.

    Small writes are gathered into large ones, in a few buffers that are used again and again: fresh memory costs as
    much as copying. Close it when done.
    """

    def __init__(self, sink: BinaryIO, abort: Abort) -> None:
        self._sink = sink
        self._abort = abort
        self._free: queue.SimpleQueue[bytearray] = queue.SimpleQueue()
        self._made = 1
        self._buffer = bytearray(_BUFFER)
        self._used = 0
        self._hash = hashlib.sha256()
        self._workers = (_Worker("hash", self._hash.update), _Worker("write", sink.write))
        self.size = 0

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        """Append ``data``. Raises Aborted when nobody wants it any more, OSError of an earlier write."""
        length = len(data)
        if length <= _BUFFER - self._used:
            self._buffer[self._used : self._used + length] = data
            self._advance(length)
            return length
        with memoryview(data) as view:
            position = 0
            while position < length:
                count = min(length - position, _BUFFER - self._used)
                self._buffer[self._used : self._used + count] = view[position : position + count]
                self._advance(count)
                position += count
        return length

    def fill(self, fd: int, limit: int) -> int:
        """Append what one read(2) of ``fd`` gives, ``limit`` bytes at most; returns how many, 0 at the end of the file.

        Raises as :meth:`write` does, and OSError of the read.
        """
        end = min(self._used + limit, _BUFFER)
        with memoryview(self._buffer) as whole, whole[self._used : end] as room:
            count = os.readv(fd, [room])
        self._advance(count)
        return count

    def flush(self) -> None:
        """Pass on the rest; nothing may be written afterwards. Raises as :meth:`write` does."""
        self._abort.check()
        self.close()
        for worker in self._workers:
            worker.check()
        with memoryview(self._buffer)[: self._used] as rest:
            self._hash.update(rest)
            self._sink.write(rest)
        self._used = 0

    def close(self) -> None:
        """End the threads; idempotent."""
        for worker in self._workers:
            worker.end()

    @property
    def digest(self) -> Digest:
        """Digest of everything; call :meth:`flush` first."""
        return Digest(self._hash.hexdigest())

    def _advance(self, count: int) -> None:
        self.size += count
        self._used += count
        if self._used < _BUFFER:
            return
        self._abort.check()
        for worker in self._workers:
            worker.check()
        chunk = _Chunk(self._buffer, self._used, len(self._workers), self._free)
        for worker in self._workers:
            worker.put(chunk)
        self._buffer, self._used = self._empty_buffer(), 0

    def _empty_buffer(self) -> bytearray:
        """One that all are done with; a new one while there are few; waits when the threads fall behind."""
        if self._made < _AHEAD and self._free.empty():
            self._made += 1
            return bytearray(_BUFFER)
        return self._free.get()


async def stage(
    directory: Path,
    produce: Callable[[BinaryIO], None],
    *,
    what: str,
    expected: Digest | None = None,
    durable: bool = True,
) -> StagedFile:
    """Write what ``produce`` gives, in a thread, into a temporary file in ``directory``.

    A file that is not to stay need not be ``durable``. Raises DataCorrupt when its digest is not ``expected``,
    Exhausted without space; nothing is left then, nor when the caller is cancelled.
    """
    return await run_undoable(
        lambda abort: stage_file(directory, produce, abort, what=what, expected=expected, durable=durable),
        StagedFile.discard,
    )


def stage_file(
    directory: Path,
    produce: Callable[[BinaryIO], None],
    abort: Abort,
    *,
    what: str,
    expected: Digest | None = None,
    durable: bool = True,
) -> StagedFile:
    """As :func:`stage`, in the thread of the caller, who may ask for an end through ``abort``."""
    fd, name = tempfile.mkstemp(prefix="stage-", dir=directory)
    path = Path(name)
    try:
        with disk_errors(directory), os.fdopen(fd, "wb", buffering=0) as raw:
            sink = HashingSink(cast(BinaryIO, _Complete(raw.fileno())), abort)
            with closing(sink):
                produce(cast(BinaryIO, sink))
                sink.flush()
                os.fchmod(raw.fileno(), 0o644)
                if durable:
                    os.fsync(raw.fileno())
            digest = sink.digest
        if expected is not None and digest != expected:
            raise DataCorrupt(f"{what}: digest {digest}, expected {expected}")
        return StagedFile(path, digest, sink.size)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


class _Complete:
    """Writes everything it is given, however little the kernel takes at once, and keeps the disk busy meanwhile.

    What fsync would wait for at the end is under way while the rest is made, and of a large file the written part
    leaves the page cache: it would push out what containers use, and fresh memory costs more than the disk.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._written = 0
        self._begun = 0
        self._dropped = _KEPT

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        self._written += len(data)
        if self._written - self._begun >= _WINDOW:
            with contextlib.suppress(OSError):
                self._advance()
            self._begun = self._written
        return len(data)

    def _advance(self) -> None:
        start_writeback(self._fd, self._begun, self._written - self._begun)
        if self._begun > self._dropped:
            wait_for_writeback(self._fd, self._dropped, self._begun - self._dropped)
            os.posix_fadvise(self._fd, self._dropped, self._begun - self._dropped, os.POSIX_FADV_DONTNEED)
            self._dropped = self._begun
