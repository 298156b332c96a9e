"""What the name server answers, item by item, and how it asks on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from dnslib import EDNS0, QTYPE, RCODE, RR, SOA, A, DNSRecord

from tare.network.dns import wire
from tare.network.dns.forward import Forwarder, Route
from tare.network.dns.responder import Responder
from tare.network.dns.zone import Record, Zone


def zone() -> Zone:
    """c1 and c2 share the networks shop and back; c3 is on shop alone, c4 apart."""
    made = Zone()
    for network, name, container, names, addresses in (
        ("n1", "shop", "c1", ("login", "web"), ("10.0.0.2",)),
        ("n1", "shop", "c2", ("logout", "web", "Front"), ("10.0.0.3", "fd00::3")),
        ("n2", "back", "c1", ("login",), ("10.1.0.2",)),
        ("n2", "back", "c2", ("logout", "second"), ("10.1.0.3",)),
        ("n1", "shop", "c3", ("cart",), ("10.0.0.4",)),
        ("n3", "bank", "c4", ("payment",), ("10.2.0.2",)),
    ):
        made.put(Record(network, name, container, names, addresses))
    return made


@pytest.mark.parametrize(
    ("asker", "name", "kind", "answers"),
    [
        ("c1", "logout.shop", "A", ["10.0.0.3"]),
        ("c1", "logout.", "A", ["10.1.0.3"]),  # both are on two networks: the first by name answers
        ("c3", "logout", "A", ["10.0.0.3"]),
        ("c1", "logout.back", "A", ["10.1.0.3"]),
        ("c3", "FRONT.Shop", "A", ["10.0.0.3"]),
        ("c3", "web", "A", ["10.0.0.2", "10.0.0.3"]),
        ("c3", "logout", "AAAA", ["fd00::3"]),
        ("c3", "logout", "ANY", ["10.0.0.3", "fd00::3"]),
        ("c3", "login", "AAAA", []),
        ("c3", "login", "MX", []),
        ("c3", "login", "HTTPS", []),
        ("c3", "second", "A", None),
        ("c3", "logout.back", "A", None),
        ("c4", "login", "A", None),
        ("stranger", "login", "A", None),
        ("c3", "login.shop.example", "A", None),
        ("c3", "2.0.0.10.in-addr.arpa", "PTR", ["login.shop."]),
        ("c3", "2.0.1.10.in-addr.arpa", "PTR", None),
        ("c1", "2.0.1.10.in-addr.arpa", "PTR", ["login.back."]),
        ("c3", "3" + 27 * ".0" + ".0.0.d.f.ip6.arpa", "PTR", ["logout.shop."]),
        ("c3", "3.0.ip6.arpa", "PTR", None),
        ("c3", "0.10.in-addr.arpa", "PTR", None),
        ("c3", "x.0.0.10.in-addr.arpa", "PTR", None),
    ],
)
def test_a_name_as_its_asker_sees_it(asker: str, name: str, kind: str, answers: list[str] | None) -> None:
    query = bytes(DNSRecord.question(name, kind).pack())
    answer, request = Responder(zone(), Forwarder(Path("/nonexistent"), clock=lambda: 0.0)).local(asker, query)
    if answers is None:
        assert answer is None
        assert request is not None
        return
    assert answer is not None
    reply = DNSRecord.parse(answer)
    assert (reply.header.id, reply.header.rcode, reply.header.aa, reply.header.ra) == (
        DNSRecord.parse(query).header.id,
        0,
        0,
        1,
    )
    assert sorted(str(entry.rdata) for entry in reply.rr) == answers
    assert {entry.ttl for entry in reply.rr} <= {600}
    assert str(reply.q.qname).rstrip(".") == name.rstrip(".")


def test_an_answer_is_of_the_zone_as_it_is() -> None:
    content = zone()
    responder = Responder(content, Forwarder(Path("/nonexistent"), clock=lambda: 0.0))

    def ask(asker: str, number: int) -> list[str]:
        query = DNSRecord.question("cart")
        query.header.id = number
        answer, _ = responder.local(asker, bytes(query.pack()))
        if answer is None:
            return []
        assert DNSRecord.parse(answer).header.id == number
        return [str(entry.rdata) for entry in DNSRecord.parse(answer).rr]

    assert [ask("c1", 1), ask("c1", 2), ask("c4", 3)] == [["10.0.0.4"], ["10.0.0.4"], []]
    content.put(Record("n1", "shop", "c3", ("cart",), ("10.0.0.9",)))
    assert ask("c1", 4) == ["10.0.0.9"]
    content.forget("n1", "c1")
    assert ask("c1", 5) == []
    content.forget("n1", "c3")
    assert ask("c2", 6) == []


def test_the_order_of_several_addresses_changes() -> None:
    seen = {tuple(zone().addresses("c3", "web")) for _ in range(200)}
    assert len(seen) == 6


@pytest.mark.parametrize(
    ("edns", "tcp", "complete"), [(0, False, False), (400, False, False), (1232, False, True), (0, True, True)]
)
def test_what_does_not_fit_into_a_datagram_is_cut_and_marked(edns: int, *, tcp: bool, complete: bool) -> None:
    many = Zone()
    for number in range(40):
        many.put(Record("n", "net", f"c{number}", (f"c{number}", "many"), (f"10.0.0.{number}",)))
    query = DNSRecord.question("many")
    if edns:
        query.add_ar(EDNS0(udp_len=edns))
    responder = Responder(many, Forwarder(Path("/nonexistent"), clock=lambda: 0.0))
    answer, _ = responder.local("c0", bytes(query.pack()), tcp=tcp)
    assert answer is not None
    reply = DNSRecord.parse(answer)
    assert bool(reply.header.tc) is not complete
    assert (len(reply.rr) == 40) is complete
    assert complete or 400 < len(answer) <= 512


def message(*records: RR, rcode: int = 0, authority: tuple[RR, ...] = ()) -> bytes:
    reply = DNSRecord.question("a.example").reply()
    reply.header.rcode = rcode
    for entry in records:
        reply.add_answer(entry)
    for entry in authority:
        reply.add_auth(entry)
    reply.add_ar(EDNS0(udp_len=1232))
    return bytes(reply.pack())


def test_lifetimes_are_counted_down_where_they_are() -> None:
    before = message(RR("a.example", ttl=60, rdata=A("192.0.2.1")), RR("a.example", ttl=9, rdata=A("192.0.2.2")))
    after = wire.aged(before, wire.places(before), 10)
    assert [entry.ttl for entry in DNSRecord.parse(after).rr] == [50, 0]
    assert DNSRecord.parse(after).ar[0].ttl == DNSRecord.parse(before).ar[0].ttl  # flags of EDNS, not a lifetime
    assert len(after) == len(before)


@pytest.mark.parametrize("cut", range(12, 54))
def test_a_part_of_a_message_is_refused(cut: int) -> None:
    whole = message(RR("a.example", ttl=60, rdata=A("192.0.2.1")))
    assert len(whole) == 54
    with pytest.raises(ValueError, match=r"not a DNS message|past the end"):
        wire.places(whole[:cut])


@dataclass
class Server(asyncio.DatagramProtocol):
    """A resolver that answers with what it is told, and counts."""

    answer: Callable[[DNSRecord], DNSRecord | None]
    asked: int = 0
    transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.asked += 1
        reply = self.answer(DNSRecord.parse(data))
        if reply is not None and self.transport is not None:
            other = DNSRecord.question("other.example").reply()
            other.header.id = reply.header.id
            self.transport.sendto(bytes(other.pack()), addr)  # another question's answer is none
            self.transport.sendto(bytes(reply.pack()), addr)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None


@asynccontextmanager
async def serving(*servers: Server) -> AsyncIterator[int]:
    """The servers on 127.0.0.1, 127.0.0.2, … at one port."""
    loop = asyncio.get_running_loop()
    port = 0
    transports = []
    for number, server in enumerate(servers, 1):
        transport, _ = await loop.create_datagram_endpoint(
            lambda server=server: server,  # type: ignore[misc]
            local_addr=(f"127.0.0.{number}", port),
        )
        port = transport.get_extra_info("sockname")[1]
        transports.append(transport)
    try:
        yield port
    finally:
        for transport in transports:
            transport.close()
        while any(server.transport is not None for server in servers):  # closed in the loop's next turn
            await asyncio.sleep(0)


def known(request: DNSRecord) -> DNSRecord:
    reply = request.reply()
    reply.add_answer(RR(request.q.qname, QTYPE.A, rdata=A("192.0.2.9"), ttl=20))
    return reply


def failing(rcode: int, *authority: RR) -> Callable[[DNSRecord], DNSRecord]:
    def answer(request: DNSRecord) -> DNSRecord:
        reply = request.reply()
        reply.header.rcode = rcode
        for entry in authority:
            reply.add_auth(entry)
        return reply

    return answer


QUERY = bytes(DNSRecord.question("far.example").pack())


@pytest.mark.parametrize("rcode", [RCODE.SERVFAIL, RCODE.REFUSED])
async def test_a_resolver_that_fails_is_passed_over(rcode: int) -> None:
    first, second = Server(failing(rcode)), Server(known)
    async with serving(first, second) as port:
        forwarder = Forwarder(Path("/nonexistent"), clock=lambda: 0.0, port=port)
        answer = await forwarder.ask(QUERY, tcp=False, route=Route(("127.0.0.1", "127.0.0.2")))
        assert answer is not None
        assert str(DNSRecord.parse(answer).rr[0].rdata) == "192.0.2.9"
        assert (first.asked, second.asked) == (1, 1)
        assert await forwarder.ask(QUERY, tcp=False, route=Route(("127.0.0.1",))) is None


async def test_nxdomain_is_an_answer_and_not_passed_over() -> None:
    first, second = Server(failing(RCODE.NXDOMAIN)), Server(known)
    async with serving(first, second) as port:
        forwarder = Forwarder(Path("/nonexistent"), clock=lambda: 0.0, port=port)
        answer = await forwarder.ask(QUERY, tcp=False, route=Route(("127.0.0.1", "127.0.0.2")))
        assert answer is not None
        assert wire.rcode(answer) == RCODE.NXDOMAIN
        assert second.asked == 0


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (known, 20),
        (failing(RCODE.NXDOMAIN, RR("example", QTYPE.SOA, ttl=25, rdata=SOA("a", "b", (1, 2, 3, 4, 7)))), 7),
        (failing(RCODE.NXDOMAIN, RR("example", QTYPE.SOA, ttl=5, rdata=SOA("a", "b", (1, 2, 3, 4, 70)))), 5),
        (failing(RCODE.NOERROR, RR("example", QTYPE.SOA, ttl=25, rdata=SOA("a", "b", (1, 2, 3, 4, 6)))), 6),
        (failing(RCODE.NXDOMAIN), 0),
    ],
    ids=["positive", "minimum", "ttl of the SOA", "no data", "without SOA"],
)
async def test_answers_are_kept_for_their_time(answer: Callable[[DNSRecord], DNSRecord], kept: int) -> None:
    now, server = 0.0, Server(answer)
    async with serving(server) as port:
        forwarder = Forwarder(Path("/nonexistent"), clock=lambda: now, port=port)
        route = Route(("127.0.0.1",))
        await forwarder.ask(QUERY, tcp=False, route=route)
        now = max(kept - 0.5, 0.0)
        later = await forwarder.ask(QUERY, tcp=False, route=route)
        assert later is not None
        assert server.asked == (1 if kept else 2)
        assert [entry.ttl for entry in DNSRecord.parse(later).rr] == [20 - int(now)] * (answer is known)
        now = kept + 0.5
        await forwarder.ask(QUERY, tcp=False, route=route)
        assert server.asked == (2 if kept else 3)


async def test_containers_with_resolvers_of_their_own_do_not_share_answers() -> None:
    first, second = Server(failing(RCODE.NXDOMAIN)), Server(known)
    async with serving(first, second) as port:
        forwarder = Forwarder(Path("/nonexistent"), clock=lambda: 0.0, port=port)
        answers = [await forwarder.ask(QUERY, tcp=False, route=Route((f"127.0.0.{number}",))) for number in (1, 2)]
        assert [answer is not None and wire.rcode(answer) for answer in answers] == [RCODE.NXDOMAIN, RCODE.NOERROR]
