"""What runs in the lab: networks, containers, published ports. The same for every engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lab import topology

OPTION = "com.docker.network.bridge"
WEB = 80
"""Where every container listens, over TCP and UDP."""

NOBODY = 99
"""Where nothing listens."""
HOST_SERVICE = 90
"""Where the host listens."""


@dataclass(frozen=True)
class LabNetwork:
    """A network; the subnet of a family that it has not is empty. The default network ``bridge`` is there already."""

    name: str
    subnet: str
    gateway: str
    subnet6: str = ""
    gateway6: str = ""
    internal: bool = False
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def icc(self) -> bool:
        """Whether its containers reach each other."""
        return self.options.get(f"{OPTION}.enable_icc") != "false"

    @property
    def masquerade(self) -> bool:
        """Whether what leaves the host has the host's address."""
        return self.options.get(f"{OPTION}.enable_ip_masquerade") != "false"

    @property
    def pools(self) -> list[tuple[str, str]]:
        """Subnet and the host's address in it, of each family that it has."""
        both = ((self.subnet, self.gateway), (self.subnet6, self.gateway6))
        return [(subnet, gateway) for subnet, gateway in both if subnet]


@dataclass(frozen=True)
class Publication:
    """``-p <address>:<host_port>:<container_port>/<protocol>``; an empty address is every one of the host's."""

    host_port: int
    container_port: int = WEB
    protocol: str = "tcp"
    address: str = ""


@dataclass(frozen=True)
class LabContainer:
    """A container: the networks that it is on, in order, or a mode: ``host``, ``none``, ``container:<name>``."""

    name: str
    networks: tuple[str, ...]
    publishes: tuple[Publication, ...] = ()


BRIDGE_ADDRESS = "10.201.0.1/24"
"""The address of the default bridge and the length of its subnet."""

NETWORKS = (
    LabNetwork("bridge", "10.201.0.0/24", "10.201.0.1", "fd00:db8::/64", "fd00:db8::1"),
    LabNetwork("alpha", "10.201.1.0/24", "10.201.1.1"),
    LabNetwork("beta", "10.201.2.0/24", "10.201.2.1"),
    LabNetwork(
        "gamma",
        "10.201.3.0/24",
        "10.201.3.1",
        "fd00:db8:3::/64",
        "fd00:db8:3::1",
        options={f"{OPTION}.enable_icc": "false"},
    ),
    LabNetwork("inner", "10.201.4.0/24", "10.201.4.1", internal=True),
    LabNetwork(
        "plain",
        "10.201.5.0/24",
        "10.201.5.1",
        options={f"{OPTION}.enable_ip_masquerade": "false", f"{OPTION}.host_binding_ipv4": "127.0.0.1"},
    ),
    LabNetwork("six", "10.201.6.0/24", "10.201.6.1", "fd00:db8:6::/64", "fd00:db8:6::1"),
    LabNetwork("other6", "10.201.7.0/24", "10.201.7.1", "fd00:db8:7::/64", "fd00:db8:7::1"),
    LabNetwork("only6", "", "", "fd00:db8:9::/64", "fd00:db8:9::1"),
    LabNetwork("inner6", "10.201.8.0/24", "10.201.8.1", "fd00:db8:8::/64", "fd00:db8:8::1", internal=True),
)

CONTAINERS = (
    LabContainer(
        "d1",
        ("bridge",),
        (
            Publication(8000),
            Publication(8001, address="127.0.0.1"),
            Publication(8002, address=topology.HOST),
            Publication(8003, protocol="udp"),
            Publication(8004, NOBODY),
            Publication(8005, protocol="udp", address="127.0.0.1"),
        ),
    ),
    LabContainer("d2", ("bridge",)),
    LabContainer(
        "a1",
        ("alpha",),
        (
            Publication(8100),
            Publication(8101, address="127.0.0.1"),
            Publication(8102, address=topology.HOST),
            Publication(8103, protocol="udp"),
        ),
    ),
    LabContainer("a2", ("alpha",)),
    LabContainer("b1", ("beta",), (Publication(8200),)),
    LabContainer("b2", ("beta",)),
    LabContainer("g1", ("gamma",), (Publication(8300),)),
    LabContainer("g2", ("gamma",)),
    LabContainer("i1", ("inner",), (Publication(8400),)),
    LabContainer("i2", ("inner",)),
    LabContainer("p1", ("plain",), (Publication(8500), Publication(8502, address=topology.HOST))),
    LabContainer("p2", ("plain",)),
    LabContainer("both", ("alpha", "beta")),
    LabContainer("attacker", ("beta",)),
    LabContainer("insider", ("inner", "inner6")),
    LabContainer(
        "s1", ("six",), (Publication(8600), Publication(8601, address="::1"), Publication(8603, protocol="udp"))
    ),
    LabContainer("s2", ("six",)),
    LabContainer("o1", ("other6",)),
    LabContainer("v1", ("only6",), (Publication(8900),)),
    LabContainer("v2", ("only6",)),
    LabContainer("n1", ("inner6",)),
    LabContainer("h1", ("host",)),
    LabContainer("alone", ("none",)),
    LabContainer("sidecar", ("container:a1",)),
)
AGAIN = LabNetwork("again", "10.201.7.0/24", "10.201.7.1", "fd00:db8:7::/64", "fd00:db8:7::1")
"""A network that comes later, in the subnets of ``other6``, which has gone by then."""
LATER = (LabContainer("d3", ("bridge",)), LabContainer("x1", ("again",)))
"""Containers that come later: ``d3`` when ``d1`` has gone, whose address it takes, and ``x1`` when ``o1`` has."""

HOST_MODE_PORT = 91
"""Where the container in host mode listens."""

REROUTED = {
    "attacker": """
addr del 127.0.0.1/8 dev lo
route add 127.0.0.0/8 via 10.201.2.1
""",
    "insider": """
route add default via 10.201.4.1
route add default via fd00:db8:8::1
""",
}
"""Routes that somebody with the capability NET_ADMIN gives a container: to the host's loopback, and out of networks
that have no way out."""
