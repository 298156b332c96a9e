"""Ports that are open at a container's own address: networks of the gateway mode ``routed``.

Nothing of the host is taken for them, so they are no rows: an endpoint's document says which are open.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from tare.network import ports, records
from tare.network.model import Driver, Endpoint, GatewayMode, Network, OpenPort, PortRequest
from tare.network.ruleset import Forwarding, Opening


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What a container's ports lose and gain when its default route has moved.

    ``forwards`` tells that published ports of the host lead to where the route is now.
    """

    forwards: bool
    closed: tuple[Forwarding, ...] = ()
    closing: tuple[Opening, ...] = ()
    opening: tuple[Opening, ...] = ()


def forwards_ports(network: Network) -> bool:
    """Whether ports of the host can lead to containers on the network."""
    return network.driver is Driver.BRIDGE and not network.internal and network.gateway_mode is not GatewayMode.ROUTED


def open_ports(network: Network, requests: Sequence[PortRequest]) -> tuple[OpenPort, ...]:
    """The ports to open for what ``-p`` asks: one for each request, as Docker shows them. Raises InvalidArgument."""
    if network.driver is not Driver.BRIDGE or network.internal or network.gateway_mode is not GatewayMode.ROUTED:
        return ()
    checked = [ports.normalise(request) for request in requests]
    return tuple(OpenPort(protocol=port.protocol, port=port.container_port) for port in checked)


def openings(endpoint: Endpoint) -> list[Opening]:
    """What the firewall must let through to an endpoint, each once."""
    return [Opening(endpoint.address, port) for port in dict.fromkeys(endpoint.open_ports)]


def reopen(connection: sqlite3.Connection, container_id: str, requests: Sequence[PortRequest]) -> Change:
    """Let open ports follow the default route, in the caller's transaction.

    Ports of the host are given up when they cannot lead to where the route is now.
    """
    mine = records.endpoints(connection, container=container_id)
    owner = next((endpoint for endpoint in mine if endpoint.gateway and endpoint.default_route), None)
    if owner is None:
        return Change(forwards=True)
    network = records.find_network(connection, owner.network_id)
    left = [endpoint for endpoint in mine if endpoint.open_ports and endpoint.id != owner.id]
    for endpoint in left:
        records.update_endpoint(connection, msgspec.structs.replace(endpoint, open_ports=()))
    closing = tuple(opening for endpoint in left for opening in openings(endpoint))
    if forwards_ports(network):
        return Change(forwards=True, closing=closing)
    closed = [
        Forwarding(port, endpoint.address)
        for endpoint in mine
        for port in records.ports_of_endpoint(connection, endpoint.id)
    ]
    for endpoint in mine:
        connection.execute("DELETE FROM published_ports WHERE endpoint=?", (endpoint.id,))
    if owner.open_ports:
        return Change(forwards=False, closed=tuple(closed), closing=closing)
    owner = msgspec.structs.replace(owner, open_ports=open_ports(network, requests))
    records.update_endpoint(connection, owner)
    return Change(forwards=False, closed=tuple(closed), closing=closing, opening=tuple(openings(owner)))
