"""Networks, endpoints and published ports: the documents stored in the database, frozen."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Iterator
from enum import StrEnum

import msgspec

LEAST_MTU6 = 1280
"""The least MTU of a link with IPv6 (RFC 8200, section 5)."""


class Driver(StrEnum):
    """How a network carries packets."""

    BRIDGE = "bridge"
    MACVLAN = "macvlan"
    HOST = "host"
    NONE = "none"

    @property
    def stored_as(self) -> str:
        """The driver's name in the Engine API (``null`` for ``none``)."""
        return "null" if self is Driver.NONE else self.value

    @property
    def has_interfaces(self) -> bool:
        """Whether an endpoint is an interface of its own, with addresses, in the container's network namespace."""
        return self in (Driver.BRIDGE, Driver.MACVLAN)


class Macvlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a macvlan network stands on: an interface of the host, and how frames pass between those above it.

    ``made`` tells that the engine made the parent, and removes it with the last network that is on it.
    """

    parent: str
    mode: str = "bridge"
    made: bool = False


class GatewayMode(StrEnum):
    """How the host passes packets between a bridge network and the outside.

    ``nat``: what leaves has the host's address, and published ports of the host lead in. ``nat-unprotected``: every
    port can be reached at the container's address, too. ``routed``: no address is translated; published ports are open
    at the container's address, and none of the host's. ``isolated``: the host has no address on the network, which is
    internal.
    """

    NAT = "nat"
    NAT_UNPROTECTED = "nat-unprotected"
    ROUTED = "routed"
    ISOLATED = "isolated"


class Subnet(msgspec.Struct, frozen=True, kw_only=True):
    """One address pool of a network: CIDR strings and the host's address in it; ``ip_range`` may be empty.

    ``aux_addresses`` are never given to endpoints. ``gateway_shown`` tells whether documents name the gateway: Docker
    leaves out one that it chose in a subnet that the user gave.
    """

    subnet: str
    gateway: str
    ip_range: str = ""
    aux_addresses: dict[str, str] = {}
    gateway_shown: bool = True

    @property
    def network(self) -> ipaddress.IPv4Network:
        """The pool as an address object; for pools of IPv4 only."""
        return ipaddress.IPv4Network(self.subnet)

    @property
    def block(self) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
        """The pool as an address object of its family."""
        return ipaddress.ip_network(self.subnet)

    @property
    def version(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.subnet else 4


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """A network. ``created`` is RFC 3339; ``bridge_name`` is empty unless the driver is bridge.

    ``subnet_given`` tells that the user chose the subnet of IPv4, ``subnet6_given`` that of IPv6: only there can
    endpoints ask for an address. ``ipv4`` and ``ipv6`` tell which families it has; ``idle_subnets`` are pools that were
    asked for although their family is off, which documents show and nothing uses, as in Docker.
    """

    id: str
    name: str
    driver: Driver
    created: str
    ipv4: bool = True
    ipv6: bool = False
    subnets: tuple[Subnet, ...] = ()
    subnet_given: bool = True
    subnet6_given: bool = False
    idle_subnets: tuple[Subnet, ...] = ()
    internal: bool = False
    icc: bool = True
    attachable: bool = False
    masquerade: bool = True
    mtu: int = 1500
    labels: dict[str, str] = {}
    options: dict[str, str] = {}
    ipam_options: dict[str, str] = {}
    bridge_name: str = ""
    macvlan: Macvlan | None = None

    @property
    def pool4(self) -> Subnet | None:
        """The (first) address pool of IPv4; None without one."""
        return next((pool for pool in self.subnets if pool.version == 4), None)

    @property
    def pool6(self) -> Subnet | None:
        """The (first) address pool of IPv6; None without one."""
        return next((pool for pool in self.subnets if pool.version == 6), None)

    @property
    def gateway(self) -> str:
        """The IPv4 address of the network's gateway, on a bridge the host's own; empty without one."""
        return self.pool4.gateway if self.pool4 and self.gateway_mode is not GatewayMode.ISOLATED else ""

    @property
    def gateway_mode(self) -> GatewayMode:
        """How IPv4 passes between a bridge network and the outside; ``nat`` for other drivers, which have no modes."""
        if self.driver is not Driver.BRIDGE:
            return GatewayMode.NAT
        return GatewayMode(self.options.get("com.docker.network.bridge.gateway_mode_ipv4", "nat"))

    @property
    def gateway6(self) -> str:
        """The host's IPv6 address on this network, in its canonical form; empty without one."""
        return str(ipaddress.IPv6Address(self.pool6.gateway)) if self.pool6 and self.pool6.gateway else ""

    @property
    def host_binding(self) -> str:
        """The host address of ports that are published without one; empty for every address."""
        value = self.options.get("com.docker.network.bridge.host_binding_ipv4", "")
        return "" if value == "0.0.0.0" else value  # noqa: S104 - compared, nothing is bound

    @property
    def interface_prefix(self) -> str:
        """What the names of its interfaces in containers begin with."""
        if self.driver is not Driver.BRIDGE:
            return "eth"
        return self.options.get("com.docker.network.container_iface_prefix", "") or "eth"

    @property
    def predefined(self) -> bool:
        """One of the networks that every engine has and nobody can remove."""
        return self.name in PREDEFINED

    @property
    def resolves_names(self) -> bool:
        """Whether containers on it find each other by name: user-defined networks only, as in Docker."""
        return self.driver.has_interfaces and not self.predefined


PREDEFINED = ("bridge", "host", "none")


EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - the notation for every address of the host; nothing is bound
"""Of IPv4 and of IPv6."""


class PublishedPort(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A host address and port that reaches a container port; ``host_address`` 0.0.0.0 or :: means every address.

    ``count`` ports from there on reach as many container ports. Only ``sources`` (CIDR blocks) may come, if there are.
    """

    protocol: str
    host_address: str
    host_port: int
    container_port: int
    count: int = 1
    sources: tuple[str, ...] = ()

    @property
    def family(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.host_address else 4

    def singles(self) -> Iterator[PublishedPort]:
        """The ports of the range one by one."""
        for offset in range(self.count):
            yield PublishedPort(
                protocol=self.protocol,
                host_address=self.host_address,
                host_port=self.host_port + offset,
                container_port=self.container_port + offset,
                sources=self.sources,
            )


class PortRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A port to publish; ``host_port`` 0 asks for any free one, an empty ``host_address`` for every address.

    With a ``last_host_port`` the first free one from ``host_port`` to it is taken; with a ``count`` as many ports in a
    row. Only ``sources`` (CIDR blocks) may come, if there are any.
    """

    container_port: int
    protocol: str = "tcp"
    host_address: str = ""
    host_port: int = 0
    last_host_port: int = 0
    count: int = 1
    sources: tuple[str, ...] = ()


class OpenPort(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """Ports of a container that the outside reaches at the container's IPv4 address (gateway mode ``routed``).

    They are ``count`` ports from ``port`` on. ``sources`` are the CIDR blocks that may come; empty for everybody.
    """

    protocol: str
    port: int
    count: int = 1
    sources: tuple[str, ...] = ()


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A container's place on one network. ``host_interface`` is empty unless the driver is bridge.

    Either family may be missing: its address, prefix length and gateway are empty then. ``default_route`` and
    ``default_route6`` tell whether the container's routes of each family lead through here.
    """

    id: str
    network_id: str
    network_name: str
    container_id: str
    container_name: str
    aliases: tuple[str, ...] = ()
    mac: str = ""
    address: str = ""
    prefix_len: int = 0
    gateway: str = ""
    address6: str = ""
    prefix_len6: int = 0
    gateway6: str = ""
    host_interface: str = ""
    interface: str = ""
    default_route: bool = True
    default_route6: bool = True
    gateway_priority: int = 0
    link_local: tuple[str, ...] = ()
    hostname: str = ""
    nameservers: tuple[str, ...] = ()
    """Addresses of resolvers that the container was given (``--dns``); empty for the host's."""
    links: tuple[tuple[str, str], ...] = ()
    """Private aliases, with the names on this network that they stand for: this container alone resolves them."""
    open_ports: tuple[OpenPort, ...] = ()

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its addresses, that of IPv4 first."""
        return tuple(address for address in (self.address, self.address6) if address)

    @property
    def dns_names(self) -> tuple[str, ...]:
        """The names that resolve to this endpoint: container name, aliases, short id, host name; each once."""
        return dns_names(self.container_name, self.aliases, self.container_id, self.hostname)


class AddressPool(msgspec.Struct, frozen=True, kw_only=True):
    """Where subnets come from: ``base`` is cut into pieces of prefix length ``size``."""

    base: str
    size: int

    def check(self) -> None:
        """Raises ValueError when it is no pool."""
        base = ipaddress.ip_network(self.base)
        if not base.prefixlen <= self.size <= base.max_prefixlen - 2:
            raise ValueError(f"address pool {self.base}: pieces of /{self.size} are not within it, or without room")


class NetworkSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the configuration says about networking.

    ``default_address_pools`` are used in this order; pieces that overlap a route of the host are skipped. Without one
    of IPv6 among them, subnets of IPv6 come from a range of unique local addresses (RFC 4193) of this host's own.
    ``port_range`` is where host ports come from when none is asked for, ``first_port`` where the search begins.
    ``default_subnet`` fixes the subnet of the
    network ``bridge``; ``ipv6`` gives it one of IPv6 as well, which ``default_subnet6`` fixes.
    """

    default_address_pools: tuple[AddressPool, ...] = (
        AddressPool(base="172.17.0.0/16", size=16),
        AddressPool(base="172.18.0.0/15", size=16),
        AddressPool(base="172.20.0.0/14", size=20),
        AddressPool(base="172.24.0.0/13", size=24),
        AddressPool(base="192.168.0.0/16", size=24),
    )
    default_subnet: str = ""
    ipv6: bool = False
    default_subnet6: str = ""
    mtu: int = 1500
    port_range: tuple[int, int] = (32768, 60999)
    first_port: int = 0
    resolv_conf: str = "/etc/resolv.conf"
    dns_idle_seconds: float = 10.0
    respect_host_firewall: bool = False
    """Whether the host's own input rules decide who reaches published ports, as they do for its own services."""


def dns_names(container_name: str, aliases: Iterable[str], container_id: str, hostname: str = "") -> tuple[str, ...]:
    """The names under which a container is found on a network that resolves names, each once."""
    names = (container_name, *aliases, container_id[:12], hostname)
    return tuple(dict.fromkeys(name for name in names if name))


def bridge_interface(instance: str, network_id: str, *, default: bool) -> str:
    """The bridge's interface name (at most 15 characters, so that engines side by side never clash)."""
    if default:
        return f"tr{instance}-0" if instance else "tare0"
    return f"tr{instance}-{network_id[:6]}" if instance else f"tr-{network_id[:12]}"


def detour_interfaces(instance: str) -> tuple[str, str]:
    """The names of the veth pair that packets take which the host's own firewall has let in."""
    prefix = f"tr{instance}" if instance else "tare"
    return f"{prefix}-out", f"{prefix}-back"


def detour_mark(instance: str) -> int:
    """The mark (and number of a routing table) of packets that come back on the detour; each engine has its own."""
    return 0x74000000 | int(instance or "0", 16)


def owns_interface(instance: str, name: str) -> bool:
    """Whether an interface of this name is a bridge of the engine ``instance``."""
    if instance:
        return re.fullmatch(rf"tr{re.escape(instance)}-(0|[0-9a-f]{{6}})", name) is not None
    return name == "tare0" or re.fullmatch(r"tr-[0-9a-f]{12}", name) is not None


def mac_from_address(address: str) -> str:
    """The MAC address for an IPv4 address: 02:42 and its four bytes; for one of IPv6 02 and five bytes of its digest.

    Derived, not random: when an address passes to another container, neighbours' caches stay right.
    """
    packed = ipaddress.ip_address(address).packed
    tail = b"\x42" + packed if len(packed) == 4 else hashlib.blake2s(packed, digest_size=5).digest()
    return "02:" + ":".join(f"{byte:02x}" for byte in tail)


def unique_local_pool(seed: bytes) -> AddressPool:
    """The range of unique local addresses that ``seed`` stands for, cut into /64 (RFC 4193, section 3.1: fd00::/8)."""
    prefix = b"\xfd" + hashlib.blake2s(seed, digest_size=5, person=b"tareula").digest()
    return AddressPool(base=str(ipaddress.IPv6Network((prefix.ljust(16, b"\0"), 48))), size=64)
