"""Answers one query: from the zone, or by asking on."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address
from socket import AF_INET6, inet_aton, inet_pton

from dnslib import AAAA, PTR, QTYPE, RCODE, RR, A, DNSError, DNSRecord

from tare.network.dns import wire
from tare.network.dns.forward import Forwarder, Route
from tare.network.dns.zone import Zone

TTL_SECONDS = 600  # as in Docker
DATAGRAM_BYTES = 512  # RFC 1035, section 2.3.4: what an asker takes that does not say more (EDNS, RFC 6891)
READY_ANSWERS = 4096
_REVERSE_4, _REVERSE_6 = ".in-addr.arpa", ".ip6.arpa"


class Responder:
    """Turns the bytes of a query into the bytes of its answer."""

    def __init__(self, zone: Zone, forwarder: Forwarder) -> None:
        self._zone = zone
        self._forwarder = forwarder
        self._ready: dict[tuple[str, bytes, bool], bytes] = {}
        self._ready_version = zone.version

    def local(self, container: str, query: bytes, *, tcp: bool = False) -> tuple[bytes | None, DNSRecord | None]:
        """The answer from the zone, if it has one, and the parsed query.

        The latter is None for what is no query at all, and may be None beside an answer: programs ask the same again
        and again, and answers without an order that must change are kept until the zone changes.
        """
        if self._ready_version != self._zone.version or len(self._ready) >= READY_ANSWERS:
            self._ready.clear()
            self._ready_version = self._zone.version
        key = (container, query[2:], tcp)
        ready = self._ready.get(key)
        if ready is not None and len(query) > 2:
            return query[:2] + ready, None
        answer, request = self._answer(container, query, tcp=tcp)
        if answer is not None and answer[6:8] in (b"\0\0", b"\0\1"):
            self._ready[key] = answer[2:]
        return answer, request

    def _answer(self, container: str, query: bytes, *, tcp: bool) -> tuple[bytes | None, DNSRecord | None]:
        plain = self._addresses(container, query)
        if plain is not None and (tcp or len(plain) <= DATAGRAM_BYTES):
            return plain, None
        try:
            request = DNSRecord.parse(query)
        except (DNSError, ValueError, struct.error, IndexError):
            return None, None
        if request.header.qr:
            return None, None
        if request.header.opcode != 0 or len(request.questions) != 1:
            return _failure(request, RCODE.NOTIMP), request
        name, kind = str(request.q.qname), QTYPE[request.q.qtype]
        address = _reversed_address(name.lower().rstrip("."))
        if address is not None:
            return self._reverse(container, request, address, kind), request
        addresses = self._zone.addresses(container, name)
        if not addresses:
            return None, request
        reply = request.reply(aa=0, ra=1)
        for text in addresses:
            family, rdata = (QTYPE.AAAA, AAAA(text)) if ":" in text else (QTYPE.A, A(text))
            if kind in (QTYPE[family], "ANY"):
                reply.add_answer(RR(request.q.qname, family, rdata=rdata, ttl=TTL_SECONDS))
        # A known name has no records of other types: NOERROR and empty. NXDOMAIN would deny its addresses as well.
        return _packed(request, reply, tcp=tcp), request

    def _addresses(self, container: str, query: bytes) -> bytes | None:
        """The answer to a query of the everyday form for a name that the zone has."""
        asked = wire.plain_question(query)
        found = self._zone.addresses(container, asked.name) if asked is not None else []
        if asked is None or not found:
            return None
        records = [
            (wire.TYPE_AAAA, inet_pton(AF_INET6, text)) if ":" in text else (wire.TYPE_A, inet_aton(text))
            for text in found
        ]
        wanted = [record for record in records if asked.kind in (record[0], wire.TYPE_ANY)]
        return wire.answer(query, asked, wanted, TTL_SECONDS)

    async def remote(
        self, request: DNSRecord, query: bytes, *, tcp: bool, forward: bool, route: Route | None = None
    ) -> bytes:
        """What resolvers say: those of ``route``, else the host's. SERVFAIL when none answers.

        NXDOMAIN where the container may not ask: without ``forward``, unless it has resolvers of its own.
        """
        if not forward and route is None:
            return _failure(request, RCODE.NXDOMAIN)
        answer = await self._forwarder.ask(query, tcp=tcp, route=route)
        return answer if answer is not None else _failure(request, RCODE.SERVFAIL)

    def _reverse(self, container: str, request: DNSRecord, address: str, kind: str) -> bytes | None:
        found = self._zone.name_of(container, address)
        if found is None:
            return None
        reply = request.reply(aa=0, ra=1)
        if kind in {"PTR", "ANY"}:
            reply.add_answer(RR(request.q.qname, QTYPE.PTR, rdata=PTR(found), ttl=TTL_SECONDS))
        return bytes(reply.pack())


def _reversed_address(name: str) -> str | None:
    """The address that a name below in-addr.arpa or ip6.arpa (RFC 3596, section 2.5) stands for, if it is whole."""
    try:
        if name.endswith(_REVERSE_4):
            return str(IPv4Address(".".join(reversed(name.removesuffix(_REVERSE_4).split(".")))))
        if name.endswith(_REVERSE_6):
            digits = "".join(reversed(name.removesuffix(_REVERSE_6).split(".")))
            return str(IPv6Address(int(digits, 16))) if len(digits) == 32 else None
    except ValueError:
        return None
    return None


def _packed(request: DNSRecord, reply: DNSRecord, *, tcp: bool) -> bytes:
    """The reply's bytes; without the records that do not fit into a datagram, and marked so (TC)."""
    packed = bytes(reply.pack())
    if tcp:
        return packed
    offered = [extra.rclass for extra in request.ar if extra.rtype == QTYPE.OPT]
    limit = max([DATAGRAM_BYTES, *offered])
    while len(packed) > limit:
        reply.header.tc = 1
        reply.rr.pop()
        packed = bytes(reply.pack())
    return packed


def _failure(request: DNSRecord, rcode: int) -> bytes:
    reply = request.reply(aa=0, ra=1)
    reply.header.rcode = rcode
    return bytes(reply.pack())
