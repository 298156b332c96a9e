"""Answers one query: from the zone, or by asking on."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

from dnslib import PTR, QTYPE, RCODE, RR, A, DNSError, DNSRecord

from tare.network.dns.forward import Forwarder
from tare.network.dns.zone import Zone

TTL_SECONDS = 5  # short: a container that is made anew may have another address
_REVERSE = ".in-addr.arpa"


class Responder:
    """Turns the bytes of a query into the bytes of its answer."""

    def __init__(self, zone: Zone, forwarder: Forwarder) -> None:
        self._zone = zone
        self._forwarder = forwarder

    def local(self, container: str, query: bytes) -> tuple[bytes | None, DNSRecord | None]:
        """The answer from the zone, if it has one, and the parsed query (None: not a query at all)."""
        try:
            request = DNSRecord.parse(query)
        except (DNSError, ValueError, struct.error, IndexError):
            return None, None
        if request.header.qr:
            return None, None
        if request.header.opcode != 0 or len(request.questions) != 1:
            return _failure(request, RCODE.NOTIMP), request
        name, kind = str(request.q.qname), QTYPE[request.q.qtype]
        if name.lower().rstrip(".").endswith(_REVERSE):
            return self._reverse(container, request, name, kind), request
        addresses = self._zone.addresses(container, name)
        if not addresses:
            return None, request
        reply = request.reply(aa=1, ra=1)
        if kind in {"A", "ANY"}:
            for address in addresses:
                reply.add_answer(RR(request.q.qname, QTYPE.A, rdata=A(address), ttl=TTL_SECONDS))
        return bytes(reply.pack()), request  # a known name has no records of other types: NOERROR and empty

    async def remote(self, request: DNSRecord, query: bytes, *, tcp: bool, forward: bool) -> bytes:
        """What the host's resolvers say. NXDOMAIN where the container may not ask, SERVFAIL when none answers."""
        if not forward:
            return _failure(request, RCODE.NXDOMAIN)
        answer = await self._forwarder.ask(query, tcp=tcp)
        return answer if answer is not None else _failure(request, RCODE.SERVFAIL)

    def _reverse(self, container: str, request: DNSRecord, name: str, kind: str) -> bytes | None:
        labels = name.lower().rstrip(".").removesuffix(_REVERSE).split(".")
        try:
            address = str(IPv4Address(".".join(reversed(labels))))
        except ValueError:
            return None
        found = self._zone.name_of(container, address)
        if found is None:
            return None
        reply = request.reply(aa=1, ra=1)
        if kind in {"PTR", "ANY"}:
            reply.add_answer(RR(request.q.qname, QTYPE.PTR, rdata=PTR(found), ttl=TTL_SECONDS))
        return bytes(reply.pack())


def _failure(request: DNSRecord, rcode: int) -> bytes:
    reply = request.reply(ra=1)
    reply.header.rcode = rcode
    return bytes(reply.pack())
