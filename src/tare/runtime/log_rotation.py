"""Begins a new log file when the current one is full, for all containers that run.

The engine is not in the data path: conmon writes, and opens its log anew when it is told to. The kernel says that a log
was written to, once; how long it takes until that is asked again depends on how fast the log fills. So an idle
container costs nothing, and a fast one costs a few looks per file.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import logging
import os
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from tare.kernel.inotify import FileWatcher
from tare.runtime.conmon import reopen_log
from tare.runtime.log_files import LogFile, LogReading, rotated_files
from tare.runtime.log_options import Rotation

logger = logging.getLogger(__name__)

SHORTEST_PAUSE = 0.02
LONGEST_PAUSE = 0.5
"""Seconds between two looks at a log that is being written to."""
_COPY = 1 << 18
_COMPRESSION = 1  # logs are repetitive: higher levels cost five times the time for a few percent


@dataclass(slots=True, eq=False)
class _Log:
    path: Path
    supervisor: Path
    rotation: Rotation
    lock: threading.Lock = field(default_factory=threading.Lock)
    readings: set[LogReading] = field(default_factory=set)
    task: asyncio.Task[None] | None = None
    compressing: asyncio.Future[None] | None = None
    stop_compressing: threading.Event = field(default_factory=threading.Event)
    complained: bool = False
    loses: bool = False


class LogKeeper:
    """Rotates logs and opens them for reading. For the event loop's thread."""

    def __init__(self) -> None:
        self._watcher = FileWatcher()
        self._logs: dict[Path, _Log] = {}

    def watch(self, path: Path, supervisor: Path, rotation: Rotation) -> None:
        """Keep the log at ``path`` within ``rotation``, and tell when it loses output.

        ``supervisor`` is the directory of its conmon.
        """
        log = self._logs.setdefault(path, _Log(path, supervisor, rotation))
        log.supervisor, log.rotation = supervisor, rotation
        if log.task is None or log.task.done():
            log.task = asyncio.create_task(self._keep(log), name=f"log {path.parent.name[:12]}")

    async def unwatch(self, path: Path) -> None:
        """The supervisor has ended: the log grows no more."""
        log = self._logs.get(path)
        if log is None:
            return
        await self._end(log)
        self._forget_idle(log)

    async def open(self, path: Path, *, follow: bool) -> LogReading:
        """Open the log at ``path``; a missing one is empty. Leave the reading, a context manager, at the end."""
        log = self._logs.setdefault(path, _Log(path, path.parent, Rotation(max_size=None)))
        reading = LogReading(path, log.lock, self._watcher if follow else None)

        def closed() -> None:
            log.readings.discard(reading)
            self._forget_idle(log)

        reading.on_close = closed
        log.readings.add(reading)  # before looking, so that no new file is missed
        with contextlib.ExitStack() as undo:
            undo.enter_context(reading)
            await reading.begin()
            undo.pop_all()
        return reading

    async def close(self) -> None:
        """Let go of all logs; they go on growing."""
        for log in list(self._logs.values()):
            await self._end(log)
        self._watcher.close()

    def _forget_idle(self, log: _Log) -> None:
        if (log.task is None or log.task.done()) and not log.readings:
            self._logs.pop(log.path, None)

    async def _end(self, log: _Log) -> None:
        log.stop_compressing.set()
        if log.task is not None:
            log.task.cancel()
            await asyncio.wait([log.task])
        if log.compressing is not None:
            await asyncio.wait([log.compressing])

    async def _keep(self, log: _Log) -> None:
        name = log.path.parent.name[:12]
        try:
            if not await asyncio.to_thread(log.path.exists):
                await self._reopen(log)  # an engine ended between the two halves of a rotation
            size, moment, rate, pause = 0, time.monotonic(), 0.0, SHORTEST_PAUSE
            while True:
                changed = self._watcher.once(log.path)
                size_before, moment_before = size, moment
                (size, loses), moment = await asyncio.to_thread(_look, log.path), time.monotonic()
                _tell_loss(log, name, loses=loses)
                limit = sys.maxsize if log.rotation.max_size is None else log.rotation.max_size
                if size >= limit and await self._rotate(log):
                    changed.cancel()
                    size = 0
                    continue
                rate = max(rate / 2, (size - size_before) / max(moment - moment_before, 1e-3))
                await changed
                # After a quiet time nothing is known of the rate: look again soon, and less often while it is low.
                quiet = time.monotonic() - moment > LONGEST_PAUSE
                pause = SHORTEST_PAUSE if quiet else min(pause * 2, LONGEST_PAUSE)
                left = max(limit - size, 0)
                pause = max(min(pause, left / (rate * 2 + 1)), SHORTEST_PAUSE)
                await asyncio.sleep(pause)
        except FileNotFoundError:
            return  # the container is being removed
        except OSError as error:
            logger.warning("the log of container %s is not rotated any more: %s", name, error)

    async def _rotate(self, log: _Log) -> bool:
        """Begin a new file. False when there is no room for one: the next change of the log tries again."""
        log.stop_compressing.set()
        if log.compressing is not None:
            await asyncio.wait([log.compressing])
        try:
            await asyncio.to_thread(_shift, log)
        except FileNotFoundError:
            raise
        except OSError as error:
            if not log.complained:
                logger.warning("cannot rotate %s: %s; it goes on growing", log.path, error)
                log.complained = True
            return False
        log.complained = False
        await self._reopen(log)
        if log.rotation.compress:
            log.stop_compressing.clear()
            log.compressing = asyncio.ensure_future(asyncio.to_thread(_compress, log))
        return True

    async def _reopen(self, log: _Log) -> None:
        """Have conmon open its log anew and hand the new file to who follows."""
        new = log.path.with_name(f"{log.path.name}.tmp")
        await asyncio.to_thread(_touch, new)
        moved = self._watcher.once(new)
        try:
            if not await asyncio.to_thread(reopen_log, log.supervisor):
                await asyncio.to_thread(new.unlink, missing_ok=True)
                return  # it has ended
            # Emptying the file is a change, too, so ask again until the name is gone. It takes as long as conmon waits
            # for a client that does not read.
            with contextlib.suppress(FileNotFoundError):
                while True:
                    await moved
                    moved = self._watcher.once(new)
        finally:
            moved.cancel()
        for reading in [reading for reading in log.readings if reading.follows]:
            with contextlib.suppress(FileNotFoundError):
                reading.hand_in(await asyncio.to_thread(LogFile, log.path))


def _tell_loss(log: _Log, name: str, *, loses: bool) -> None:
    if loses and not log.loses:
        logger.warning("the log of container %s loses output: no space left on device (%s)", name, log.path)
    elif log.loses and not loses:
        logger.warning("the log of container %s is kept again; what it wrote while the disk was full is lost", name)
    log.loses = loses


def _look(path: Path) -> tuple[int, bool]:
    """The size of a log, and whether output is lost: its disk is full, and the last record breaks off."""
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if os.fstatvfs(file.fileno()).f_bavail > 0 or not size:
            return size, False
        return size, os.pread(file.fileno(), 1, size - 1) != b"\n"


def _touch(path: Path) -> None:
    """Make the file that conmon will open: when that fails, for want of space, conmon does not end over it."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))


def _shift(log: _Log) -> None:
    """Give each file the next number; the one past the last is deleted. Raises OSError when there is no room."""
    _touch(log.path.with_name(f"{log.path.name}.tmp"))
    with log.lock:
        for number, path in reversed(rotated_files(log.path)):
            if number + 1 >= log.rotation.max_files:
                path.unlink()
            else:
                suffix = ".gz" if path.suffix == ".gz" else ""
                path.rename(log.path.with_name(f"{log.path.name}.{number + 1}{suffix}"))
        if log.rotation.max_files > 1:
            log.path.rename(log.path.with_name(f"{log.path.name}.1"))


def _compress(log: _Log) -> None:
    """Compress the newest rotated file, unless another rotation comes in between."""
    source = log.path.with_name(f"{log.path.name}.1")
    target = log.path.with_name(f"{log.path.name}.1.gz.part")
    try:
        with source.open("rb") as plain, gzip.open(target, "wb", compresslevel=_COMPRESSION) as packed:
            while data := plain.read(_COPY):
                if log.stop_compressing.is_set():
                    raise InterruptedError
                packed.write(data)
        with log.lock:
            target.rename(log.path.with_name(f"{log.path.name}.1.gz"))
            source.unlink()
    except (FileNotFoundError, InterruptedError):
        target.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("cannot compress %s: %s", source, error)
        target.unlink(missing_ok=True)
