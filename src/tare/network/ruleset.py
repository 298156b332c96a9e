"""The firewall's ruleset as a pure function of the engine's networks and published ports.

The rules are fixed; networks and ports are elements of sets and maps, so that one more of them is one more element
and the path of a packet stays as long as it was.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from tare.network.model import EVERYWHERE, Driver, Endpoint, GatewayMode, Network, PublishedPort, Subnet
from tare.network.openings import Opening

_ALL = {"0.0.0.0": "0.0.0.0/0", "::": "::/0"}  # noqa: S104 - a notation, nothing is bound
_SECTION = re.compile(r'\s+(\w+ \S+ \{|comment "\w+")')  # of a listing, or of our own text


@dataclass(frozen=True, slots=True)
class Forwarding:
    """A published port and the container address that answers it."""

    port: PublishedPort
    address: str

    @classmethod
    def to(cls, endpoint: Endpoint, port: PublishedPort) -> Forwarding:
        """To the address that an endpoint has in the port's family."""
        return cls(port, endpoint.address6 if port.family == 6 else endpoint.address)

    def elements(self) -> Iterator[tuple[str, str]]:
        """Names of sets and maps, and their elements in nft(8)'s notation.

        A range whose numbers are the container's own is one element. dnat keeps a port or gives a fixed one, so that a
        range that is moved takes an element for each port.
        """
        port, suffix = self.port, "6" if self.port.family == 6 else ""
        everywhere = port.host_address in EVERYWHERE
        place = _ALL[port.host_address] if everywhere else port.host_address
        numbers = f"{port.host_port}-{port.host_port + port.count - 1}" if port.count > 1 else f"{port.host_port}"
        if port.count > 1 and port.host_port == port.container_port:
            yield f"ranges{suffix}", f"{port.protocol} . {place} . {numbers} : {self.address}"
        else:
            for single in port.singles():
                name, key = ("published_everywhere", "") if everywhere else ("published_at", f"{port.host_address} . ")
                target = f"{self.address} . {single.container_port}"
                yield f"{name}{suffix}", f"{port.protocol} . {key}{single.host_port} : {target}"
        yield f"offered{suffix}", f"{port.protocol} . {place} . {numbers}"
        if port.sources:
            yield f"limited{suffix}", f"{port.protocol} . {place} . {numbers}"
        for source in port.sources:
            yield f"permitted{suffix}", f"{port.protocol} . {source} . {place} . {numbers}"


@dataclass(frozen=True, slots=True)
class Detour:
    """A veth pair by which first packets that the host's own input policy has let in come back, to be forwarded.

    They have the ``mark`` until it is known where they go (:mod:`tare.network.detour_links` says what for).
    """

    out: str
    back: str
    mark: int = 0x74000000


DETOUR_ADDRESSES = ("169.254.0.1", "fe80::1")
"""Neighbours on the detour: what is sent to them comes back; no packet carries these addresses."""


@dataclass(frozen=True, slots=True)
class FirewallState:
    """All that the ruleset depends on."""

    networks: tuple[Network, ...] = ()
    forwardings: tuple[Forwarding, ...] = field(default=())
    detour: Detour | None = None
    openings: tuple[Opening, ...] = field(default=())


def network_elements(network: Network) -> list[tuple[str, str]]:
    """The elements (set or map, element) that a bridge network adds."""
    if network.driver is not Driver.BRIDGE:
        return []
    bridge = f'"{network.bridge_name}"'
    elements = [
        ("bridges", bridge),
        ("within", f"{bridge} . {bridge} : {'accept' if network.icc else 'goto only_published'}"),
    ]
    masqueraded = network.masquerade and not network.internal
    if network.gateway:
        elements += [("own_gateway", f"{bridge} . {network.gateway}"), ("gateways", network.gateway)]
    if pool := network.pool4:
        elements.append(("local_subnets", f"{pool.subnet} . {bridge}"))
        elements += _gateway_mode(network, pool)
    if pool := network.pool6:
        elements += [
            ("own_gateway6", f"{bridge} . {network.gateway6}"),
            ("gateways6", network.gateway6),
            ("local_subnets6", f"{pool.subnet} . {bridge}"),
        ]
        elements += [("masqueraded6", pool.subnet)] if masqueraded else []
    if network.internal:
        elements.append(("internal", bridge))
    return elements


def _gateway_mode(network: Network, pool: Subnet) -> list[tuple[str, str]]:
    """The elements that say how IPv4 passes between a network and the outside."""
    if network.internal:
        return []
    bridge, mode = f'"{network.bridge_name}"', network.gateway_mode
    if mode is GatewayMode.ROUTED:
        return [("routed", bridge)]
    elements = [("masqueraded", pool.subnet)] if network.masquerade else []
    return elements + ([("unprotected", bridge)] if mode is GatewayMode.NAT_UNPROTECTED else [])


def render(table: str, state: FirewallState, *, kept: bool = False) -> str:
    """All tables in nft(8)'s notation, as one transaction that replaces what was there.

    A table that is deleted and made anew is not replaced in one moment: the kernel unhooks and hooks its base chains
    one by one. ``kept`` empties and fills the tables that are there, which no packet sees; they must have the same
    :func:`shape`.
    """
    filled: dict[str, list[str]] = {}
    for network in state.networks:
        for name, element in network_elements(network):
            filled.setdefault(name, []).append(element)
    for forwarding in state.forwardings:
        for name, element in forwarding.elements():
            filled.setdefault(name, []).append(element)
    for opening in state.openings:
        name, element = opening.element()
        filled.setdefault(name, []).append(element)
    arrivals = "fib daddr type local" if state.detour is None else f'iifname "{state.detour.back}"'
    chains = _CHAINS.replace("ARRIVALS", arrivals)
    if state.detour is not None:
        chains += _DETOUR_CHAINS.format(back=state.detour.back, mark=state.detour.mark)
    text = _table("inet", table, _SETS, chains, filled, kept=kept)
    for family, name, kind, address in _HOST_TABLES:
        if state.detour is None:
            text += f"table {family} {table}\ndelete table {family} {table}\n"
            continue
        sets = {"offered": f"type inet_proto . {kind} . inet_service; flags interval"}
        chain = _HOST_CHAIN.format(family=family, address=address, device=state.detour.out)
        text += _table(family, table, sets, chain, {"offered": filled.get(name, [])}, kept=kept)
    return text


def _table(
    family: str, table: str, sets: Mapping[str, str], chains: str, filled: Mapping[str, list[str]], *, kept: bool
) -> str:
    """One table. ``kept``: its sets and chains stay where they are and are emptied and filled in the transaction."""
    mark = hashlib.sha256(repr((sorted(sets.items()), chains)).encode()).hexdigest()[:16]
    content = "\n".join(_set(name, header, filled.get(name, ())) for name, header in sets.items())
    if kept:
        clearing = f"flush table {family} {table}\n"
        clearing += "".join(f"flush {_kind(header)} {family} {table} {name}\n" for name, header in sets.items())
    else:
        clearing = f"table {family} {table}\ndelete table {family} {table}\n"
    return f'{clearing}table {family} {table} {{\n  comment "{mark}"\n{content}\n{chains}}}\n'


def shape(text: str) -> dict[str, set[str]]:
    """What tables are made of, by table: names and kinds of sets and chains, and the mark of their definitions.

    ``text`` is what :func:`render` gives, or what nft(8) lists.
    """
    found: dict[str, set[str]] = {}
    parts: set[str] = set()
    for line in text.splitlines():
        if section := _SECTION.fullmatch(line):
            parts.add(section[1])
        elif line.startswith("table ") and line.endswith("{"):
            parts = found.setdefault(line.removesuffix(" {"), set())
    return found


def render_change(verb: str, table: str, elements: Iterable[tuple[str, str]], detour: Detour | None = None) -> str:
    """Commands that ``add`` or ``delete`` elements; a deletion names keys only."""
    families = {name: family for family, name, _, _ in _HOST_TABLES}
    by_set: dict[str, list[str]] = {}
    for name, element in elements:
        if detour is not None or name not in families:
            by_set.setdefault(name, []).append(element.split(" : ", 1)[0] if verb == "delete" else element)
    lines = []
    for name, texts in by_set.items():
        family, own = (families[name], "offered") if name in families else ("inet", name)
        lines.append(f"{verb} element {family} {table} {own} {{ {', '.join(texts)} }}\n")
    return "".join(lines)


def render_removal(table: str) -> str:
    """Commands that delete all tables; absence is no error."""
    return "".join(f"table {family} {table}\ndelete table {family} {table}\n" for family in ("inet", "ip", "ip6"))


def _set(name: str, header: str, elements: Iterable[str]) -> str:
    body = ", ".join(sorted(elements))
    content = f"\n    elements = {{ {body} }}" if body else ""
    return f"  {_kind(header)} {name} {{\n    {header}{content}\n  }}"


def _kind(header: str) -> str:
    return "map" if " : " in header else "set"


_SETS = {
    "bridges": "type ifname",
    "internal": "type ifname",
    "within": "type ifname . ifname : verdict",
    "gateways": "type ipv4_addr",
    "own_gateway": "type ifname . ipv4_addr",
    "local_subnets": "type ipv4_addr . ifname; flags interval",
    "masqueraded": "type ipv4_addr; flags interval",
    "routed": "type ifname",
    "unprotected": "type ifname",
    "opened": "type ipv4_addr . inet_proto . inet_service; flags interval",
    "opened_to": "type ipv4_addr . ipv4_addr . inet_proto . inet_service; flags interval",
    "gateways6": "type ipv6_addr",
    "own_gateway6": "type ifname . ipv6_addr",
    "masqueraded6": "type ipv6_addr; flags interval",
    "local_subnets6": "type ipv6_addr . ifname; flags interval",
    "published_at": "type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service",
    "published_everywhere": "type inet_proto . inet_service : ipv4_addr . inet_service",
    "ranges": "type inet_proto . ipv4_addr . inet_service : ipv4_addr; flags interval",
    "limited": "type inet_proto . ipv4_addr . inet_service; flags interval",
    "permitted": "type inet_proto . ipv4_addr . ipv4_addr . inet_service; flags interval",
    "published_at6": "type inet_proto . ipv6_addr . inet_service : ipv6_addr . inet_service",
    "published_everywhere6": "type inet_proto . inet_service : ipv6_addr . inet_service",
    "ranges6": "type inet_proto . ipv6_addr . inet_service : ipv6_addr; flags interval",
    "limited6": "type inet_proto . ipv6_addr . inet_service; flags interval",
    "permitted6": "type inet_proto . ipv6_addr . ipv6_addr . inet_service; flags interval",
}

_HOST_TABLES = (
    ("ip", "offered", "ipv4_addr", DETOUR_ADDRESSES[0]),
    ("ip6", "offered6", "ipv6_addr", DETOUR_ADDRESSES[1]),
)
"""Tables that exist while the host's input policy governs published ports, as nft has no dup for both families: the
family, what the set's elements are called here, their type, and where on the detour's way out they go."""

_HOST_CHAIN = """\
  chain input {{
    type filter hook input priority 2000; policy accept;
    iifname != "lo" fib daddr type local meta l4proto . {family} daddr . th dport @offered \
dup to {address} device "{device}" drop comment "the host's firewall has let it in: on to the container"
  }}
"""

_DETOUR_CHAINS = """\
  chain coming_back {{
    type filter hook prerouting priority raw; policy accept;
    iifname "{back}" meta mark set {mark} comment "by the detour any source comes: filters of reverse paths know"
  }}
  chain going_on {{
    type filter hook forward priority mangle; policy accept;
    iifname "{back}" meta mark set 0 comment "the mark has done its work: no rule of others sees it"
  }}
"""

_CHAINS = """\
  chain publish {
    dnat ip to meta l4proto . ip daddr . th dport map @published_at
    dnat ip to meta l4proto . th dport map @published_everywhere
    dnat ip to meta l4proto . ip daddr . th dport map @ranges
    dnat ip6 to meta l4proto . ip6 daddr . th dport map @published_at6
    dnat ip6 to meta l4proto . th dport map @published_everywhere6
    dnat ip6 to meta l4proto . ip6 daddr . th dport map @ranges6
  }
  chain arriving {
    meta l4proto . ip daddr . th dport @limited meta l4proto . ip saddr . ip daddr . th dport != @permitted drop \
comment "published for other sources (from=)"
    meta l4proto . ip6 daddr . th dport @limited6 meta l4proto . ip6 saddr . ip6 daddr . th dport != @permitted6 drop \
comment "published for other sources (from=)"
    goto publish
  }
  chain only_published {
    ct status dnat accept
    drop
  }
  chain raw_prerouting {
    type filter hook prerouting priority raw; policy accept;
    iifname @bridges ip daddr 127.0.0.0/8 drop comment "route_localnet must not open the host's loopback"
    iifname @bridges ip saddr 127.0.0.0/8 drop
  }
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    iifname != "lo" ip daddr 127.0.0.0/8 return comment "ports on loopback are for the host alone"
    iifname != "lo" ip6 daddr ::1 return comment "ports on loopback are for the host alone"
    ARRIVALS jump arriving
  }
  chain output {
    type nat hook output priority -100; policy accept;
    ip6 daddr ::1 return comment "no answer comes back to ::1: refused at once, localhost goes on with 127.0.0.1"
    fib daddr type local jump publish
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname . oifname vmap @within
    iifname @bridges jump leaving
    oifname @bridges jump entering
  }
  chain leaving {
    iifname @internal drop
    oifname @bridges jump across
    accept
  }
  chain across {
    oifname @internal drop
    ct state established,related accept
    ct status dnat accept comment "published ports are for other networks, too"
    jump routed_ports
    drop comment "networks are isolated from each other"
  }
  chain routed_ports {
    ip daddr . meta l4proto . th dport @opened accept
    ip saddr . ip daddr . meta l4proto . th dport @opened_to accept
    oifname @routed meta l4proto icmp accept
  }
  chain entering {
    oifname @internal drop
    ct state established,related accept
    ct status dnat accept
    oifname @unprotected meta nfproto ipv4 accept
    jump routed_ports
    drop comment "only published ports are reachable from outside"
  }
  chain input {
    type filter hook input priority filter; policy accept;
    iifname @bridges jump to_host
  }
  chain to_host {
    ct state established,related accept
    icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255 accept comment "IPv6 has no ARP"
    iifname @internal drop
    iifname . ip daddr @own_gateway accept
    iifname . ip6 daddr @own_gateway6 accept
    ip daddr @gateways drop comment "another network's gateway"
    ip6 daddr @gateways6 drop comment "another network's gateway"
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    oifname @bridges jump into_bridge
    oifname != @bridges ip saddr @masqueraded masquerade
    oifname != @bridges ip6 saddr @masqueraded6 masquerade
  }
  chain into_bridge {
    ip saddr 127.0.0.0/8 masquerade comment "from the host through localhost"
    ct status dnat ip saddr . oifname @local_subnets masquerade comment "hairpin"
    ct status dnat ip6 saddr . oifname @local_subnets6 masquerade comment "hairpin"
  }
"""
