"""Ports that are open at a container's own IPv4 address: networks of the gateway mode ``routed``.

Nothing of the host is taken for them, so they are no rows: an endpoint's document says which are open. IPv6 ports of
such a network are published on the host as on any other.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from tare.network import ports, records
from tare.network.model import Driver, GatewayMode, Network, OpenPort, PortRequest
from tare.network.openings import Opening, openings
from tare.network.ruleset import Forwarding


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What a container's ports lose and gain when its default route has moved."""

    closed: tuple[Forwarding, ...] = ()
    closing: tuple[Opening, ...] = ()
    opening: tuple[Opening, ...] = ()


def opens_ports(network: Network) -> bool:
    """Whether IPv4 ports are open at the addresses of containers on the network, and none of the host's."""
    return not network.internal and network.gateway_mode is GatewayMode.ROUTED


def host_requests(network: Network, requests: Sequence[PortRequest]) -> list[PortRequest]:
    """The requests, checked, for which ports of the host are to be taken. Raises InvalidArgument, Unsupported."""
    if network.driver is not Driver.BRIDGE or network.internal:
        return []
    checked = [ports.normalise(request, network.host_binding) for request in requests]
    if not opens_ports(network):
        return checked
    return [request for request in checked if ":" in request.host_address or not request.host_address]


def open_ports(network: Network, requests: Sequence[PortRequest]) -> tuple[OpenPort, ...]:
    """The ports to open for what ``-p`` asks, as often as it asks. Raises InvalidArgument, Unsupported."""
    if not opens_ports(network):
        return ()
    checked = [ports.normalise(request) for request in requests]
    return tuple(
        OpenPort(protocol=request.protocol, port=request.container_port, count=request.count, sources=request.sources)
        for request in checked
        if ":" not in request.host_address
    )


def reopen(connection: sqlite3.Connection, container_id: str, requests: Sequence[PortRequest]) -> Change:
    """Let open ports follow the default route, in the caller's transaction.

    IPv4 ports of the host are given up where ports are open at the container's address instead.
    """
    mine = records.endpoints(connection, container=container_id)
    owner = next((endpoint for endpoint in mine if endpoint.gateway and endpoint.default_route), None)
    if owner is None:
        return Change()
    left = [endpoint for endpoint in mine if endpoint.open_ports and endpoint.id != owner.id]
    for endpoint in left:
        records.update_endpoint(connection, msgspec.structs.replace(endpoint, open_ports=()))
    closing = tuple(opening for endpoint in left for opening in openings(endpoint))
    network = records.find_network(connection, owner.network_id)
    if not opens_ports(network):
        return Change(closing=closing)
    closed = []
    for endpoint in mine:
        given_up = [port for port in records.ports_of_endpoint(connection, endpoint.id) if port.family == 4]
        closed += [Forwarding.to(endpoint, port) for port in given_up]
        connection.execute(
            "DELETE FROM published_ports WHERE endpoint=? AND instr(host_address, ':') = 0", (endpoint.id,)
        )
    if owner.open_ports:
        return Change(closed=tuple(closed), closing=closing)
    owner = msgspec.structs.replace(owner, open_ports=open_ports(network, requests))
    records.update_endpoint(connection, owner)
    return Change(closed=tuple(closed), closing=closing, opening=tuple(openings(owner)))
