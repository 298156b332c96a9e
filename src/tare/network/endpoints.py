"""What a new endpoint takes from the database, and the interfaces that it gets: plans, no acts."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from ipaddress import IPv4Address
from pathlib import Path

import msgspec

from tare.errors import Conflict, InvalidArgument, NotFound
from tare.network import ipam, ports, records, routed
from tare.network.model import (
    Driver,
    Endpoint,
    Network,
    NetworkSettings,
    PortRequest,
    PublishedPort,
    mac_from_address,
)
from tare.network.netlink import VethPlan
from tare.network.ruleset import Forwarding


class Attachment(msgspec.Struct, frozen=True):
    """A request to connect a container to a network; None leaves the choice to the engine."""

    endpoint_id: str
    container_id: str
    container_name: str
    aliases: tuple[str, ...]
    address: str | None
    mac: str | None
    interface: str | None
    gateway_priority: int
    link_local: tuple[str, ...]
    ports: tuple[PortRequest, ...]
    hostname: str = ""
    nameservers: tuple[str, ...] = ()


def veth_plan(
    network: Network, endpoint_id: str, namespace: Path, *, endpoint: Endpoint | None = None, address: str = ""
) -> VethPlan:
    """The interfaces of an endpoint, or of a build step that has only an address on the network.

    On a macvlan network there is only the interface in the namespace.
    """
    address = endpoint.address if endpoint else address
    gateway = endpoint.gateway if endpoint and endpoint.default_route else "" if endpoint else network.gateway
    return VethPlan(
        host_interface=f"tv{endpoint_id[:11]}",
        bridge=network.bridge_name,
        namespace=namespace,
        interface=endpoint.interface if endpoint else "eth0",
        mac=endpoint.mac if endpoint else mac_from_address(address),
        address=address,
        prefix_len=network.subnets[0].network.prefixlen,
        gateway=gateway,
        mtu=network.mtu,
        isolated=not network.icc,
        link_local=endpoint.link_local if endpoint else (),
    )


def claim(
    connection: sqlite3.Connection, network: Network, request: Attachment, settings: NetworkSettings
) -> tuple[Endpoint, list[PublishedPort]]:
    """Everything that the database gives to a new endpoint, in one transaction."""
    # the network may be gone since it was read
    network = records.find_network(connection, network.id)
    endpoint = Endpoint(
        id=request.endpoint_id,
        network_id=network.id,
        network_name=network.name,
        container_id=request.container_id,
        container_name=request.container_name,
        aliases=request.aliases,
        hostname=request.hostname,
        nameservers=request.nameservers,
    )
    others = records.endpoints(connection, container=request.container_id)
    _check_drivers(connection, network, others)
    if connection.execute("SELECT 1 FROM containers WHERE id=?", (request.container_id,)).fetchone() is None:
        raise NotFound(f"No such container: {request.container_id}")
    records.insert_endpoint(connection, endpoint)
    if not network.driver.has_interfaces:
        return endpoint, []
    address = ipam.allocate(connection, network, endpoint.id, request.address)
    gateway = "" if network.internal else network.gateway
    endpoint = msgspec.structs.replace(
        endpoint,
        mac=_check_mac(request.mac) or mac_from_address(address),
        address=address,
        prefix_len=network.subnets[0].network.prefixlen,
        gateway=gateway,
        host_interface=f"tv{endpoint.id[:11]}" if network.driver is Driver.BRIDGE else "",
        interface=_free_interface(request.interface, {item.interface for item in others}, network.interface_prefix),
        gateway_priority=request.gateway_priority,
        link_local=tuple(_check_link_local(text) for text in request.link_local),
        open_ports=routed.open_ports(network, request.ports),
    )
    rank = route_rank(endpoint)
    holders = [item for item in others if item.gateway and item.default_route]
    first = bool(gateway) and all(rank < route_rank(item) for item in holders)
    endpoint = msgspec.structs.replace(endpoint, default_route=first)
    records.update_endpoint(connection, endpoint)
    return endpoint, _publish(connection, network, endpoint, request.ports, settings)


def republish(
    connection: sqlite3.Connection, container_id: str, requests: Sequence[PortRequest], settings: NetworkSettings
) -> tuple[list[Forwarding], list[Forwarding]]:
    """Give a container's ports to the endpoint with the default route; returns what to close and what to open."""
    mine = records.endpoints(connection, container=container_id)
    owner = next((endpoint for endpoint in mine if endpoint.gateway and endpoint.default_route), None)
    if owner is None:
        return [], []
    held = [(endpoint, port) for endpoint in mine for port in records.ports_of_endpoint(connection, endpoint.id)]
    if held:
        moving = [(endpoint, port) for endpoint, port in held if endpoint.id != owner.id]
        for endpoint in {item.id for item, _ in moving}:
            connection.execute("UPDATE published_ports SET endpoint=? WHERE endpoint=?", (owner.id, endpoint))
        closing = [Forwarding(port, endpoint.address) for endpoint, port in moving]
        return closing, [Forwarding(port, owner.address) for _, port in moving]
    network = records.find_network(connection, owner.network_id)
    opened = _publish(connection, network, owner, requests, settings)
    return [], [Forwarding(port, owner.address) for port in opened]


def _publish(
    connection: sqlite3.Connection,
    network: Network,
    endpoint: Endpoint,
    requests: Sequence[PortRequest],
    settings: NetworkSettings,
) -> list[PublishedPort]:
    """Claim the ports of the host that an endpoint is to publish; on some networks there are none."""
    subject = f"driver failed programming external connectivity on endpoint {endpoint.container_name} ({endpoint.id})"
    published = requests if routed.forwards_ports(network) else ()
    wanted = [ports.normalise(port, network.host_binding) for port in published]
    return ports.claim(
        connection, endpoint.id, wanted, port_range=settings.port_range, subject=subject, address=endpoint.address
    )


def _check_drivers(connection: sqlite3.Connection, network: Network, others: Sequence[Endpoint]) -> None:
    for other in others:
        driver = records.find_network(connection, other.network_id).driver
        if not driver.has_interfaces and other.network_id != network.id:
            raise Conflict(f"a container on network {other.network_name} cannot be connected to another network")
        if driver.has_interfaces and not network.driver.has_interfaces:
            raise Conflict(f"a container on network {other.network_name} cannot be connected to network {network.name}")


def route_rank(endpoint: Endpoint) -> tuple[int, str]:
    """The order in which endpoints get the default route: by gateway priority, then by the network's name."""
    return -endpoint.gateway_priority, endpoint.network_name


def _free_interface(wanted: str | None, taken: set[str], prefix: str) -> str:
    if wanted and wanted not in taken:
        return wanted
    return next(name for name in (f"{prefix}{number}" for number in range(len(taken) + 1)) if name not in taken)


def _check_link_local(text: str) -> str:
    address = IPv4Address(text)
    if not address.is_link_local:
        raise InvalidArgument(f"invalid link local IP address: {text}", hint="it must be in 169.254.0.0/16")
    return str(address)


def _check_mac(mac: str | None) -> str:
    if not mac:
        return ""
    parts = mac.replace("-", ":").split(":")
    try:
        values = [int(part, 16) for part in parts if len(part) == 2]
    except ValueError:
        values = []
    if len(parts) != 6 or len(values) != 6 or values[0] & 1:
        raise InvalidArgument(f"invalid MAC address {mac}: six bytes in hexadecimal, the first even")
    return ":".join(f"{value:02x}" for value in values)
