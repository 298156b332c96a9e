"""The connection under a request: asyncio's streams, or a plain socket.

A plain socket's operations are over when they return, so the coroutines above it never wait for a loop, and
:func:`drive` runs them. Importing asyncio takes longer than most commands of the command line.
"""

from __future__ import annotations

import contextlib
import io
import socket
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

from tare.client.endpoint import Endpoint
from tare.client.failures import connection_error
from tare.errors import InternalError

T = TypeVar("T")

CHUNK = 64 * 1024
HEAD_LIMIT = 1 << 20  # bytes of a status or header line


class Reader(Protocol):
    """What is read of ``asyncio.StreamReader``; a stream that ends too early raises EOFError."""

    async def readuntil(self, separator: bytes = b"\n") -> bytes:
        """Up to ``separator`` and with it."""
        ...

    async def readexactly(self, n: int) -> bytes:
        """``n`` bytes."""
        ...

    async def read(self, n: int = -1) -> bytes:
        """What is there, at most ``n`` bytes; nothing at the end."""
        ...


class Writer(Protocol):
    """What is used of ``asyncio.StreamWriter``."""

    def write(self, data: bytes) -> None:
        """Send; :meth:`drain` waits until there is room for more."""
        ...

    async def drain(self) -> None:
        """Return when there is room for more."""
        ...

    def can_write_eof(self) -> bool:
        """Whether the direction can be ended."""
        ...

    def is_closing(self) -> bool:
        """Whether it is closed."""
        ...

    def write_eof(self) -> None:
        """End this direction."""
        ...

    def close(self) -> None:
        """End the connection; idempotent."""
        ...


async def connect_streams(endpoint: Endpoint) -> tuple[Reader, Writer]:
    """A connection on the running loop. Raises Forbidden, Unavailable."""
    import asyncio

    try:
        if endpoint.path:
            return await asyncio.open_unix_connection(endpoint.path, limit=HEAD_LIMIT)
        return await asyncio.open_connection(endpoint.address, endpoint.port, limit=HEAD_LIMIT)
    except OSError as error:
        raise connection_error(endpoint, error) from error


async def connect_socket(endpoint: Endpoint) -> tuple[Reader, Writer]:
    """A connection whose operations block. Raises Forbidden, Unavailable."""
    try:
        if not endpoint.path:
            opened = socket.create_connection((endpoint.address, endpoint.port))
        else:
            opened = socket.socket(socket.AF_UNIX)
            try:
                opened.connect(endpoint.path)
            except BaseException:
                opened.close()
                raise
    except OSError as error:
        raise connection_error(endpoint, error) from error
    connection = _Socket(opened)
    return connection, connection


class _Socket:
    """Both directions of a socket that blocks. One thread may read while another one writes."""

    def __init__(self, opened: socket.socket) -> None:
        self._socket = opened
        self._stream = io.BufferedReader(socket.SocketIO(opened, "r"), CHUNK)
        self._closed = False

    async def readuntil(self, separator: bytes = b"\n") -> bytes:
        line = self._stream.readline(HEAD_LIMIT)  # separators of HTTP end with a line feed, and have none before it
        if not line.endswith(separator):
            raise EOFError
        return line

    async def readexactly(self, n: int) -> bytes:
        data = self._stream.read(n)
        if len(data) < n:
            raise EOFError
        return data

    async def read(self, n: int = -1) -> bytes:
        try:
            return self._stream.read() if n < 0 else self._stream.read1(n)
        except ValueError:
            if self._closed:  # by the other thread
                return b""
            raise

    def write(self, data: bytes) -> None:
        self._socket.sendall(data)

    async def drain(self) -> None:
        """All is sent already."""

    def can_write_eof(self) -> bool:
        return True

    def is_closing(self) -> bool:
        return self._closed

    def write_eof(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the other thread
        self._stream.close()
        self._socket.close()


def drive(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for plain sockets only. Raises what it raises; InternalError if it waits."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    work.close()
    raise InternalError("a command without a loop waits for one")
