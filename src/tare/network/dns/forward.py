"""Asks the host's resolvers what no container answers to, with a small cache."""

from __future__ import annotations

import asyncio
import secrets
import struct
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from tare.network.names import host_resolver, parse_resolv_conf

SECONDS_PER_TRY = 2.5
CACHE_SECONDS = 30.0
CACHE_ENTRIES = 1024
CONCURRENT = 512
_NOERROR, _NXDOMAIN = 0, 3


class Forwarder:
    """Sends queries on, unchanged but for a fresh id, from the namespace that the process lives in (the host's)."""

    def __init__(self, resolv_conf: Path, *, clock: Callable[[], float], port: int = 53) -> None:
        self._resolv_conf = resolv_conf
        self._clock = clock
        self._port = port
        self._slots = asyncio.Semaphore(CONCURRENT)
        self._cache: OrderedDict[tuple[bytes, bool], tuple[float, bytes]] = OrderedDict()
        self._servers: tuple[str, ...] = ()
        self._stamp = -1

    async def ask(self, query: bytes, *, tcp: bool) -> bytes | None:
        """The answer with the query's own id, or None when no resolver answers in time."""
        key = (query[2:], tcp)
        cached = self._cache.get(key)
        if cached is not None and cached[0] > self._clock():
            self._cache.move_to_end(key)
            return query[:2] + cached[1]
        async with self._slots:
            for server in self.servers():
                answer = await self._try(server, query, tcp=tcp)
                if answer is None and tcp:  # a resolver without TCP: what fits into a datagram is as good
                    answer = await self._try(server, query, tcp=False)
                if answer is not None:
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

    async def _try(self, server: str, query: bytes, *, tcp: bool) -> bytes | None:
        own = secrets.token_bytes(2) + query[2:]
        try:
            async with asyncio.timeout(SECONDS_PER_TRY):
                exchange = _exchange_tcp if tcp else _exchange_udp
                return await exchange(server, self._port, own)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return None

    def _remember(self, key: tuple[bytes, bool], answer: bytes) -> None:
        seconds = _lifetime(answer)
        if seconds > 0:
            self._cache[key] = (self._clock() + seconds, answer[2:])
            while len(self._cache) > CACHE_ENTRIES:
                self._cache.popitem(last=False)


class _OneAnswer(asyncio.DatagramProtocol):
    """Waits for the answer with the right id; the socket is connected, so only the server's packets arrive."""

    def __init__(self, query: bytes) -> None:
        self._query = query
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        if data[:2] == self._query[:2] and len(data) >= 12 and not self.answer.done():
            self.answer.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)


async def _exchange_udp(server: str, port: int, query: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(lambda: _OneAnswer(query), remote_addr=(server, port))
    try:
        transport.sendto(query)
        return await protocol.answer
    finally:
        transport.close()


async def _exchange_tcp(server: str, port: int, query: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(server, port)
    try:
        writer.write(struct.pack("!H", len(query)) + query)
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        return await reader.readexactly(length)
    finally:
        writer.close()


def _lifetime(answer: bytes) -> float:
    """Seconds that an answer may be kept: its smallest TTL, at most CACHE_SECONDS; 0 for failures."""
    from dnslib import DNSError, DNSRecord

    try:
        record = DNSRecord.parse(answer)
    except (DNSError, ValueError, struct.error):
        return 0.0
    if record.header.rcode not in (_NOERROR, _NXDOMAIN) or record.header.tc:
        return 0.0
    lifetimes = [entry.ttl for entry in (*record.rr, *record.auth)]
    return float(min([CACHE_SECONDS, *lifetimes])) if lifetimes else 0.0
