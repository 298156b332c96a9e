"""Everything that the ruleset can say is read back and evaluated: ranges, sources, both families, the detour."""

from __future__ import annotations

import msgspec
import pytest
from network_topologies import LAN, endpoint, network, port

from tare.network.model import Subnet
from tare.network.packet import Packet
from tare.network.rule_text import read_table
from tare.network.rule_walk import RuleWalk, Surroundings
from tare.network.ruleset import Detour, FirewallState, Forwarding, render

LAN6 = "2001:db8:7::5"
POOLS = (Subnet(subnet="10.0.0.0/24", gateway="10.0.0.1"), Subnet(subnet="fd00:1::/64", gateway="fd00:1::1"))
BRIDGE = network("bridge", 0, subnets=POOLS)
LOGIN = endpoint("login", BRIDGE, 2, address6="fd00:1::2", prefix_len6=64, gateway6="fd00:1::1")


def published(first: int, inside: int, address: str = "0.0.0.0", **changes: object) -> Forwarding:
    return Forwarding.to(LOGIN, msgspec.structs.replace(port(first, inside, address), **changes))


PORTS = (
    published(8080, 80),
    published(9000, 9000, count=11),
    published(7000, 6000, LAN, count=3),
    published(8443, 443, sources=("203.0.113.0/24",)),
    published(8080, 80, "::"),
    published(9000, 9000, "::", count=11),
    published(8443, 443, "::", sources=("2001:db8:9::/48",)),
)


def walk(detour: Detour | None) -> RuleWalk:
    state = FirewallState((BRIDGE, network("bank", 1, icc=False), network("vault", 2, internal=True)), PORTS, detour)
    return RuleWalk(
        read_table(render("tare", state)),
        Surroundings(lambda address: address in (LAN, LAN6), lambda _, version: LAN if version == 4 else LAN6),
    )


@pytest.mark.parametrize("detour", [None, Detour("out0", "back0")], ids=["direct", "detour"])
@pytest.mark.parametrize(
    ("source", "number", "verdict", "target"),
    [
        ("203.0.113.9", 8080, "accept", ("10.0.0.2", 80)),
        ("203.0.113.9", 9010, "accept", ("10.0.0.2", 9010)),
        ("203.0.113.9", 9011, "accept", (LAN, 9011)),
        ("203.0.113.9", 7002, "accept", ("10.0.0.2", 6002)),
        ("203.0.113.9", 8443, "accept", ("10.0.0.2", 443)),
        ("198.51.100.9", 8443, "drop", (LAN, 8443)),
        ("2001:db8:9::1", 8080, "accept", ("fd00:1::2", 80)),
        ("2001:db8:9::1", 9005, "accept", ("fd00:1::2", 9005)),
        ("2001:db8:9::1", 8443, "accept", ("fd00:1::2", 443)),
        ("2001:db8:a::1", 8443, "drop", (LAN6, 8443)),
    ],
)
def test_published_ports(
    detour: Detour | None, source: str, number: int, verdict: str, target: tuple[str, int]
) -> None:
    to = LAN6 if ":" in source else LAN
    packet = Packet(source, to, "tcp", number, iif=detour.back if detour else "eth0", local=True)
    passage = walk(detour).at("prerouting", packet)
    assert (passage.verdict, (passage.packet.destination, passage.packet.port)) == (verdict, target)


def test_what_is_on_the_way_to_the_hosts_input_is_not_translated_yet() -> None:
    packet = Packet("203.0.113.9", LAN, "tcp", 8080, iif="eth0", local=True)
    assert walk(Detour("out0", "back0")).at("prerouting", packet).packet == packet


@pytest.mark.parametrize(
    ("incoming", "outgoing", "translated", "verdict"),
    [
        ("tr-bridge", "tr-bridge", False, "accept"),
        ("tr-bridge", "tr-bank", False, "drop"),
        ("tr-bridge", "tr-bank", True, "accept"),
        ("tr-bank", "tr-bank", False, "drop"),
        ("tr-bank", "tr-bank", True, "accept"),
        ("tr-vault", "tr-vault", False, "accept"),
        ("tr-vault", "eth0", False, "drop"),
        ("eth0", "tr-vault", True, "drop"),
        ("eth0", "tr-bridge", False, "drop"),
        ("eth0", "tr-bridge", True, "accept"),
    ],
)
@pytest.mark.parametrize("address", ["10.0.0.9", "fd00:1::9"])
def test_forwarding(incoming: str, outgoing: str, translated: bool, verdict: str, address: str) -> None:
    packet = Packet(address, address, "tcp", 80, iif=incoming, oif=outgoing, translated=translated)
    assert walk(None).at("forward", packet).verdict == verdict
