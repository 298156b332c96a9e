"""The files of one log: ``container.log`` with its older pieces ``container.log.1`` … (``.gz`` where compressed)."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import logging
import os
import re
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from tare.errors import Unavailable
from tare.kernel.inotify import FileWatcher

logger = logging.getLogger(__name__)

BACKLOG_BYTES = 1 << 29
BACKLOG_FILES = 256
"""What a slow follower may hold of files that have been rotated away; beyond it the follower is ended."""
_BLOCK = 1 << 16
_NUMBER = re.compile(r"\.(\d+)(?:\.gz)?")


class LogFile:
    """An open file of a log; a compressed one reads like any other. Stays readable when it is renamed or deleted."""

    def __init__(self, path: Path) -> None:
        raw = path.open("rb", buffering=0)
        self._raw = raw
        self._stream: BinaryIO = raw
        if path.suffix == ".gz":
            self._stream = gzip.GzipFile(fileobj=raw)  # type: ignore[assignment]
        status = os.fstat(raw.fileno())
        self.identity = (status.st_dev, status.st_ino)
        self.size = status.st_size
        self.compressed = path.suffix == ".gz"
        self._path = path

    @property
    def descriptor_path(self) -> Path:
        """A path of the open file, whatever it is called now."""
        return Path(f"/proc/self/fd/{self._raw.fileno()}")

    def read(self, size: int) -> bytes:
        """The next bytes; a damaged compressed file ends where the damage begins."""
        try:
            return self._stream.read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            logger.warning("log file %s is damaged: %s", self._path, error)
            return b""

    def seek(self, offset: int) -> None:
        """Go to ``offset`` of the (uncompressed) bytes."""
        self._stream.seek(offset)

    @property
    def has_more(self) -> bool:
        """Whether bytes have come since the last read."""
        return os.fstat(self._raw.fileno()).st_size > self._raw.tell()

    def length(self) -> int:
        """Bytes of an uncompressed file now."""
        return os.fstat(self._raw.fileno()).st_size

    def close(self) -> None:
        """Close; idempotent."""
        self._stream.close()
        self._raw.close()


def rotated_files(log: Path) -> list[tuple[int, Path]]:
    """The older pieces of ``log`` by number, the newest (1) first."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for path in log.parent.iterdir():
            if path.name.startswith(log.name) and (match := _NUMBER.fullmatch(path.name[len(log.name) :])):
                found.append((int(match[1]), path))
    return sorted(found)


def open_all(log: Path, lock: threading.Lock) -> list[LogFile]:
    """Open every file of ``log``, the oldest first. ``lock`` keeps the rotation away meanwhile."""
    opened: list[LogFile] = []
    with lock:
        for path in [*(path for _, path in reversed(rotated_files(log))), log]:
            with contextlib.suppress(FileNotFoundError):
                opened.append(LogFile(path))
    return opened


class LogReading:
    """Opened files of a log, the oldest first; files that begin later are handed in while it follows.

    A context manager: leaving it closes what is open.
    """

    def __init__(self, log: Path, lock: threading.Lock, watcher: FileWatcher | None = None) -> None:
        self.files: list[LogFile] = []
        self._log = log
        self._lock = lock
        self.on_close: Callable[[], None] = lambda: None
        self._watcher = watcher
        self._next: deque[LogFile] = deque()
        self._woken = asyncio.Event()
        self._overrun = False

    def __enter__(self) -> LogReading:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in (*self.files, *self._next):
            file.close()
        self.files.clear()
        self._next.clear()
        self.on_close()

    @property
    def follows(self) -> bool:
        """Whether it goes on when the end is reached."""
        return self._watcher is not None

    async def begin(self) -> None:
        """Open the files that are there; one that was handed in meanwhile is the last of them."""
        files = await asyncio.to_thread(open_all, self._log, self._lock)
        self.files.extend(files)
        present = {file.identity for file in files}
        for file in [file for file in self._next if file.identity in present]:
            self._next.remove(file)
            file.close()

    def hand_in(self, file: LogFile) -> None:
        """A new file has begun, and the one before has got its last byte; closed when it is known already."""
        # Of open files alone, as the number of a deleted one is given to the next that is made.
        if file.identity in {kept.identity for kept in (*self.files, *self._next)} or self._overrun:
            file.close()
            return
        waiting = sum(kept.length() for kept in (*self.files, *self._next) if not kept.compressed)
        if waiting > BACKLOG_BYTES or len(self.files) + len(self._next) >= BACKLOG_FILES:
            self._overrun = True
            file.close()
        else:
            self._next.append(file)
        self._woken.set()

    async def catch_up(self) -> None:
        """The writer has ended: take what it began last, whether or not somebody has handed it in."""
        with contextlib.suppress(FileNotFoundError):
            self.hand_in(await asyncio.to_thread(LogFile, self._log))

    def take_next(self) -> bool:
        """Put the next file behind the ones being read."""
        if self._next:
            self.files.append(self._next.popleft())
            return len(self.files) > 1
        return False

    def check_complete(self) -> None:
        """Raises Unavailable when files are missing behind the ones that were read, as there were too many of them."""
        if self._overrun and not self._next:
            raise Unavailable(
                "the log is written faster than it is read, and files that were not read yet are gone",
                hint="read faster, or raise max-size",
                code="log-overrun",
            )

    def drop_first(self) -> None:
        """The first file is read to its end."""
        file = self.files.pop(0)
        file.close()

    async def wait_more(self, done: asyncio.Event) -> None:
        """Return when there may be more to read, or ``done`` is set. Raises Unavailable when the kernel cannot tell."""
        if self._next or self._overrun:
            return
        self._woken.clear()
        assert self._watcher is not None
        waits: list[asyncio.Future[object]] = [
            asyncio.ensure_future(done.wait()),
            asyncio.ensure_future(self._woken.wait()),
        ]
        try:
            if self.files:
                waits.append(self._watch(self.files[-1]))
                if self.files[-1].has_more:
                    return
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _watch(self, file: LogFile) -> asyncio.Future[object]:
        assert self._watcher is not None
        try:
            return self._watcher.once(file.descriptor_path)
        except OSError as error:
            raise Unavailable(
                f"cannot follow the log: {error.strerror}", hint="raise fs.inotify.max_user_watches"
            ) from error


def seek_tail(files: list[LogFile], count: int) -> None:
    """Drop files and seek so that ``files`` begin at the last ``count`` lines of all of them. For a thread."""
    needed, newest = count, True
    for index in range(len(files) - 1, -1, -1):
        file = files[index]
        place, found = _forwards(file, needed) if file.compressed else _backwards(file, needed, newest=newest)
        needed -= found
        newest = newest and found == 0
        if place is not None:
            file.seek(place)
            for older in files[:index]:
                older.close()
            del files[:index]
            return
        file.seek(0)


def _backwards(file: LogFile, needed: int, *, newest: bool) -> tuple[int | None, int]:
    """Where the last ``needed`` lines of a plain file begin (None: before it), and how many lines were counted.

    In the ``newest`` file a line without its newline counts as one.
    """
    position = file.length()
    if needed <= 0 and newest:
        return position, 0
    found, carry, last = 0, b"", newest
    while position > 0:
        step = min(_BLOCK, position)
        position -= step
        file.seek(position)
        data = _exactly(file, step) + carry
        cut = 0 if position == 0 else data.find(b"\n") + 1
        carry = data[:cut]
        if position and not cut:
            carry = data
            continue
        for start, end in _lines_backwards(data, cut):
            whole = _ends_line(data[start:end])
            if last and not whole:
                found += 1  # the unfinished line at the end
            elif whole:
                if found == needed:
                    return position + end, found
                found += 1
            last = False
    return None, found


def _lines_backwards(data: bytes, first: int) -> Iterator[tuple[int, int]]:
    """Start and end (after the newline) of the records of ``data`` from ``first`` on, the last one first."""
    end = len(data)
    while end > first:
        start = data.rfind(b"\n", first, end - 1) + 1 or first
        yield start, end
        end = start


def _ends_line(record: bytes) -> bool:
    fields = record.split(b" ", 3)
    return len(fields) == 4 and fields[2] == b"F" and record.endswith(b"\n")


def _forwards(file: LogFile, needed: int) -> tuple[int | None, int]:
    """As :func:`_backwards` for a compressed file, which can only be read from its beginning."""
    ends: deque[int] = deque(maxlen=needed + 1)
    offset, found, rest = 0, 0, b""
    while data := file.read(_BLOCK):
        *records, rest = (rest + data).split(b"\n")
        for record in records:
            offset += len(record) + 1
            if _ends_line(record + b"\n"):
                found += 1
                ends.append(offset)
    if found > needed:
        return ends[0], needed
    return None, found


def _exactly(file: LogFile, size: int) -> bytes:
    parts = b""
    while len(parts) < size and (part := file.read(size - len(parts))):
        parts += part
    return parts
