"""The port of a registry: address, TLS, and bounds on what clients may hold."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from aiohttp.http import HttpProcessingError

from tare.errors import Conflict, InvalidArgument
from tare.registry.server.handling import Handling

logger = logging.getLogger(__name__)

DEFAULT_PORT = 5000
CONNECTIONS = 512
"""Clients that are served at a time; more are told to come back."""

BACKLOG = 128
HEAD_SECONDS = 30.0
"""How long a client may take from connecting to the end of its first request's head."""

KEEPALIVE_SECONDS = 60.0
CLOSE_SECONDS = 10.0
"""How long a closing registry waits for answers that were cut off to clean up."""

STALL_SECONDS = 300
"""How long a client may take no data before it is cut off."""

_ADDRESS = re.compile(r"(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<host>[^:\[\]]*))(?::(?P<port>\d{1,5}))?")
_BUSY_BODY = b'{"errors":[{"code":"TOOMANYREQUESTS","message":"too many connections"}]}'
_BUSY = (
    b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 5\r\nConnection: close\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_BUSY_BODY), _BUSY_BODY)
)


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; ``host`` is a literal address, port 0 any free one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``127.0.0.1:5000``, ``[::1]:5000``, ``:5000`` (all addresses), ``localhost``. Raises InvalidArgument."""
        match = _ADDRESS.fullmatch(text)
        host = (match["six"] or match["host"]) if match else ""
        host = "127.0.0.1" if host == "localhost" else host or "0.0.0.0"  # noqa: S104 - only when it is asked for
        port = int(match["port"]) if match and match["port"] else DEFAULT_PORT
        try:
            if match is None or not text or port > 65535:
                raise ValueError(text)
            ipaddress.ip_address(host)
        except ValueError as error:
            raise InvalidArgument(
                f"invalid address {text!r}", hint="give an address and a port, such as 127.0.0.1:5000", code="address"
            ) from error
        return cls(host, port)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return ipaddress.ip_address(self.host).is_loopback

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def tls_context(certificate: str, key: str) -> ssl.SSLContext:
    """A server's context from PEM texts. Raises InvalidArgument."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        with _in_memory(certificate) as first, _in_memory(key) as second:
            context.load_cert_chain(first, second, password=_no_password)
    except (ssl.SSLError, ValueError, OSError) as error:
        raise InvalidArgument(
            f"the certificate and its key cannot be used: {error}",
            hint="give both as PEM, the key without a passphrase",
            code="certificate",
        ) from error
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted")  # else OpenSSL would ask on the terminal


@contextlib.contextmanager
def _in_memory(text: str) -> Iterator[str]:
    """A path that has ``text``; keys never lie on the disk."""
    fd = os.memfd_create("tls", os.MFD_CLOEXEC)
    try:
        os.write(fd, text.encode())
        os.lseek(fd, 0, os.SEEK_SET)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


class Listener:
    """Serves on one port from :meth:`start` to :meth:`close`."""

    def __init__(self, handling: Handling, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._handling = handling
        self._listener: asyncio.Server | None = None
        self._server: web.Server | None = None
        self._guests: set[_Guest] = set()
        self._answers: set[asyncio.Task[Any]] = set()

    async def start(self, address: Address) -> Address:
        """Listen; returns the address with its real port. Raises Conflict when it cannot be had."""
        sock = _bind(address)
        try:
            server = web.Server(
                self._handle,
                handler_cancellation=True,
                access_log=None,
                logger=_Log(logger),
                keepalive_timeout=KEEPALIVE_SECONDS,
            )
            self._listener = await asyncio.get_running_loop().create_server(
                lambda: _Guest(server(), self._guests),
                sock=sock,
                backlog=BACKLOG,
                ssl=self._tls,
                ssl_handshake_timeout=HEAD_SECONDS if self._tls is not None else None,
            )
        except BaseException:
            sock.close()
            raise
        self._server = server
        return Address(address.host, sock.getsockname()[1])

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        guest = request.transport.get_protocol() if request.transport is not None else None
        if isinstance(guest, _Guest):
            guest.has_asked()
        task = asyncio.current_task()
        assert task is not None
        self._answers.add(task)
        try:
            return await self._handling.handle(request)
        finally:
            self._answers.discard(task)

    async def close(self) -> None:
        """Close the port and every connection; idempotent."""
        if self._listener is None or self._server is None:
            return
        self._listener.close()
        self._listener = None
        for task in self._answers:  # first: a transport that is aborted in the middle of sendfile trips over itself
            task.cancel()
        if self._answers:
            await asyncio.wait(self._answers, timeout=CLOSE_SECONDS)
        for guest in list(self._guests):
            guest.leave()
        await self._server.shutdown(CLOSE_SECONDS)


class _Log(logging.LoggerAdapter[logging.Logger]):
    """What is no HTTP is its sender's affair: it must not fill the engine's log."""

    def exception(self, msg: object, *args: object, exc_info: Any = True, **more: Any) -> None:
        if isinstance(exc_info, HttpProcessingError):
            self.debug("refused: %s", exc_info.message)
        else:
            super().exception(msg, *args, exc_info=exc_info, **more)


def _bind(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address.host, address.port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        hint = "choose another one with --address"
        raise Conflict(f"cannot listen on {address}: {error.strerror}", hint=hint, code="address-in-use") from error
    return sock


class _Guest(asyncio.Protocol):
    """One connection: passes everything to ``http``, but not for ever, and not to too many at a time."""

    def __init__(self, http: asyncio.Protocol, guests: set[_Guest]) -> None:
        self._http = http
        self._guests = guests
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        if len(self._guests) >= CONNECTIONS:
            transport.write(_BUSY)
            transport.close()
            return
        if (sock := transport.get_extra_info("socket")) is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALL_SECONDS * 1000)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._guests.add(self)
        self._transport = transport
        self._waiting = asyncio.get_running_loop().call_later(HEAD_SECONDS, transport.abort)
        self._http.connection_made(transport)

    def has_asked(self) -> None:
        """The first request is complete."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def leave(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._transport is not None:
            self._http.data_received(data)

    def eof_received(self) -> bool | None:
        return self._http.eof_received() if self._transport is not None else None

    def connection_lost(self, exc: Exception | None) -> None:
        self.has_asked()
        self._guests.discard(self)
        if self._transport is not None:
            self._http.connection_lost(exc)

    def pause_writing(self) -> None:
        if self._transport is not None:
            self._http.pause_writing()

    def resume_writing(self) -> None:
        if self._transport is not None:
            self._http.resume_writing()
