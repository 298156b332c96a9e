"""Who is where on the network at one moment: what reachability is predicted from. Values only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_interface, ip_network

from tare.network.model import Driver, Endpoint, Network, PublishedPort
from tare.network.ruleset import FirewallState

HOST = ""
"""The name of the host's own network namespace, where containers' are named by the id of who owns them."""

MOST = 3
"""How many of the host's own addresses are looked at, of each IP version."""

ANY_ADDRESS = {4: "0.0.0.0", 6: "::"}  # noqa: S104 - compared, nothing is bound


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that takes connections or datagrams; ``address`` is 0.0.0.0 or :: for every address.

    ``only6`` tells that one on :: does not serve IPv4. ``inode`` is the socket's number in proc(5).
    """

    protocol: str
    address: str
    port: int
    only6: bool = False
    inode: int = 0

    def serves(self, address: str) -> bool:
        """Whether what arrives for ``address`` gets here."""
        if self.address == address:
            return True
        version = ip_address(address).version
        if self.address == ANY_ADDRESS[6]:
            return version == 6 or not self.only6
        return self.address == ANY_ADDRESS[4] and version == 4


@dataclass(frozen=True, slots=True)
class Member:
    """A running container: the namespace it is in is named by ``namespace`` (its own id, another's, or HOST)."""

    id: str
    name: str
    namespace: str


@dataclass(frozen=True, slots=True)
class HostFacts:
    """The host's addresses (loopback's too), and whether bridged packets pass the firewall, by IP version.

    The latter is ``net.bridge.bridge-nf-call-iptables`` and ``…-ip6tables``. ``forwarding`` is whether packets of that
    version are routed at all, ``primary`` the address that the host sends from to the outside.
    """

    addresses: frozenset[str] = frozenset()
    primary: Mapping[int, str] = field(default_factory=dict)
    bridge_filtering: Mapping[int, bool] = field(default_factory=lambda: {4: True, 6: True})
    forwarding: Mapping[int, bool] = field(default_factory=lambda: {4: True, 6: True})


@dataclass(frozen=True)
class Topology:
    """Everything at one moment. ``table`` is the name of the engine's nftables table.

    ``listeners`` are known by namespace; one that is missing was not looked at.
    """

    table: str
    host: HostFacts
    networks: Mapping[str, Network]
    endpoints: tuple[Endpoint, ...]
    members: tuple[Member, ...]
    firewall: FirewallState
    published: tuple[tuple[Endpoint, PublishedPort], ...] = ()
    listeners: Mapping[str, frozenset[Listener]] = field(default_factory=dict)

    def member(self, reference: str) -> Member | None:
        """The container of a name, id, or unique beginning of an id."""
        for one in self.members:
            if reference in (one.name, one.id):
                return one
        found = [one for one in self.members if len(reference) >= 3 and one.id.startswith(reference)]
        return found[0] if len(found) == 1 else None

    def members_of(self, namespace: str) -> list[Member]:
        """The containers that share a namespace, its owner first."""
        return sorted((one for one in self.members if one.namespace == namespace), key=lambda one: one.id != namespace)

    @cached_property
    def _by_namespace(self) -> dict[str, list[Endpoint]]:
        found: dict[str, list[Endpoint]] = {}
        for one in sorted(self.endpoints, key=lambda one: not has_route(one)):
            if one.address or one.address6:
                found.setdefault(one.container_id, []).append(one)
        return found

    @cached_property
    def _by_address(self) -> dict[str, Endpoint]:
        return {address: one for one in self.endpoints for address in (one.address, one.address6) if address}

    @cached_property
    def _pools(self) -> list[tuple[IPv4Network | IPv6Network, Network]]:
        bridges = (network for network in self.networks.values() if network.driver is Driver.BRIDGE)
        return [(ip_network(pool.subnet), network) for network in bridges for pool in network.subnets]

    def endpoints_of(self, namespace: str) -> list[Endpoint]:
        """The interfaces of a namespace, that with the default route first."""
        return self._by_namespace.get(namespace, [])

    def owner_of(self, address: str) -> Endpoint | None:
        """The endpoint that has an address."""
        return self._by_address.get(address)

    def network_of_gateway(self, address: str) -> Network | None:
        """The network on which the host has ``address``."""
        for network in self.networks.values():
            if network.driver is Driver.BRIDGE and address in (network.gateway, network.gateway6):
                return network
        return None

    def network_around(self, address: str) -> Network | None:
        """The network with a bridge in whose subnet an address lies."""
        one = ip_address(address)
        return next((network for subnet, network in self._pools if one in subnet), None)

    def network_reached(self, address: str) -> Network | None:
        """The network around an address, if the host has an address there, and with it a route."""
        network = self.network_around(address)
        return network if network and (network.gateway6 if ":" in address else network.gateway) else None

    def is_local(self, address: str) -> bool:
        """Whether an address is the host's."""
        return address in self.host.addresses or ip_address(address).is_loopback

    def host_addresses(self, version: int) -> list[str]:
        """Up to MOST of the host's addresses on interfaces of its own (no loopback, no gateway), the primary first."""
        found = sorted(
            address
            for address in self.host.addresses
            if ip_address(address).version == version
            and not ip_address(address).is_loopback
            and not ip_address(address).is_link_local
            and self.network_around(address) is None
        )
        primary = self.host.primary.get(version, "")
        return sorted(found, key=lambda address: address != primary)[:MOST]


def has_route(endpoint: Endpoint) -> bool:
    """Whether a default route of the namespace, of either IP version, goes through this endpoint."""
    return leads_out(endpoint, 4) or leads_out(endpoint, 6)


def leads_out(endpoint: Endpoint, version: int) -> bool:
    """Whether the namespace's default route of an IP version goes through this endpoint."""
    chosen = endpoint.default_route6 if version == 6 else endpoint.default_route
    return chosen and bool(gateway_of(endpoint, version))


def address_of(endpoint: Endpoint, version: int) -> str:
    """Its address of an IP version; empty without one."""
    return endpoint.address6 if version == 6 else endpoint.address


def gateway_of(endpoint: Endpoint, version: int) -> str:
    """The host's address that it sends to what is not on its network; empty without one."""
    return endpoint.gateway6 if version == 6 else endpoint.gateway


def on_link(endpoint: Endpoint, address: str) -> bool:
    """Whether its namespace reaches an address through this endpoint without a gateway."""
    version = ip_address(address).version
    mine = address_of(endpoint, version)
    length = endpoint.prefix_len6 if version == 6 else endpoint.prefix_len
    return bool(mine) and ip_address(address) in ip_interface(f"{mine}/{length}").network


def contains(subnet: str, address: str) -> bool:
    """Whether a subnet (CIDR) contains an address; of different IP versions it does not."""
    network, one = ip_network(subnet), ip_address(address)
    return network.version == one.version and one in network


def listening(listeners: Iterable[Listener], protocol: str, address: str, port: int) -> bool:
    """Whether one of the sockets takes what arrives for ``address`` and ``port``."""
    return any(one.protocol == protocol and one.port == port and one.serves(address) for one in listeners)
