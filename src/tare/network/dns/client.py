"""The engine's connection to its ``tare-dns``."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tare.base import process
from tare.base.shielding import to_end
from tare.errors import InternalError, Unavailable
from tare.network.dns.main import BUSY_STATUS

REPLY_SECONDS = 5.0
START_SECONDS = 20.0
_MESSAGE_BYTES = 262144


class Disconnected(Unavailable):
    """``tare-dns`` is not there (any more); connect again and register everything anew."""


class DnsClient:
    """One control connection; requests are answered one after the other."""

    def __init__(self, path: Path, resolv_conf: str, idle_seconds: float) -> None:
        self._path = path
        self._resolv_conf = resolv_conf
        self._idle_seconds = idle_seconds
        self._socket: socket.socket | None = None
        self._reader: asyncio.Task[None] | None = None
        self._reply: asyncio.Future[bytes] | None = None
        self._lock = asyncio.Lock()

    @property
    def connected(self) -> bool:
        """Whether there is a connection."""
        return self._socket is not None

    async def connect(self, *, start: bool, on_loss: Callable[[], None] | None = None) -> bool:
        """Connect, starting the server when ``start`` and it is not there; returns whether a connection is there.

        ``on_loss`` is called when the server ends by itself.
        """
        if self._socket is not None:
            return True
        for attempt in range(3):
            control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
            control.setblocking(False)
            try:
                await asyncio.get_running_loop().sock_connect(control, str(self._path))
            except (FileNotFoundError, ConnectionRefusedError):
                control.close()
                if not start:
                    return False
                if attempt < 2:
                    await self._start_server()
                continue
            self._socket = control
            self._reader = asyncio.get_running_loop().create_task(self._read(control, on_loss))
            return True
        raise Unavailable(f"tare-dns does not answer on {self._path}", hint="see the engine's log", code="dns")

    async def request(self, message: dict[str, Any], descriptors: Sequence[int] = ()) -> dict[str, Any]:
        """Send a message and return the reply. Raises Disconnected, InternalError when it is refused."""
        return await to_end(
            self._exchange(message, descriptors)
        )  # a reply that nobody waits for would answer the next one

    async def _exchange(self, message: dict[str, Any], descriptors: Sequence[int]) -> dict[str, Any]:
        async with self._lock:
            control = self._socket
            if control is None:
                raise Disconnected("tare-dns is not connected")
            self._reply = asyncio.get_running_loop().create_future()
            try:
                socket.send_fds(control, [json.dumps(message).encode()], descriptors)
                async with asyncio.timeout(REPLY_SECONDS):
                    data = await self._reply
            except (OSError, TimeoutError) as error:
                await self.close()
                raise Disconnected(f"tare-dns: {str(error) or type(error).__name__}") from error
            finally:
                self._reply = None
        answer: dict[str, Any] = json.loads(data)
        if "error" in answer:
            raise InternalError(f"tare-dns refused {message.get('op')}: {answer['error']}", code="dns")
        return answer

    async def close(self) -> None:
        """Close the connection; the server goes on."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.cancel()
            await asyncio.wait([reader])
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def wait_closed(self) -> None:
        """Wait until the server has ended the connection."""
        if self._reader is not None:
            await asyncio.wait([self._reader])

    async def _read(self, control: socket.socket, on_loss: Callable[[], None] | None) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                data = await loop.sock_recv(control, _MESSAGE_BYTES)
            except OSError:
                data = b""
            if not data:
                break
            if self._reply is not None and not self._reply.done():
                self._reply.set_result(data)
        self._reader = None
        self._socket = None
        control.close()
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(ConnectionResetError("the connection was closed"))
        elif on_loss is not None:
            on_loss()

    async def _start_server(self) -> None:
        await asyncio.to_thread(self._path.parent.mkdir, parents=True, exist_ok=True)
        argv = [sys.executable, "-m", "tare.network.dns.main", "--socket", str(self._path)]
        argv += ["--resolv-conf", self._resolv_conf, "--idle-seconds", str(self._idle_seconds)]
        result = await process.run(argv, timeout=START_SECONDS)
        if result.returncode not in (0, BUSY_STATUS):
            raise Unavailable(f"tare-dns did not start: {result.error_text}", code="dns")
