"""The firewall's ruleset as a pure function of the engine's networks and published ports.

The rules are fixed; networks and ports are elements of sets and maps, so that one more of them is one more element
and the path of a packet stays as long as it was.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tare.network.model import Driver, GatewayMode, Network, OpenPort, PublishedPort


@dataclass(frozen=True, slots=True)
class Forwarding:
    """A published port and the container address that answers it."""

    port: PublishedPort
    address: str

    def element(self) -> tuple[str, str]:
        """Name of the map and the element in nft(8)'s notation."""
        target = f"{self.address} . {self.port.container_port}"
        if self.port.host_address == "0.0.0.0":  # noqa: S104 - a notation for "every address", nothing is bound
            return "published_everywhere", f"{self.port.protocol} . {self.port.host_port} : {target}"
        key = f"{self.port.protocol} . {self.port.host_address} . {self.port.host_port}"
        return "published_at", f"{key} : {target}"


@dataclass(frozen=True, slots=True)
class Opening:
    """A port that is open at a container's own address, without translation."""

    address: str
    port: OpenPort

    def element(self) -> tuple[str, str]:
        """Name of the set and the element in nft(8)'s notation."""
        return "opened", f"{self.address} . {self.port.protocol} . {self.port.port}"


@dataclass(frozen=True, slots=True)
class FirewallState:
    """All that the ruleset depends on."""

    networks: tuple[Network, ...] = ()
    forwardings: tuple[Forwarding, ...] = field(default=())
    openings: tuple[Opening, ...] = field(default=())


def network_elements(network: Network) -> list[tuple[str, str]]:
    """The elements (set or map, element) that a bridge network adds."""
    if network.driver is not Driver.BRIDGE:
        return []
    bridge, pool = f'"{network.bridge_name}"', network.subnets[0]
    elements = [
        ("bridges", bridge),
        ("within", f"{bridge} . {bridge} : {'accept' if network.icc else 'goto only_published'}"),
    ]
    if network.gateway:
        elements += [("own_gateway", f"{bridge} . {network.gateway}"), ("gateways", network.gateway)]
    elements.append(("local_subnets", f"{pool.subnet} . {bridge}"))
    if network.internal:
        elements.append(("internal", bridge))
    elif network.gateway_mode is GatewayMode.ROUTED:
        elements.append(("routed", bridge))
    elif network.masquerade:
        elements.append(("masqueraded", pool.subnet))
    if network.gateway_mode is GatewayMode.NAT_UNPROTECTED and not network.internal:
        elements.append(("unprotected", bridge))
    return elements


def render(table: str, state: FirewallState) -> str:
    """The whole table in nft(8)'s notation, as one transaction that replaces what was there."""
    filled: dict[str, list[str]] = {}
    for network in state.networks:
        for name, element in network_elements(network):
            filled.setdefault(name, []).append(element)
    for forwarding in state.forwardings:
        name, element = forwarding.element()
        filled.setdefault(name, []).append(element)
    for opening in state.openings:
        name, element = opening.element()
        filled.setdefault(name, []).append(element)
    sets = "\n".join(_set(name, header, filled.get(name, ())) for name, header in _SETS.items())
    return f"table inet {table}\ndelete table inet {table}\ntable inet {table} {{\n{sets}\n{_CHAINS}}}\n"


def render_change(verb: str, table: str, elements: Iterable[tuple[str, str]]) -> str:
    """Commands that ``add`` or ``delete`` elements; a deletion names keys only."""
    lines = []
    for name, element in elements:
        text = element.split(" : ", 1)[0] if verb == "delete" else element
        lines.append(f"{verb} element inet {table} {name} {{ {text} }}")
    return "\n".join(lines) + "\n"


def _set(name: str, header: str, elements: Iterable[str]) -> str:
    kind = "map" if " : " in header else "set"
    body = ", ".join(sorted(elements))
    content = f"\n    elements = {{ {body} }}" if body else ""
    return f"  {kind} {name} {{\n    {header}{content}\n  }}"


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
    "opened": "type ipv4_addr . inet_proto . inet_service",
    "published_at": "type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service",
    "published_everywhere": "type inet_proto . inet_service : ipv4_addr . inet_service",
}

_CHAINS = """\
  chain publish {
    dnat ip to meta l4proto . ip daddr . th dport map @published_at
    dnat ip to meta l4proto . th dport map @published_everywhere
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
    fib daddr type local jump publish
  }
  chain output {
    type nat hook output priority -100; policy accept;
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
    jump routed_ports
    drop comment "networks are isolated from each other"
  }
  chain routed_ports {
    ip daddr . meta l4proto . th dport @opened accept
    oifname @routed meta l4proto icmp accept
  }
  chain entering {
    oifname @internal drop
    ct state established,related accept
    ct status dnat accept
    oifname @unprotected accept
    jump routed_ports
    drop comment "only published ports are reachable from outside"
  }
  chain input {
    type filter hook input priority filter; policy accept;
    iifname @bridges jump to_host
  }
  chain to_host {
    ct state established,related accept
    iifname @internal drop
    iifname . ip daddr @own_gateway accept
    ip daddr @gateways drop comment "another network's gateway"
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    oifname @bridges jump into_bridge
    oifname != @bridges ip saddr @masqueraded masquerade
  }
  chain into_bridge {
    ip saddr 127.0.0.0/8 masquerade comment "from the host through localhost"
    ct status dnat ip saddr . oifname @local_subnets masquerade comment "hairpin"
  }
"""
