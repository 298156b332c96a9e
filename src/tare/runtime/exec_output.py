"""The output of an exec's children, once its own process has ended.

conmon reads an exec's pipes until the process ends, and ends with it. What a process leaves behind, a daemon for
example, has inherited the pipes and would be killed by SIGPIPE at its next word. In Docker such a child goes on: what
it writes within two seconds of the process's end still reaches the client, and its pipes stay open afterwards. So the
engine has descriptors of its own on them (pipe(7): a pipe has readers as long as one is open).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import subprocess
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path

from tare.runtime.attach import Stream

logger = logging.getLogger(__name__)

LATE_SECONDS = 2.0
"""How long after a process's end its client gets what others write (Docker, ``daemon/monitor.go``)."""
_CHUNK = 65536
_DRAIN = ("setsid", "--fork", "cat")
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


def open_outputs(conmon_pid: int, others: Iterable[int]) -> dict[Stream, int]:
    """Read ends of the output pipes that the conmon of an exec has made; to be closed by the caller.

    conmon makes them in this order: standard input where it is wanted, output, errors. ``others`` are the inode numbers
    of the pipes that it was given. Empty when they cannot be told. Blocks.
    """
    directory = Path(f"/proc/{conmon_pid}/fd")
    first: dict[int, int] = {}
    excluded = set(others)
    try:
        for number in sorted(int(name) for name in os.listdir(directory)):  # noqa: PTH208 - numbers, no paths
            try:
                kind, _, inode = os.readlink(directory / str(number)).partition(":")  # noqa: PTH115 - no path
            except FileNotFoundError:
                continue  # it closes the ends that the process gets
            if kind == "pipe" and int(inode.strip("[]")) not in excluded:
                first.setdefault(int(inode.strip("[]")), number)
        if len(first) not in (2, 3):
            logger.warning("conmon %d has %d pipes of its own, not 2 or 3", conmon_pid, len(first))
            return {}
        opened: dict[Stream, int] = {}
        streams: tuple[Stream, Stream] = (1, 2)
        with contextlib.ExitStack() as undo:
            for stream, number in zip(streams, list(first.values())[-2:], strict=True):
                fd = os.open(directory / str(number), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                undo.callback(os.close, fd)
                opened[stream] = fd
            undo.pop_all()
    except OSError as error:  # it has ended meanwhile
        logger.debug("no output of conmon %d: %s", conmon_pid, error)
        return {}
    return opened


class LateOutput:
    """Read ends of an exec's pipes, used when its conmon has ended; :meth:`let_go` must be called in the end."""

    def __init__(self, pipes: Mapping[Stream, int]) -> None:
        self._pipes = dict(pipes)
        self._news = asyncio.Event()
        self.over = asyncio.Event()
        """Set when there is nothing more to iterate over."""

    async def __aiter__(self) -> AsyncIterator[tuple[Stream, bytes]]:
        """What is written from now on, until nobody has the pipes any more or :meth:`end` was called."""
        while self._pipes and not self.over.is_set():
            self._news.clear()
            for stream, fd in list(self._pipes.items()):
                data: bytes | None = None
                while not self.over.is_set() and (data := _read(fd)):  # not read once it is over: it may be closed
                    yield stream, data
                    await asyncio.sleep(0)  # who writes without a pause must not have the engine to himself
                if data == b"":
                    self._close(stream)
            if self._pipes and not self.over.is_set():
                await self._wait()
        self.over.set()

    async def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        watched = list(self._pipes.values())
        for fd in watched:
            loop.add_reader(fd, self._news.set)
        try:
            await self._news.wait()
        finally:
            for fd in watched:
                loop.remove_reader(fd)

    def end(self) -> None:
        """Whoever iterates gets no more."""
        self.over.set()
        self._news.set()

    async def let_go(self) -> None:
        """End, and give pipes that others still write to a reader that outlives the engine and throws away."""
        self.end()
        await asyncio.sleep(0)  # whoever waits has left the descriptors alone then
        for stream, fd in list(self._pipes.items()):
            if not _is_abandoned(fd):
                await _drain(fd)
            self._close(stream)

    def close(self) -> None:
        """Close what is open."""
        self.over.set()
        for stream in list(self._pipes):
            self._close(stream)

    def _close(self, stream: Stream) -> None:
        if (fd := self._pipes.pop(stream, None)) is not None:
            os.close(fd)


def _read(fd: int) -> bytes | None:
    """What is in the pipe; None when there is nothing now, nothing at all when nobody can write any more."""
    try:
        return os.read(fd, _CHUNK)
    except BlockingIOError:
        return None


def _is_abandoned(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, 0)  # POLLHUP is told without being asked for
    return any(event & select.POLLHUP for _, event in poll.poll(0))


async def _drain(fd: int) -> None:
    os.set_blocking(fd, True)
    null = subprocess.DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(
            *_DRAIN, stdin=fd, stdout=null, stderr=null, cwd="/", env=_ENVIRONMENT
        )
    except OSError as error:
        logger.warning("%s cannot be started, a process that an exec left behind has no reader: %s", _DRAIN[0], error)
        return
    await process.wait()
