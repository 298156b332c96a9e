"""Networks, containers, ports and who reaches whom, as a value that can be drawn. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from tare.network.exposure import Exposure
from tare.network.model import Network
from tare.network.reachability import Origin, Predictor
from tare.network.topology import HOST, Topology, address_of

MOST_PLACES = 200
"""Reachability is worked out between so many namespaces at most: it grows with the square."""


@dataclass(frozen=True, slots=True)
class Node:
    """A namespace with its containers' names (who owns it first), and what of it can be reached from outside."""

    names: tuple[str, ...]
    addresses: tuple[tuple[str, str], ...]
    exposures: tuple[Exposure, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """``nodes`` by namespace without the host's; ``reaches`` are pairs of namespaces, the host's among them.

    A node's ``addresses`` are pairs of network id and address. ``complete`` tells whether ``reaches`` says everything.
    """

    host_addresses: tuple[str, ...]
    host_containers: tuple[str, ...]
    networks: tuple[Network, ...]
    nodes: dict[str, Node]
    reaches: tuple[tuple[str, str], ...]
    complete: bool


def make_graph(predictor: Predictor, found: list[Exposure]) -> Graph:
    """The graph of a topology; ``found`` are its exposures."""
    topology = predictor.topology
    places = list(dict.fromkeys(member.namespace for member in topology.members if member.namespace != HOST))
    nodes = {place: _node(topology, place, found) for place in places}
    chosen = [*places[:MOST_PLACES], HOST]
    reaches = [(a, b) for a in chosen for b in chosen if a != b and _reaches(predictor, a, b)]
    own = [*topology.host_addresses(4), *topology.host_addresses(6)]
    return Graph(
        host_addresses=tuple(own),
        host_containers=tuple(member.name for member in topology.members_of(HOST)),
        networks=tuple(topology.networks.values()),
        nodes=nodes,
        reaches=tuple(reaches),
        complete=len(places) <= MOST_PLACES,
    )


def _node(topology: Topology, place: str, found: list[Exposure]) -> Node:
    names = tuple(member.name for member in topology.members_of(place))
    endpoints = [one for one in topology.endpoints if one.container_id == place]
    addresses = [
        (one.network_id, address) for one in endpoints for version in (4, 6) if (address := address_of(one, version))
    ]
    addresses += [(one.network_id, "") for one in endpoints if not one.address and not one.address6]
    return Node(names, tuple(addresses), tuple(one for one in found if one.container in names and one.port))


def _reaches(predictor: Predictor, source: str, target: str) -> bool:
    """Whether an echo request is answered at one of the target's addresses (the host's on the sender's networks)."""
    topology = predictor.topology
    if target == HOST:
        mine = {one.network_id for one in topology.endpoints_of(source)}
        networks = [network for network in topology.networks.values() if network.id in mine]
        addresses = [address for one in networks for address in (one.gateway, one.gateway6) if address]
    else:
        endpoints = topology.endpoints_of(target)
        addresses = [address for one in endpoints for version in (4, 6) if (address := address_of(one, version))]
    return any(predictor.predict(Origin(source), address, "icmp").open for address in addresses)
