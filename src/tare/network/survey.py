"""Looks at what reachability depends on: the database's networks, the host's addresses, listening sockets."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tare.errors import NotFound
from tare.kernel import local_addresses
from tare.kernel.namespaces import run_in_network_namespace
from tare.kernel.sockets import waiting_sockets
from tare.network import records
from tare.network.model import Endpoint, Network, PublishedPort
from tare.network.ruleset import FirewallState
from tare.network.topology import HOST, HostFacts, Listener

_BRIDGE_FILTERING = {4: "net/bridge/bridge-nf-call-iptables", 6: "net/bridge/bridge-nf-call-ip6tables"}
_FAR_AWAY = {4: "198.51.100.1", 6: "2001:db8::1"}  # for documentation (RFC 5737, RFC 3849); nothing is sent there
_FORWARDING = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}


@dataclass(frozen=True, slots=True)
class Survey:
    """The database's part."""

    networks: tuple[Network, ...]
    endpoints: tuple[Endpoint, ...]
    published: tuple[tuple[Endpoint, PublishedPort], ...]
    firewall: FirewallState


def read(connection: sqlite3.Connection) -> Survey:
    """Networks, endpoints and published ports, and what the firewall must say for them."""
    endpoints = tuple(records.endpoints(connection))
    published = tuple(
        (endpoint, port) for endpoint in endpoints for port in records.ports_of_endpoint(connection, endpoint.id)
    )
    networks = tuple(records.all_networks(connection))
    return Survey(networks, endpoints, published, records.firewall_state(connection))


def host_facts() -> HostFacts:
    """The host's addresses and settings. Blocks for a millisecond."""
    return HostFacts(
        addresses=frozenset(local_addresses.local_addresses()),
        primary={version: local_addresses.address_towards(one) for version, one in _FAR_AWAY.items()},
        bridge_filtering={version: _is_on(path) for version, path in _BRIDGE_FILTERING.items()},
        forwarding={version: _is_on(path) for version, path in _FORWARDING.items()},
    )


def listeners(namespaces: Iterable[tuple[str, Path | None]]) -> dict[str, frozenset[Listener]]:
    """Who listens, by the namespaces' names; a path None is the host's. Blocks; what is gone is left out."""
    found: dict[str, frozenset[Listener]] = {HOST: _listeners(None)}
    for name, path in namespaces:
        try:
            found[name] = _listeners(path)
        except NotFound:  # it ended meanwhile
            continue
    return found


def _listeners(path: Path | None) -> frozenset[Listener]:
    sockets = waiting_sockets() if path is None else run_in_network_namespace(path, waiting_sockets)
    return frozenset(Listener(one.protocol, one.address, one.port, one.only6, one.inode) for one in sockets)


def _is_on(setting: str) -> bool:
    try:
        return Path("/proc/sys", setting).read_text().strip() == "1"
    except FileNotFoundError:  # the kernel's module is not there
        return False
