"""Connections from inside a container's network namespace: a socket is opened there and used from the event loop.

A socket stays in the namespace in which it was made (network_namespaces(7)), whoever uses it afterwards; so one
short-lived thread suffices, and no program has to be in the container.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import aiohttp
from yarl import URL

from tare.kernel.namespaces import run_in_network_namespace

T = TypeVar("T")

_ABSENT = (errno.ECONNREFUSED, errno.EADDRNOTAVAIL, errno.ENETUNREACH, errno.EAFNOSUPPORT)


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """Status, its reason, and the beginning of the body."""

    status: int
    reason: str
    body: bytes
    truncated: bool


async def connect_tcp(namespace: Path | None, addresses: Sequence[str], port: int) -> None:
    """Connect to the first of ``addresses`` that has a listener, and close again.

    ``namespace`` None is the host's. Raises OSError of the first address, NotFound when the namespace is gone.
    """

    async def connect(address: str) -> None:
        with await asyncio.to_thread(_open, namespace, address) as connection:
            await asyncio.get_running_loop().sock_connect(connection, (address, port))

    await _first(addresses, connect)


async def get_http(namespace: Path | None, addresses: Sequence[str], port: int, path: str, limit: int) -> HttpAnswer:
    """``GET path``, with at most ``limit`` bytes of the body; redirections are answers.

    Raises OSError, NotFound as :func:`connect_tcp`, and ValueError when what answers does not speak HTTP.
    """

    async def get(address: str) -> HttpAnswer:
        connection = await asyncio.to_thread(_open, namespace, address)
        try:
            return await _get(connection, address, port, path, limit)
        finally:
            connection.close()

    return await _first(addresses, get)


async def _get(connection: socket.socket, address: str, port: int, path: str, limit: int) -> HttpAnswer:
    authority = f"[{address}]" if ":" in address else address
    connector = aiohttp.TCPConnector(socket_factory=lambda _info: connection, force_close=True)
    try:
        async with (
            aiohttp.ClientSession(
                connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
            ) as session,
            session.get(
                URL(f"http://{authority}:{port}{path}", encoded=True),
                allow_redirects=False,
                headers={"User-Agent": "tare-health", "Accept": "*/*"},
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            ) as answer,
        ):
            body = b""
            while len(body) <= limit and (data := await answer.content.read(limit + 1 - len(body))):
                body += data
            return HttpAnswer(answer.status, answer.reason or "", body[:limit], len(body) > limit)
    except aiohttp.ClientConnectorError as error:
        raise error.os_error from error
    except aiohttp.ClientError as error:
        raise ValueError(f"no HTTP answer: {error}") from error


async def _first(addresses: Sequence[str], attempt: Callable[[str], Awaitable[T]]) -> T:
    """The result for the first address at which somebody listens; else the error of the first address."""
    first: OSError | None = None
    for address in addresses:
        try:
            return await attempt(address)
        except OSError as error:
            first = first or error
            if error.errno not in _ABSENT:
                break
    raise first or OSError(errno.EINVAL, "no address to connect to")


def _open(namespace: Path | None, address: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    def make() -> socket.socket:
        return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)

    return make() if namespace is None else run_in_network_namespace(namespace, make)
