"""Byte streams on an HTTP connection: stdcopy framing, and connections taken over from HTTP ("hijacked").

A client that attaches to a container upgrades its connection (``Upgrade: tcp``, answer 101) or, in the older form,
just gets ``200 OK`` and a raw stream. From then on the connection carries stdin one way and the output the other way.
The client may shut down its sending side: that is the end of stdin, while output goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import struct
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from tare.api.gate import Gate
from tare.api.versions import MULTIPLEXED_SINCE, Version
from tare.model.detach_keys import Detached, DetachFilter

if TYPE_CHECKING:
    from tare.engine.requests import Attachment

RAW_STREAM = "application/vnd.docker.raw-stream"
MULTIPLEXED_STREAM = "application/vnd.docker.multiplexed-stream"

HIGH_WATER = 256 * 1024
"""Bytes of unread input at which reading from the client pauses."""

_FRAME = struct.Struct(">BxxxL")


def frame(stream: int, data: bytes) -> bytes:
    """One stdcopy frame: stream (1 stdout, 2 stderr), three zero bytes, length, payload (API, "Stream format")."""
    return _FRAME.pack(stream, len(data)) + data


def frames(pieces: list[tuple[int, bytes]]) -> bytes:
    """One frame for each of ``pieces``, as clients take a frame for a line."""
    pack = _FRAME.pack
    return b"".join([part for stream, data in pieces for part in (pack(stream, len(data)), data)])


def stream_type(*, tty: bool, version: Version) -> str:
    """The Content-Type of an output stream; a terminal's output is never framed."""
    return RAW_STREAM if tty or version < MULTIPLEXED_SINCE else MULTIPLEXED_STREAM


class HijackedConnection(asyncio.Protocol):
    """A client connection without HTTP on it; flow control works in both directions."""

    def __init__(self, transport: asyncio.Transport, http: asyncio.BaseProtocol, received: bytes) -> None:
        self._transport = transport
        self._http = http
        self._chunks: deque[bytes] = deque([received] if received else [])
        self._buffered = len(received)
        self._eof = False
        self._reader: asyncio.Future[None] | None = None
        self._writers: list[asyncio.Future[None]] = []
        self._paused_writing = False
        self._paused_reading = False
        self._epoll: select.epoll | None = None
        self._loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[None] = self._loop.create_future()

    def data_received(self, data: bytes) -> None:
        """Buffer input; at the high-water mark the client has to wait."""
        self._chunks.append(data)
        self._buffered += len(data)
        if self._buffered >= HIGH_WATER and not self._paused_reading:
            self._paused_reading = True
            self._transport.pause_reading()
        self._wake_reader()

    def eof_received(self) -> bool:
        """The client has shut down its side; keep ours open and watch for its complete departure."""
        self._eof = True
        self._wake_reader()
        self._watch_hangup()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake everybody who waits, and let aiohttp forget the connection too."""
        self._eof = True
        self._unwatch_hangup()
        if not self.lost.done():
            self.lost.set_result(None)
        self._wake_reader()
        self.resume_writing()
        self._http.connection_lost(exc)

    def pause_writing(self) -> None:
        """The socket's buffer is full."""
        self._paused_writing = True

    def resume_writing(self) -> None:
        """The socket's buffer has room again."""
        self._paused_writing = False
        for waiter in self._writers:
            if not waiter.done():
                waiter.set_result(None)
        self._writers.clear()

    async def read(self) -> bytes:
        """The next bytes from the client; empty when it sends no more."""
        while not self._chunks:
            if self._eof:
                return b""
            self._reader = self._loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        data = self._chunks.popleft()
        self._buffered -= len(data)
        if self._paused_reading and self._buffered < HIGH_WATER // 2 and not self.lost.done():
            self._paused_reading = False
            self._transport.resume_reading()
        return data

    async def write(self, data: bytes) -> None:
        """Send ``data``; returns when the socket takes more. Raises ConnectionResetError when the client is gone."""
        if self.lost.done() or self._transport.is_closing():
            raise ConnectionResetError("the client has closed the connection")
        self._transport.write(data)
        if self._paused_writing:
            waiter = self._loop.create_future()
            self._writers.append(waiter)
            await waiter
            if self.lost.done():
                raise ConnectionResetError("the client has closed the connection")

    def close(self) -> None:
        """Send what is buffered, then close."""
        self._unwatch_hangup()
        self._transport.close()

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _watch_hangup(self) -> None:
        # After EOF asyncio watches the socket no more, so a client that is gone altogether would be noticed only at
        # the next write. An epoll set with no events wanted still reports EPOLLHUP.
        sock = self._transport.get_extra_info("socket")
        if sock is None or self._epoll is not None or self.lost.done() or sock.fileno() < 0:
            return
        self._epoll = select.epoll()
        self._epoll.register(sock.fileno(), 0)
        self._loop.add_reader(self._epoll.fileno(), self._hung_up)

    def _unwatch_hangup(self) -> None:
        if self._epoll is not None:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    def _hung_up(self) -> None:
        self._unwatch_hangup()
        self._transport.abort()


class HijackedResponse(web.StreamResponse):
    """Stands for the answer that was already given on a connection that no longer speaks HTTP."""

    def __init__(self) -> None:
        super().__init__()
        self.force_close()

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Nothing is left to send."""
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to send."""


async def hijack(
    request: web.Request, content_type: str, headers: Mapping[str, str] | None = None
) -> HijackedConnection:
    """Take the connection of ``request`` over and answer it, with ``headers``; its body has been read before.

    Raises ConnectionResetError when the client is gone already.
    """
    transport = request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the client has closed the connection")
    gate = transport.get_protocol()
    received = gate.take() if isinstance(gate, Gate) else b""
    connection = HijackedConnection(transport, request.protocol, received)
    transport.set_protocol(connection)
    if "Upgrade" in request.headers:
        head = f"HTTP/1.1 101 UPGRADED\r\nContent-Type: {content_type}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
    else:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    transport.resume_reading()
    await connection.write(f"{head}\r\n".encode())
    return connection


@runtime_checkable
class Ending(Protocol):
    """An attachment that knows when its process has ended."""

    async def wait(self) -> int:
        """The exit code, when there is one."""
        ...


class Connection(Protocol):
    """A client's end of a process's streams; ``lost`` is done when the client is gone."""

    lost: asyncio.Future[None]

    async def read(self) -> bytes:
        """The next bytes from the client; empty when it sends no more."""
        ...

    async def write(self, data: bytes) -> None:
        """Send ``data``. Raises ConnectionResetError when the client is gone."""
        ...

    def close(self) -> None:
        """Send what is buffered, then close."""
        ...


async def relay(
    connection: Connection,
    attached: Attachment,
    *,
    framed: bool,
    stdin: bool,
    output: bool = True,
    detach_keys: bytes | None = None,
    on_detach: Callable[[], None] = lambda: None,
) -> None:
    """Carry bytes both ways until the process's output ends or the client is gone; closes both ends.

    ``detach_keys`` in the input, given for a terminal only, end it too, after ``on_detach``. Without ``output``
    the end of input does.

    Where the attachment knows its process's end, the connection stays open until then: clients ask for the exit code
    as soon as it closes.
    """
    sender = asyncio.create_task(_send(connection, attached, framed=framed))
    receiver = asyncio.create_task(_receive(connection, attached, stdin=stdin, keys=detach_keys))
    try:
        done, _ = await asyncio.wait({sender, receiver, connection.lost}, return_when=asyncio.FIRST_COMPLETED)
        if done == {receiver} and receiver.exception() is None and output:  # the end of input; output goes on
            await asyncio.wait({sender, connection.lost}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sender, receiver):
            if not task.done():
                task.cancel()
        results = await asyncio.gather(sender, receiver, return_exceptions=True)
        if any(isinstance(result, Detached) for result in results):
            on_detach()
        attached.close()
        connection.close()
    for result in results:
        if isinstance(result, Exception) and not isinstance(result, ConnectionError | Detached):
            raise result


async def _send(connection: Connection, attached: Attachment, *, framed: bool) -> None:
    async for stream, data in attached:
        await connection.write(frame(stream, data) if framed else data)
    if isinstance(attached, Ending):
        await attached.wait()


async def _receive(connection: Connection, attached: Attachment, *, stdin: bool, keys: bytes | None) -> None:
    typed = DetachFilter(keys) if keys and stdin else None
    # Input is read even where stdin is not attached: otherwise the end of the connection would go unnoticed.
    while data := await connection.read():
        if stdin:
            with contextlib.suppress(BrokenPipeError):
                await attached.write(typed.feed(data) if typed else data)
    if stdin and not connection.lost.done():
        if typed and (held := typed.flush()):
            await attached.write(held)
        await attached.close_stdin()
