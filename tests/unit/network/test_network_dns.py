from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from dnslib import QTYPE, RCODE, RR, A, DNSHeader, DNSRecord

from tare.errors import InternalError
from tare.network.dns.client import Disconnected, DnsClient
from tare.network.dns.forward import Forwarder
from tare.network.dns.main import PROTOCOL
from tare.network.dns.responder import Responder
from tare.network.dns.zone import Record, Zone


def record(name: str, address: str, *, network: str = "n1", aliases: tuple[str, ...] = ()) -> Record:
    return Record(network, f"{network}-name", name, (name, *aliases), (address,))


@dataclass
class Upstream(asyncio.DatagramProtocol):
    """A resolver that knows one name."""

    ttl: int = 60
    asked: int = 0
    transports: list[asyncio.DatagramTransport] = field(default_factory=list)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transports.append(transport)  # type: ignore[arg-type]

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.asked += 1
        request = DNSRecord.parse(data)
        reply = request.reply()
        if str(request.q.qname) == "known.example.":
            reply.add_answer(RR("known.example", QTYPE.A, rdata=A("192.0.2.9"), ttl=self.ttl))
        else:
            reply.header.rcode = RCODE.NXDOMAIN
        self.transports[0].sendto(b"xx" + bytes(reply.pack())[2:], addr)  # type: ignore[arg-type]  # a forged id first
        self.transports[0].sendto(bytes(reply.pack()), addr)  # type: ignore[arg-type]


@dataclass
class Setup:
    zone: Zone
    responder: Responder
    upstream: Upstream
    now: float = 0.0

    async def ask(
        self, name: str, kind: str = "A", *, container: str = "c1", forward: bool = True
    ) -> tuple[str, list[str]]:
        query = bytes(DNSRecord.question(name, kind).pack())
        answer, request = self.responder.local(container, query)
        if answer is None:
            assert request is not None
            answer = await self.responder.remote(request, query, tcp=False, forward=forward)
        reply = DNSRecord.parse(answer)
        assert answer[:2] == query[:2]
        return RCODE[reply.header.rcode], sorted(str(entry.rdata) for entry in reply.rr)


@pytest.fixture
async def setup(tmp_path: Path) -> AsyncIterator[Setup]:
    loop = asyncio.get_running_loop()
    transport, upstream = await loop.create_datagram_endpoint(Upstream, local_addr=("127.0.0.1", 0))
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    port = transport.get_extra_info("sockname")[1]
    zone = Zone()
    made = Setup(
        zone, Responder(zone, Forwarder(tmp_path / "resolv.conf", clock=lambda: made.now, port=port)), upstream
    )
    yield made
    transport.close()


async def test_only_shared_networks_are_seen(setup: Setup) -> None:
    setup.zone.put(record("c1", "10.0.0.2"))
    setup.zone.put(record("c2", "10.0.0.3", aliases=("Web",)))
    setup.zone.put(record("c3", "10.1.0.2", network="n2"))
    assert await setup.ask("c2") == ("NOERROR", ["10.0.0.3"])
    assert await setup.ask("WEB.n1-NAME") == ("NOERROR", ["10.0.0.3"])
    assert await setup.ask("c2", "MX") == ("NOERROR", [])
    assert await setup.ask("c3") == ("NXDOMAIN", [])
    assert await setup.ask("c1", container="c3") == ("NXDOMAIN", [])
    assert await setup.ask("3.0.0.10.in-addr.arpa", "PTR") == ("NOERROR", ["c2.n1-name."])
    assert await setup.ask("2.0.1.10.in-addr.arpa", "PTR") == ("NXDOMAIN", [])


def test_the_zone_forgets_completely() -> None:
    zone = Zone()
    zone.put(record("c1", "10.0.0.2", aliases=("web",)))
    zone.put(record("c2", "10.0.0.3", aliases=("web",)))
    zone.put(record("c2", "10.0.0.4", aliases=("web",)))
    assert sorted(zone.addresses("c1", "web.")) == ["10.0.0.2", "10.0.0.4"]
    zone.forget("n1", "c2")
    zone.forget("n1", "c2")
    assert zone.addresses("c1", "web") == ["10.0.0.2"]
    assert zone.name_of("c1", "10.0.0.3") is None
    zone.forget("n1", "c1")
    assert len(zone) == 0
    assert not vars(zone)["_by_name"]
    assert not vars(zone)["_networks"]


async def test_unknown_names_are_asked_on_and_kept_for_their_time(setup: Setup) -> None:
    assert await setup.ask("known.example") == ("NOERROR", ["192.0.2.9"])
    assert await setup.ask("known.example", forward=False) == ("NXDOMAIN", [])
    query = bytes(DNSRecord.question("known.example").pack())
    _, request = setup.responder.local("c1", query)
    before = setup.upstream.asked
    for _ in range(3):
        await setup.responder.remote(request, query, tcp=False, forward=True)
    assert setup.upstream.asked <= before + 1
    setup.now += 31.0
    asked = setup.upstream.asked
    await setup.responder.remote(request, query, tcp=False, forward=True)
    assert setup.upstream.asked == asked + 1


async def test_no_resolver_is_servfail(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    responder = Responder(Zone(), Forwarder(tmp_path / "resolv.conf", clock=lambda: 0.0, port=port))
    query = bytes(DNSRecord.question("known.example").pack())
    for tcp in (False, True):
        _, request = responder.local("c1", query)
        assert request is not None
        reply = DNSRecord.parse(await responder.remote(request, query, tcp=tcp, forward=True))
        assert RCODE[reply.header.rcode] == "SERVFAIL"


@pytest.mark.parametrize(
    "query",
    [b"", b"x" * 5, b"\xff" * 40, hashlib.shake_128(b"").digest(300), bytes(DNSRecord(DNSHeader(id=7)).pack())[:11]],
)
def test_garbage_gets_no_answer(query: bytes) -> None:
    responder = Responder(Zone(), Forwarder(Path("/nonexistent"), clock=lambda: 0.0))
    assert responder.local("c1", query)[0] is None or query[2] & 0x80 == 0


async def test_the_server_process_listens_answers_and_ends(tmp_path: Path) -> None:
    path, lost = tmp_path / "dns.sock", asyncio.Event()
    client = DnsClient(path, str(tmp_path / "none"), idle_seconds=30.0)
    assert not await client.connect(start=False)
    with pytest.raises(Disconnected):
        await client.request({"op": "state", "offset": 0})
    assert await client.connect(start=True, on_loss=lost.set)
    put = {
        "op": "put",
        "network": "n",
        "network_name": "shop",
        "container": "c",
        "names": ["c"],
        "addresses": ["10.0.0.2"],
    }
    await client.request(put)
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(tcp.getsockname())
        await client.request({"op": "listen", "container": "c", "forward": False}, (udp.fileno(), tcp.fileno()))
        where = tcp.getsockname()
    for over_tcp in (False, True):
        answer = await asyncio.to_thread(DNSRecord.question("c").send, *where, tcp=over_tcp, timeout=5)
        assert str(DNSRecord.parse(answer).rr[0].rdata) == "10.0.0.2"
    state = await client.request({"op": "state", "offset": 0})
    assert state == {"entries": [["", "c"], ["n", "c"]], "total": 2, "protocol": PROTOCOL}
    for bad in ({"op": "fly"}, {"op": "put"}, {"op": "listen", "container": "x", "forward": True}):
        with pytest.raises(InternalError, match=f"tare-dns refused {bad['op']}"):
            await client.request(bad)
    await client.close()

    again = DnsClient(path, str(tmp_path / "none"), idle_seconds=30.0)
    assert await again.connect(start=True, on_loss=lost.set)
    assert (await again.request({"op": "state", "offset": 0}))["total"] == 2
    await again.request({"op": "close", "container": "c"})
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(where, timeout=1)
    await again.request({"op": "stop"})
    await again.wait_closed()
    assert lost.is_set()
    await again.close()
