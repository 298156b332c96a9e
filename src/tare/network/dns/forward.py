"""Asks resolvers what no container answers to, with a small cache."""

from __future__ import annotations

import asyncio
import secrets
import socket
import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from pathlib import Path

from tare.errors import NotFound
from tare.kernel.namespaces import run_in_network_namespace
from tare.network.dns import wire
from tare.network.names import host_resolver, parse_resolv_conf

SECONDS_PER_TRY = 2.5
CACHE_SECONDS = 30.0
CACHE_ENTRIES = 1024
CONCURRENT = 512
_NOERROR, _SERVFAIL, _NXDOMAIN, _REFUSED = 0, 2, 3, 5


@dataclass(frozen=True, slots=True)
class Route:
    """Resolvers of a container's own (``--dns``), asked from inside its network namespace as Docker does."""

    servers: tuple[str, ...]
    namespace: Path | None = None


@dataclass(frozen=True, slots=True)
class _Kept:
    answer: bytes
    places: list[wire.Place]
    since: float
    until: float


class Forwarder:
    """Sends queries on, unchanged but for a fresh id: to the host's resolvers from the host, or along a route."""

    def __init__(self, resolv_conf: Path, *, clock: Callable[[], float], port: int = 53) -> None:
        self._resolv_conf = resolv_conf
        self._clock = clock
        self._port = port
        self._slots = asyncio.Semaphore(CONCURRENT)
        self._cache: OrderedDict[tuple[bytes, bool, Route | None], _Kept] = OrderedDict()
        self._servers: tuple[str, ...] = ()
        self._stamp = -1

    async def ask(self, query: bytes, *, tcp: bool, route: Route | None = None) -> bytes | None:
        """The answer with the query's own id, or None when no resolver has one in time.

        A resolver that does not answer, fails (SERVFAIL) or refuses is passed over for the next, as in Docker.
        """
        key = (query[2:], tcp, route)
        kept = self._cache.get(key)
        now = self._clock()
        if kept is not None and kept.until > now:
            self._cache.move_to_end(key)
            return query[:2] + wire.aged(kept.answer, kept.places, int(now - kept.since))[2:]
        async with self._slots:
            for server in route.servers if route is not None else self.servers():
                namespace = route.namespace if route is not None else None
                answer = await self._try(server, query, namespace, tcp=tcp)
                if answer is None and tcp:  # a resolver without TCP: what fits into a datagram is as good
                    answer = await self._try(server, query, namespace, tcp=False)
                if answer is not None and wire.rcode(answer) not in (_SERVFAIL, _REFUSED):
                    self._remember(key, answer)
                    return query[:2] + answer[2:]
        return None

    def servers(self) -> tuple[str, ...]:
        """The host's resolvers, read again when the file has changed."""
        try:
            stamp = self._resolv_conf.stat().st_mtime_ns
        except OSError:
            stamp = 0
        if stamp != self._stamp:
            text = self._resolv_conf.read_text(errors="replace") if stamp else ""
            configured = parse_resolv_conf(text).nameservers
            # this process is on the host: a resolver on its loopback can be asked too
            usable = tuple(server for server in configured if "%" not in server)
            self._servers = usable or host_resolver(parse_resolv_conf(text)).nameservers
            self._stamp = stamp
        return self._servers

    async def _try(self, server: str, query: bytes, namespace: Path | None, *, tcp: bool) -> bytes | None:
        own = secrets.token_bytes(2) + query[2:]
        try:
            async with asyncio.timeout(SECONDS_PER_TRY):
                sock = await _open_socket(server, namespace, tcp=tcp)
                exchange = _exchange_tcp if tcp else _exchange_udp
                return await exchange(sock, (server, self._port), own)
        except (OSError, TimeoutError, ValueError, NotFound, asyncio.IncompleteReadError):
            return None

    def _remember(self, key: tuple[bytes, bool, Route | None], answer: bytes) -> None:
        try:
            found = wire.places(answer)
        except ValueError:
            return
        seconds = lifetime(answer, found)
        if seconds > 0:
            now = self._clock()
            self._cache[key] = _Kept(answer, found, now, now + seconds)
            while len(self._cache) > CACHE_ENTRIES:
                self._cache.popitem(last=False)


class _OneAnswer(asyncio.DatagramProtocol):
    """Waits for the answer to the query; the socket is connected, so only the server's packets arrive."""

    def __init__(self, query: bytes) -> None:
        self._query = query
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        if _answers(self._query, data) and not self.answer.done():
            self.answer.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)


def lifetime(answer: bytes, records: list[wire.Place]) -> float:
    """Seconds that an answer may be kept: its smallest TTL, at most CACHE_SECONDS; 0 for failures.

    What does not exist is kept by the SOA record's TTL or last field, whichever is less (RFC 2308, section 5).
    """
    truncated = answer[2] & 2
    if wire.rcode(answer) not in (_NOERROR, _NXDOMAIN) or truncated or not records:
        return 0.0
    negative = wire.rcode(answer) == _NXDOMAIN or answer[6:8] == b"\0\0"
    zones = [place for place in records if place.kind == wire.TYPE_SOA]
    if negative and not zones:
        return 0.0
    limits = [place.minimum for place in zones] if negative else []
    return float(min([CACHE_SECONDS, *limits, *(place.ttl for place in records)]))


def _answers(query: bytes, data: bytes) -> bool:
    if len(data) < wire.HEADER_BYTES or data[:2] != query[:2] or not data[2] & 0x80:
        return False
    try:
        asked = wire.question(data)
    except ValueError:
        return False
    return asked in (b"", wire.question(query))  # a failure may leave the question out


async def _open_socket(server: str, namespace: Path | None, *, tcp: bool) -> socket.socket:
    family = socket.AF_INET6 if ip_address(server).version == 6 else socket.AF_INET
    kind = (socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    if namespace is None:
        return socket.socket(family, kind)
    make = partial(socket.socket, family, kind)
    return await asyncio.to_thread(run_in_network_namespace, namespace, make)


async def _exchange_udp(sock: socket.socket, server: tuple[str, int], query: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    try:
        sock.connect(server)
        transport, protocol = await loop.create_datagram_endpoint(lambda: _OneAnswer(query), sock=sock)
    except BaseException:
        sock.close()
        raise
    try:
        transport.sendto(query)
        return await protocol.answer
    finally:
        transport.close()


async def _exchange_tcp(sock: socket.socket, server: tuple[str, int], query: bytes) -> bytes:
    try:
        await asyncio.get_running_loop().sock_connect(sock, server)
        reader, writer = await asyncio.open_connection(sock=sock)
    except BaseException:
        sock.close()
        raise
    try:
        writer.write(struct.pack("!H", len(query)) + query)
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        answer = await reader.readexactly(length)
        if not _answers(query, answer):
            raise ConnectionError("not an answer to the query")
        return answer
    finally:
        writer.close()
