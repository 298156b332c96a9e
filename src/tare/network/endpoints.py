"""What a new endpoint takes from the database, and the interfaces that it gets: plans, no acts."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from ipaddress import ip_address
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
    address6: str | None
    mac: str | None
    interface: str | None
    gateway_priority: int
    link_local: tuple[str, ...]
    ports: tuple[PortRequest, ...]
    hostname: str = ""
    nameservers: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    ipv6: bool = True
    """Whether the container has IPv6; without it, it gets no address of that family anywhere."""


def veth_plan(
    network: Network,
    endpoint_id: str,
    namespace: Path,
    *,
    endpoint: Endpoint | None = None,
    addresses: Sequence[str] = (),
) -> VethPlan:
    """The interfaces of an endpoint, or of a build step that has only addresses on the network.

    On a macvlan network there is only the interface in the namespace.
    """
    if endpoint is None:
        nobody = Endpoint(
            id=endpoint_id,
            network_id=network.id,
            network_name=network.name,
            container_id="",
            container_name="",
            interface="eth0",
        )
        endpoint = _with_addresses(network, addresses, nobody)
    return VethPlan(
        host_interface=f"tv{endpoint_id[:11]}",
        bridge=network.bridge_name,
        namespace=namespace,
        interface=endpoint.interface,
        mac=endpoint.mac or mac_from_address(endpoint.addresses[0]),
        address=endpoint.address,
        prefix_len=endpoint.prefix_len,
        gateway=endpoint.gateway if endpoint.default_route else "",
        mtu=network.mtu,
        address6=endpoint.address6,
        prefix_len6=endpoint.prefix_len6,
        gateway6=endpoint.gateway6 if endpoint.default_route6 else "",
        isolated=not network.icc,
        link_local=endpoint.link_local,
    )


def claim_addresses(
    connection: sqlite3.Connection,
    network: Network,
    endpoint_id: str | None,
    *,
    wanted: str | None = None,
    wanted6: str | None = None,
    ipv6: bool = True,
) -> list[str]:
    """Take an address of each family that ``network`` has, in the caller's transaction; that of IPv4 first.

    Raises what :func:`tare.network.ipam.allocate` raises.
    """
    addresses = [ipam.allocate(connection, network, endpoint_id, wanted)] if network.pool4 else []
    if network.pool6 and ipv6:
        addresses.append(ipam.allocate(connection, network, endpoint_id, wanted6, version=6))
    return addresses


def _with_addresses(network: Network, addresses: Sequence[str], endpoint: Endpoint) -> Endpoint:
    """The endpoint with addresses of the network, and what follows from them."""
    outside = not network.internal
    for address in addresses:
        if ":" in address and network.pool6:
            endpoint = msgspec.structs.replace(
                endpoint,
                address6=address,
                prefix_len6=network.pool6.block.prefixlen,
                gateway6=network.gateway6 if outside else "",
            )
        elif network.pool4:
            endpoint = msgspec.structs.replace(
                endpoint,
                address=address,
                prefix_len=network.pool4.block.prefixlen,
                gateway=network.gateway if outside else "",
            )
    return endpoint


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
        links=request.links,
    )
    others = records.endpoints(connection, container=request.container_id)
    _check_drivers(connection, network, others)
    if connection.execute("SELECT 1 FROM containers WHERE id=?", (request.container_id,)).fetchone() is None:
        raise NotFound(f"No such container: {request.container_id}")
    records.insert_endpoint(connection, endpoint)
    if not network.driver.has_interfaces:
        return endpoint, []
    addresses = claim_addresses(
        connection, network, endpoint.id, wanted=request.address, wanted6=request.address6, ipv6=request.ipv6
    )
    if not addresses:
        raise InvalidArgument(
            f"network {network.name} has only IPv6, which the container has switched off",
            hint="leave out the sysctl net.ipv6.conf.all.disable_ipv6",
            code="no-ipv6",
        )
    endpoint = msgspec.structs.replace(
        _with_addresses(network, addresses, endpoint),
        mac=_check_mac(request.mac) or mac_from_address(addresses[0]),
        host_interface=f"tv{endpoint.id[:11]}" if network.driver is Driver.BRIDGE else "",
        interface=_free_interface(request.interface, {item.interface for item in others}, network.interface_prefix),
        gateway_priority=request.gateway_priority,
        open_ports=routed.open_ports(network, request.ports),
    )
    endpoint = msgspec.structs.replace(
        endpoint,
        link_local=tuple(_check_link_local(text, endpoint) for text in request.link_local),
        default_route=bool(endpoint.gateway)
        and all(outranks(endpoint, item) for item in others if item.gateway and item.default_route),
        default_route6=bool(endpoint.gateway6)
        and all(outranks(endpoint, item) for item in others if item.gateway6 and item.default_route6),
    )
    records.update_endpoint(connection, endpoint)
    return endpoint, _publish(connection, network, endpoint, request.ports, settings)


def republish(
    connection: sqlite3.Connection,
    container_id: str,
    requests: Sequence[PortRequest],
    settings: NetworkSettings,
    *,
    translate: bool = False,
) -> tuple[list[Forwarding], list[Forwarding]]:
    """Give a container's ports to the endpoint with the default route; returns what to close and what to open.

    ``translate`` tells that its IPv4 ports were open at its own address until now, so that none of the host's lead to
    them.
    """
    mine = records.endpoints(connection, container=container_id)
    owner = next((endpoint for endpoint in mine if endpoint.gateway and endpoint.default_route), None)
    owner = owner or next((endpoint for endpoint in mine if endpoint.gateway6 and endpoint.default_route6), None)
    if owner is None:
        return [], []
    network = records.find_network(connection, owner.network_id)
    held = [(endpoint, port) for endpoint in mine for port in records.ports_of_endpoint(connection, endpoint.id)]
    if held:
        elsewhere = [(endpoint, port) for endpoint, port in held if endpoint.id != owner.id]
        before, after = _move_ports(connection, network, owner, elsewhere)
        if not translate:
            return before, after
        untranslated = [port for port in requests if ":" not in port.host_address]
        only4 = msgspec.structs.replace(owner, address6="")
        opened = _publish(connection, network, only4, untranslated, settings)
        return before, [*after, *(Forwarding.to(owner, port) for port in opened)]
    opened = _publish(connection, network, owner, requests, settings)
    return [], [Forwarding.to(owner, port) for port in opened]


def _move_ports(
    connection: sqlite3.Connection, network: Network, owner: Endpoint, held: Sequence[tuple[Endpoint, PublishedPort]]
) -> tuple[list[Forwarding], list[Forwarding]]:
    """Pass ports on to ``owner``, those of families that it has; on a network that publishes none they are closed."""
    if network.driver is not Driver.BRIDGE:
        for endpoint_id in {endpoint.id for endpoint, _ in held}:
            connection.execute("DELETE FROM published_ports WHERE endpoint=?", (endpoint_id,))
        return [Forwarding.to(endpoint, port) for endpoint, port in held], []
    moving = [(endpoint, port) for endpoint, port in held if _has_family(owner, port)]
    for endpoint, port in moving:
        connection.execute(
            "UPDATE published_ports SET endpoint=? WHERE endpoint=? AND protocol=? AND host_address=? AND host_port=?",
            (owner.id, endpoint.id, port.protocol, port.host_address, port.host_port),
        )
    closing = [Forwarding.to(endpoint, port) for endpoint, port in moving]
    return closing, [Forwarding.to(owner, port) for _, port in moving]


def _has_family(endpoint: Endpoint, port: PublishedPort) -> bool:
    return bool(endpoint.address6 if port.family == 6 else endpoint.address)


def _publish(
    connection: sqlite3.Connection,
    network: Network,
    endpoint: Endpoint,
    requests: Sequence[PortRequest],
    settings: NetworkSettings,
) -> list[PublishedPort]:
    """Claim the ports of the host that an endpoint is to publish; on some networks there are none."""
    subject = f"driver failed programming external connectivity on endpoint {endpoint.container_name} ({endpoint.id})"
    wanted = routed.host_requests(network, requests)
    address = "" if routed.opens_ports(network) else endpoint.address
    target = ports.Target(endpoint.id, subject, address, endpoint.address6)
    return ports.claim(connection, target, wanted, port_range=settings.port_range, first_port=settings.first_port)


def _check_drivers(connection: sqlite3.Connection, network: Network, others: Sequence[Endpoint]) -> None:
    for other in others:
        driver = records.find_network(connection, other.network_id).driver
        if not driver.has_interfaces and other.network_id != network.id:
            raise Conflict(f"a container on network {other.network_name} cannot be connected to another network")
        if driver.has_interfaces and not network.driver.has_interfaces:
            raise Conflict(f"a container on network {other.network_name} cannot be connected to network {network.name}")


def route_rank(endpoint: Endpoint) -> tuple[int, int, str]:
    """The order in which endpoints get the default routes, as in Docker.

    By gateway priority; then networks that lead outside with both families, with IPv6, with IPv4; then by the
    network's name.
    """
    families = (1 if endpoint.gateway else 0) + (2 if endpoint.gateway6 else 0)
    return -endpoint.gateway_priority, -families, endpoint.network_name


def outranks(endpoint: Endpoint, other: Endpoint) -> bool:
    """Whether an endpoint gets a default route rather than another one."""
    return route_rank(endpoint) < route_rank(other)


def _free_interface(wanted: str | None, taken: set[str], prefix: str) -> str:
    if wanted and wanted not in taken:
        return wanted
    return next(name for name in (f"{prefix}{number}" for number in range(len(taken) + 1)) if name not in taken)


def _check_link_local(text: str, endpoint: Endpoint) -> str:
    address = ip_address(text)
    if address.version == 6 and not endpoint.address6:
        raise InvalidArgument(
            f"invalid link local IP address: {text}",
            hint=f"container {endpoint.container_name} has no IPv6 on network {endpoint.network_name}",
            code="no-ipv6",
        )
    if not address.is_link_local:
        raise InvalidArgument(
            f"invalid link local IP address: {text}", hint="it must be in 169.254.0.0/16 or fe80::/10"
        )
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
