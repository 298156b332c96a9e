"""The table of attempts, made from the scene: who tries to reach what, and in which way.

Addresses have names here, so that a record fits every run: ``d1@bridge`` is the container's on that network,
``gateway@alpha`` the host's on it, ``link@six/6`` the host's of the link alone (fe80::), ``host@lan`` and
``host@loopback`` the host's others, ``name:d1`` what the container's resolver knows; ``/6`` behind it is IPv6.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lab import topology
from lab.scene import (
    CONTAINERS,
    HOST_MODE_PORT,
    HOST_SERVICE,
    NETWORKS,
    NOBODY,
    REROUTED,
    WEB,
    LabContainer,
    Publication,
)

PLACES = {
    "host@lan": topology.HOST,
    "host@lan/6": topology.HOST6,
    "host@loopback": "127.0.0.1",
    "host@loopback/6": "::1",
    "neighbour@lan": topology.NEIGHBOUR,
    "neighbour@lan/6": topology.NEIGHBOUR6,
    "wan": topology.WAN,
    "wan/6": topology.WAN6,
} | {
    f"gateway@{network.name}{'/6' if ':' in gateway else ''}": gateway
    for network in NETWORKS
    for _, gateway in network.pools
}
"""The addresses that no engine chooses."""

BY_NAME = "name:"
WITHIN = "within a network"
SERVICES = (("tcp", WEB), ("udp", WEB), ("icmp", 0))
MEMBERS = {network.name: [item.name for item in CONTAINERS if network.name in item.networks] for network in NETWORKS}
TRYING = ("d2", "a2", "b2", "g2", "i2", "p2", "both", "s2", "o1", "v2", "n1", "alone")
"""One container of every network, one of two, one of none."""
OUTSIDERS = ("neighbour", "wan")
SIX_NETWORKS = tuple(network.name for network in NETWORKS if network.subnet6)
FOUR_NETWORKS = tuple(network.name for network in NETWORKS if network.subnet)


@dataclass(frozen=True, order=True)
class Attempt:
    """One attempt; ``target`` names an address (see the module)."""

    kind: str
    source: str
    target: str
    protocol: str
    port: int
    later: bool = False
    """Whether it is made when the lab has changed (``lab.changed``)."""

    @property
    def key(self) -> str:
        """What it is called in records."""
        port = f"/{self.port}" if self.port else ""
        return f"{'later: ' if self.later else ''}{self.source} > {self.target} {self.protocol}{port}"

    @property
    def six(self) -> bool:
        """Whether it is IPv6."""
        return self.target.endswith("/6")


def attempts() -> list[Attempt]:
    """Every attempt, each once, in order."""
    found: dict[str, Attempt] = {}
    for attempt in _all():
        found.setdefault(attempt.key, attempt)
    return sorted(found.values())


def _all() -> Iterator[Attempt]:
    yield from _within()
    yield from _between()
    yield from _to_the_host()
    yield from _published()
    yield from _from_the_host()
    yield from _from_outside()
    yield from _loopback_from_afar()
    yield from _leaving()
    yield from _from_inside()
    yield from _on_the_link()
    yield from _sharing()
    yield from _by_name()
    yield from _later()


def _within() -> Iterator[Attempt]:
    """Containers of one network."""
    for network, members in MEMBERS.items():
        for source in members:
            for target in members:
                if source == target:
                    continue
                for label in _families(f"{target}@{network}", network):
                    for protocol, port in (*SERVICES, ("tcp", NOBODY)):
                        yield Attempt(WITHIN, source, label, protocol, port)


def _between() -> Iterator[Attempt]:
    """Containers of different networks, by address."""
    for source in TRYING:
        for network, members in MEMBERS.items():
            if source in members:
                continue
            for label in _reachable_families(source, f"{members[0]}@{network}", network):
                for protocol, port in SERVICES:
                    yield Attempt("between networks", source, label, protocol, port)


def _to_the_host() -> Iterator[Attempt]:
    """Containers to the host: by their own gateway, another network's, and the LAN address."""
    for source in (*TRYING, "i1"):
        for network, members in MEMBERS.items():
            kind = "own gateway" if source in members else "another network's gateway"
            for label in _reachable_families(source, f"gateway@{network}", network):
                yield Attempt(kind, source, label, "tcp", HOST_SERVICE)
                yield Attempt(kind, source, label, "icmp", 0)
        for label in _reachable_families(source, "host@lan"):
            for protocol, port in (("tcp", HOST_SERVICE), ("udp", HOST_SERVICE), ("icmp", 0), ("tcp", NOBODY)):
                yield Attempt("container to host", source, label, protocol, port)
            yield Attempt("container in host mode", source, label, "tcp", HOST_MODE_PORT)


def _published() -> Iterator[Attempt]:
    """Containers to published ports: by the host's LAN address, the publisher's gateway and their own."""
    for publisher, port in publications():
        network = publisher.networks[0]
        for source in (*TRYING, publisher.name):
            kind = "hairpin" if source == publisher.name else "published port from a container"
            mine = next(item.networks[0] for item in CONTAINERS if item.name == source)
            for place, family in (("host@lan", ""), (f"gateway@{network}", network), (f"gateway@{mine}", mine)):
                if place != "gateway@none":
                    for label in _reachable_families(source, place, family):
                        yield _to_port(kind, source, label, port)


def _from_the_host() -> Iterator[Attempt]:
    """The host, and a container in its namespace, to containers and published ports."""
    for source in ("host", "h1"):
        kind = "host" if source == "host" else "container in host mode"
        for network, members in MEMBERS.items():
            for label in _families(f"{members[0]}@{network}", network):
                for protocol, number in (*SERVICES, ("tcp", NOBODY)):
                    yield Attempt(f"{kind} to container", source, label, protocol, number)
        for publisher, port in publications():
            network = publisher.networks[0]
            gateways = _families(f"gateway@{network}", network)
            places = ("host@loopback", "host@loopback/6", "host@lan", "host@lan/6", *gateways)
            for place in places if source == "host" else places[:1]:
                yield _to_port(f"{kind} to published port", source, place, port)
    for label in ("wan", "wan/6", "neighbour@lan", "neighbour@lan/6"):
        for protocol, number in SERVICES:
            yield Attempt("container in host mode", "h1", label, protocol, number)


def _from_outside() -> Iterator[Attempt]:
    """The neighbour and the WAN client: published ports, the host's own, and straight to containers and gateways."""
    for source in OUTSIDERS:
        for place in ("host@lan", "host@lan/6"):
            for _, port in publications():
                yield _to_port("published port from outside", source, place, port)
            for number in (HOST_SERVICE, HOST_MODE_PORT):
                yield Attempt("host from outside", source, place, "tcp", number)
            yield Attempt("host from outside", source, place, "icmp", 0)
        for network, members in MEMBERS.items():
            for label in _families(f"{members[0]}@{network}", network):
                for protocol, number in (*SERVICES, ("tcp", NOBODY)):
                    yield Attempt("routed to a container from outside", source, label, protocol, number)
            for label in _families(f"gateway@{network}", network):
                yield Attempt("gateway from outside", source, label, "tcp", HOST_SERVICE)
                yield Attempt("gateway from outside", source, label, "icmp", 0)
        for publisher, port in publications():
            for label in _families(f"gateway@{publisher.networks[0]}", publisher.networks[0]):
                yield _to_port("published port from outside by a gateway", source, label, port)


def _loopback_from_afar() -> Iterator[Attempt]:
    """127.0.0.1 of the host, from where it has been routed to."""
    for source in ("neighbour", "attacker"):
        kind = "host's loopback from " + ("the LAN" if source == "neighbour" else "a container")
        for _, port in publications():
            yield _to_port(kind, source, "host@loopback", port)
        yield Attempt(kind, source, "host@loopback", "tcp", HOST_SERVICE)
        yield Attempt(kind, source, "host@loopback", "udp", HOST_SERVICE)
        yield Attempt(kind, source, "host@loopback", "icmp", 0)


def _leaving() -> Iterator[Attempt]:
    """Containers to the LAN and beyond."""
    for source in TRYING:
        for place in ("wan", "neighbour@lan"):
            for label in _reachable_families(source, place):
                for protocol, port in SERVICES:
                    yield Attempt("container to outside", source, label, protocol, port)


def _from_inside() -> Iterator[Attempt]:
    """Somebody in internal networks who has given himself a default route."""
    source, kind = "insider", "out of an internal network with a route of its own"
    for network, members in MEMBERS.items():
        if source in members:
            continue
        for label in (*_families(f"{members[0]}@{network}", network), *_families(f"gateway@{network}", network)):
            for protocol, port in (*SERVICES, ("tcp", HOST_SERVICE)):
                yield Attempt(kind, source, label, protocol, port)
    for place in ("host@lan", "wan", "neighbour@lan"):
        for label in (place, f"{place}/6"):
            for protocol, port in (*SERVICES, ("tcp", HOST_SERVICE)):
                yield Attempt(kind, source, label, protocol, port)
    for _, published in publications():
        yield _to_port(kind, source, "host@lan", published)
        yield _to_port(kind, source, "host@lan/6", published)


def _on_the_link() -> Iterator[Attempt]:
    """Containers to the host's address that every bridge with IPv6 has on its own link."""
    for network in SIX_NETWORKS:
        for source in MEMBERS[network]:
            if source not in REROUTED:
                yield Attempt("host's address on the link", source, f"link@{network}/6", "tcp", HOST_SERVICE)
                yield Attempt("host's address on the link", source, f"link@{network}/6", "icmp", 0)


def _sharing() -> Iterator[Attempt]:
    """A container in the namespace of another."""
    for label in ("host@loopback", "a1@alpha", "a2@alpha", "b1@beta", "i1@inner", "wan", "gateway@beta"):
        for protocol, port in SERVICES:
            yield Attempt("container in another's namespace", "sidecar", label, protocol, port)


def _by_name() -> Iterator[Attempt]:
    """Containers by their names."""
    for source in TRYING:
        for target in ("d1", "a1", "b1", "g1", "i1", "s1", "o1", "both"):
            if source != target:
                yield Attempt("by name", source, f"{BY_NAME}{target}", "tcp", WEB)


def _later() -> Iterator[Attempt]:
    """What must have gone with those who left, and what those who came have, and have not."""
    tries = [
        *(("neighbour", "host@lan", protocol, port) for protocol, port in _GONE_PORTS),
        *(("host", "host@lan", protocol, port) for protocol, port in _GONE_PORTS),
        *(("host", "host@loopback", "tcp", port) for port in (8000, 8001, 8200, 8100)),
        *((source, "host@lan", "tcp", port) for source in ("a2", "b2", "d2") for port in (8000, 8200, 8100)),
        *(("neighbour", label, *SERVICES[0]) for label in _families("d3@bridge")),
        *((source, label, *SERVICES[0]) for source in ("d2", "host", "a1") for label in _families("d3@bridge")),
        *(("d3", place, *SERVICES[0]) for place in ("d2@bridge", "wan", "wan/6", "host@lan", "b2@beta")),
        *((source, target, protocol, port) for source, target in _JOINED for protocol, port in SERVICES),
        *(("x1", place, *SERVICES[0]) for place in ("wan", "wan/6", "a1@alpha", "s1@six/6", "gateway@beta")),
        *((source, label, *SERVICES[0]) for source in ("a1", "s2", "neighbour") for label in _families("x1@again")),
    ]
    for source, target, protocol, port in tries:
        if not target.endswith("/6") or source not in ("a1", "a2"):
            yield Attempt("after changes", source, target, protocol, port, later=True)


_GONE_PORTS = (("tcp", 8000), ("tcp", 8002), ("udp", 8003), ("tcp", 8200), ("tcp", 8100))
_JOINED = (("a2", "b2@beta"), ("b2", "a2@beta"), ("a2", "g1@gamma"), ("both", "b2@beta"), ("both", "a1@alpha"))


def publications() -> Iterable[tuple[LabContainer, Publication]]:
    """Every published port with its container."""
    return ((container, port) for container in CONTAINERS for port in container.publishes)


def _to_port(kind: str, source: str, target: str, port: Publication) -> Attempt:
    return Attempt(kind, source, target, port.protocol, port.host_port)


def _families(label: str, network: str = "") -> tuple[str, ...]:
    """The names of an address of each family that the network has; without a network of both."""
    found = (label,) if not network or network in FOUR_NETWORKS else ()
    return (*found, f"{label}/6") if not network or network in SIX_NETWORKS else found


def _reachable_families(source: str, label: str, network: str = "") -> tuple[str, ...]:
    """IPv6 only for those who have it: without an address of the family every attempt fails alike."""
    has_six = source == "alone" or any(source in MEMBERS[name] for name in SIX_NETWORKS)
    return tuple(name for name in _families(label, network) if has_six or not name.endswith("/6"))
