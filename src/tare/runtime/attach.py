"""The standard streams of a container or exec, through conmon's attach socket.

The socket (SOCK_SEQPACKET) carries packets of at most 8 KiB, each with the stream's number in front. conmon writes to
it with blocking writes, after it has written its log and before it reads on: a slow reader slows the container down
and loses nothing, and conmon ends only when the last byte is in the socket. What is written to the socket goes to
standard input; closing that direction closes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import TracebackType
from typing import Literal

from tare.errors import Conflict

Stream = Literal[1, 2]

PACKET = 8192
"""Bytes per packet to conmon, which reads at most 32 KiB at once."""
_RECEIVE = 65536
_MAX_SIZE = 1000
"""conmon refuses larger terminals."""


class AttachSession:
    """An open connection to standard streams; iterate it for output. A context manager."""

    def __init__(self, connection: socket.socket, directory: Path) -> None:
        self._socket = connection
        self._directory = directory
        self._closed = False
        self._busy = 0

    @classmethod
    async def connect(cls, directory: Path) -> AttachSession:
        """Connect to the conmon of ``directory``. Raises Conflict when there is none."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            # socket addresses are short, directories may be long: go through a descriptor of the directory
            fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                connection.connect(f"/proc/self/fd/{fd}/attach")
            finally:
                os.close(fd)
        except OSError as error:
            connection.close()
            raise Conflict(f"cannot attach to {directory.name}: {error.strerror}", hint="is it running?") from error
        return cls(connection, directory)

    async def __aenter__(self) -> AttachSession:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect; whether the container's standard input ends with it was decided at its creation."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes whoever reads or writes; the last one closes
        if not self._busy:
            self._socket.close()

    @contextlib.contextmanager
    def _use(self) -> Iterator[None]:
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            if self._closed and not self._busy:
                self._socket.close()

    async def __aiter__(self) -> AsyncIterator[tuple[Stream, bytes]]:
        """Output as (1: stdout, 2: stderr; bytes), ending when the process has ended."""
        loop = asyncio.get_running_loop()
        while not self._closed:
            try:
                with self._use():
                    packet = await loop.sock_recv(self._socket, _RECEIVE)
            except ConnectionResetError:
                return
            if not packet:
                return
            # conmon numbers the pipes itself: 2 is stdout and 3 stderr
            yield (2 if packet[0] == 3 else 1), packet[1:]

    async def write(self, data: bytes) -> None:
        """Send ``data`` to standard input; returns when conmon has taken it. Dropped when nobody reads any more."""
        loop = asyncio.get_running_loop()
        for start in range(0, len(data), PACKET):
            if self._closed:
                return
            with self._use(), contextlib.suppress(BrokenPipeError, ConnectionResetError):
                await loop.sock_sendall(self._socket, data[start : start + PACKET])

    async def close_stdin(self) -> None:
        """End standard input; output goes on."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    async def resize(self, height: int, width: int) -> None:
        """Set the size of the terminal in characters. Ignored once the process has ended."""
        set_terminal_size(self._directory, height, width)


def set_terminal_size(directory: Path, height: int, width: int) -> None:
    """Tell the conmon of ``directory`` the size of its terminal in characters. Ignored once the process has ended."""
    height, width = min(max(height, 0), _MAX_SIZE), min(max(width, 0), _MAX_SIZE)
    with contextlib.suppress(OSError):
        fd = os.open(directory / "ctl", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.write(fd, f"1 {height} {width}\n".encode())
        finally:
            os.close(fd)
