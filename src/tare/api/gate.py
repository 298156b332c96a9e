"""Stands between the socket and aiohttp, so that no byte behind an upgrade request is taken for HTTP.

aiohttp's parser knows only WebSocket upgrades: what a client sends behind ``Upgrade: tcp`` without waiting for the
answer would be lost. The gate passes the request on and holds back the rest, until the request is taken over or
declined.
"""

from __future__ import annotations

import asyncio
import re

HOLD_LIMIT = 256 * 1024
"""Bytes held back at which reading pauses."""

_REQUEST = re.compile(rb"[A-Z]+ [^ \r\n]+ HTTP/1\.[01]\r\n")
_HEAD_END = b"\r\n\r\n"
_UPGRADE = re.compile(rb"^upgrade:[ \t]*tcp[ \t]*\r$", re.IGNORECASE | re.MULTILINE)
_LENGTH = re.compile(rb"^content-length:[ \t]*(\d+)[ \t]*\r$", re.IGNORECASE | re.MULTILINE)


class Gate(asyncio.Protocol):
    """Passes everything to ``http``, but holds back what follows an upgrade request."""

    def __init__(self, http: asyncio.Protocol) -> None:
        self.http = http
        self._transport: asyncio.Transport | None = None
        self._held = bytearray()
        self._closed = False  # the gate: whether data is held back
        self._body_left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.http.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Pass on, or hold back."""
        if not self._closed:
            data, rest = self._split(data)
            self.http.data_received(data)
            self._held += rest
            return
        body, rest = data[: self._body_left], data[self._body_left :]
        self._body_left -= len(body)
        if body:
            self.http.data_received(body)
        self._held += rest
        if len(self._held) >= HOLD_LIMIT and self._transport is not None:
            self._transport.pause_reading()

    def _split(self, data: bytes) -> tuple[bytes, bytes]:
        if not _REQUEST.match(data):  # a piece of a body, which may say whatever it wants
            return data, b""
        head, separator, rest = data.partition(_HEAD_END)
        if not separator or not _UPGRADE.search(head + b"\r\n"):
            return data, b""
        self._closed = True
        length = _LENGTH.search(head + b"\r\n")
        size = int(length[1]) if length else 0
        self._body_left = max(0, size - len(rest))
        cut = len(head) + len(separator) + size
        return data[:cut], data[cut:]

    def take(self) -> bytes:
        """What was held back; the caller owns the connection from now on."""
        held, self._held = bytes(self._held), bytearray()
        return held

    def open(self) -> None:
        """The upgrade was declined: what was held back is HTTP after all."""
        if not self._closed:
            return
        self._closed = False
        if self._transport is not None:
            self._transport.resume_reading()
        if held := self.take():
            self.data_received(held)

    def eof_received(self) -> bool | None:
        """The client sends no more."""
        return self.http.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self.http.connection_lost(exc)

    def pause_writing(self) -> None:
        """The socket's buffer is full."""
        self.http.pause_writing()

    def resume_writing(self) -> None:
        """The socket's buffer has room again."""
        self.http.resume_writing()
