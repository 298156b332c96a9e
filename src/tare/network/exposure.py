"""What the world can reach: published ports, and what listens where no firewall of the engine's is. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from tare.network.model import Driver, Endpoint, GatewayMode, PublishedPort
from tare.network.openings import Opening, openings
from tare.network.reachability import OUTSIDE, Origin, Predictor, Verdict
from tare.network.topology import ANY_ADDRESS, HOST, Listener, Topology, listening

EVERYWHERE = "published on every address of the host"
HOST_NETWORK = "uses the host's network: not isolated from the host"
UNFILTERED = "listens on every address of the host"
ON_THE_LAN = "is a machine of the LAN: no firewall of the host's is in between"
UNPROTECTED = "the network's gateway mode nat-unprotected lets the outside in"

OUTSIDE_SCOPE, HOST_SCOPE = "outside", "host"


@dataclass(frozen=True, slots=True)
class Exposure:
    """A place where a container can be reached, or a container without isolation (``port`` 0).

    ``kind`` is ``published``, ``host`` (network of the host), ``lan`` (macvlan), or ``address`` (the container's own on
    a bridge: gateway modes ``routed`` and ``nat-unprotected``). ``scope`` is ``outside``, or
    ``host`` when only the host itself gets there. ``sources`` limit who may come (CIDR; empty: everybody).
    ``listening`` tells whether somebody answers now. ``risk`` is a sentence, empty without one.
    """

    kind: str
    container: str
    network: str
    protocol: str
    address: str
    port: int
    container_port: int
    scope: str
    listening: bool
    sources: tuple[str, ...] = ()
    risk: str = ""


def exposures(predictor: Predictor, sockets: Mapping[str, frozenset[int]]) -> list[Exposure]:
    """All of them, those with a risk first; ``sockets`` are the inodes of each host-network container's sockets."""
    topology = predictor.topology
    found = [_published(predictor, endpoint, one) for endpoint, port in topology.published for one in port.singles()]
    for member in topology.members_of(HOST):
        found.append(
            Exposure("host", member.name, "host", "", "", 0, 0, OUTSIDE_SCOPE, listening=False, risk=HOST_NETWORK)
        )
        mine = sockets.get(member.id, frozenset())
        waiting = [one for one in topology.listeners.get(HOST, ()) if one.inode in mine]
        found += [_on_host(member.name, one) for one in waiting]
    for endpoint in topology.endpoints:
        network = topology.networks[endpoint.network_id]
        if endpoint.address and network.driver is not Driver.BRIDGE and not network.internal:
            found += _listening(endpoint, topology, kind="lan", risk=ON_THE_LAN)
        elif endpoint.address and network.gateway_mode is GatewayMode.NAT_UNPROTECTED and not network.internal:
            found += _listening(endpoint, topology, kind="address", risk=UNPROTECTED)
        for opening in openings(endpoint):
            found += _opened(endpoint, opening, topology)
    return sorted(found, key=lambda one: (not one.risk, one.container, one.port, one.protocol, one.address))


def _published(predictor: Predictor, endpoint: Endpoint, port: PublishedPort) -> Exposure:
    topology = predictor.topology
    version = 6 if ":" in port.host_address else 4
    everywhere = port.host_address in ANY_ADDRESS.values()
    address = next(iter(topology.host_addresses(version)), "127.0.0.1") if everywhere else port.host_address
    local = ip_address(address).is_loopback
    permitted = str(ip_network(port.sources[0], strict=False).network_address) if port.sources else ""
    origin = Origin(HOST) if local else Origin(OUTSIDE, permitted)
    prediction = predictor.predict(origin, address, port.protocol, port.host_port)
    return Exposure(
        kind="published",
        container=endpoint.container_name,
        network=endpoint.network_name,
        protocol=port.protocol,
        address=port.host_address,
        port=port.host_port,
        container_port=port.container_port,
        scope=HOST_SCOPE if local else OUTSIDE_SCOPE,
        listening=prediction.verdict is Verdict.REACHABLE,
        sources=port.sources,
        risk=EVERYWHERE if everywhere and not port.sources else "",
    )


def _on_host(container: str, one: Listener) -> Exposure:
    local = ip_address(one.address).is_loopback
    return Exposure(
        kind="host",
        container=container,
        network="host",
        protocol=one.protocol,
        address=one.address,
        port=one.port,
        container_port=one.port,
        scope=HOST_SCOPE if local else OUTSIDE_SCOPE,
        listening=True,
        risk=UNFILTERED if one.address in ANY_ADDRESS.values() else "",
    )


def _listening(endpoint: Endpoint, topology: Topology, *, kind: str, risk: str) -> list[Exposure]:
    """All that listens at an endpoint's IPv4 address."""
    waiting = (one for one in topology.listeners.get(endpoint.container_id, ()) if one.serves(endpoint.address))
    return [_at_address(endpoint, kind, one.protocol, one.port, risk=risk) for one in waiting]


def _opened(endpoint: Endpoint, opening: Opening, topology: Topology) -> list[Exposure]:
    """The open ports of one element, listened to or not."""
    known = topology.listeners.get(endpoint.container_id, ())
    sources = (opening.source,) if opening.source else ()
    return [
        _at_address(
            endpoint,
            "address",
            opening.protocol,
            number,
            listening=listening(known, opening.protocol, endpoint.address, number),
            sources=sources,
        )
        for number in range(opening.first, opening.last + 1)
    ]


def _at_address(
    endpoint: Endpoint,
    kind: str,
    protocol: str,
    port: int,
    *,
    listening: bool = True,
    sources: tuple[str, ...] = (),
    risk: str = "",
) -> Exposure:
    return Exposure(
        kind=kind,
        container=endpoint.container_name,
        network=endpoint.network_name,
        protocol=protocol,
        address=endpoint.address,
        port=port,
        container_port=port,
        scope=OUTSIDE_SCOPE,
        listening=listening,
        sources=sources,
        risk=risk,
    )
