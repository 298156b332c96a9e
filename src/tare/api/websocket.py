"""A process's streams on a WebSocket: its output and its input as messages, nothing framed inside of them."""

from __future__ import annotations

import asyncio
from typing import Literal

from aiohttp import WSMsgType, web

from tare.api.gate import Gate
from tare.api.versions import Version
from tare.errors import InvalidArgument

BINARY_SINCE = (1, 28)
"""First version that sends output in binary messages, not in text messages (API 1.28 notes)."""

MESSAGE_LIMIT = 32 * 1024 * 1024
"""Bytes of one message from the client; a longer one ends the connection with code 1009 (RFC 6455, section 7.4.1)."""

CLOSE_SECONDS = 10.0
"""How long a client may take to answer the end of the connection."""


class WebSocketConnection:
    """A client's end of a process's streams (``streams.Connection``).

    A WebSocket has no end of one direction: who closes it is gone.
    """

    def __init__(self, version: Version) -> None:
        # Compression is not Docker's, and costs more than a local socket. Text is passed on as the bytes that it is.
        self._socket: web.WebSocketResponse[Literal[False]] = web.WebSocketResponse(
            timeout=CLOSE_SECONDS, compress=False, max_msg_size=MESSAGE_LIMIT, decode_text=False
        )
        self._kind = WSMsgType.BINARY if version >= BINARY_SINCE else WSMsgType.TEXT
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def check(self, request: web.Request) -> None:
        """Raises InvalidArgument when ``request`` does not ask for a WebSocket as RFC 6455, section 4.2.1 has it."""
        if not self._socket.can_prepare(request):
            raise InvalidArgument(
                "not websocket protocol",
                hint="send the headers of a WebSocket's opening handshake, version 13",
                code="not-websocket",
            )

    async def open(self, request: web.Request) -> None:
        """Answer the handshake. Raises ConnectionResetError when the client is gone."""
        await self._socket.prepare(request)
        transport = request.transport
        if transport is not None and isinstance(transport.get_protocol(), Gate):
            transport.set_protocol(request.protocol)  # what comes now is no HTTP that the gate could look for

    async def read(self) -> bytes:
        """The next message from the client; empty when it is gone. Empty messages are passed over."""
        while True:
            message = await self._socket.receive()
            if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
                self._lose()
                return b""
            if message.data:
                data: bytes = message.data
                return data

    async def write(self, data: bytes) -> None:
        """Send ``data`` as one message. Raises ConnectionResetError when the client is gone."""
        await self._socket.send_frame(data, self._kind)

    def close(self) -> None:
        """Nothing: :meth:`finish` waits for the client's answer, which a plain function cannot."""

    async def finish(self) -> web.StreamResponse:
        """Say that it is over and wait a limited time for the client's answer; idempotent."""
        await self._socket.close()
        return self._socket

    def _lose(self) -> None:
        if not self.lost.done():
            self.lost.set_result(None)
