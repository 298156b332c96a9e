"""Rows of the tables networks, endpoints, addresses and published_ports; functions of a connection."""

from __future__ import annotations

import sqlite3

import msgspec

from tare.errors import Conflict, NotFound
from tare.network.ipam import Taken
from tare.network.model import Driver, Endpoint, Network, PublishedPort
from tare.network.openings import openings
from tare.network.ruleset import FirewallState, Forwarding


def insert_network(connection: sqlite3.Connection, network: Network, created: float) -> None:
    """Store a network. Raises Conflict when its name is taken."""
    check_network_name(connection, network.name)
    document = msgspec.json.encode(network).decode()
    connection.execute(
        "INSERT INTO networks VALUES (?, ?, ?, ?, ?)", (network.id, network.name, network.driver, created, document)
    )


def update_network(connection: sqlite3.Connection, network: Network) -> None:
    """Store a network's changed document."""
    document = msgspec.json.encode(network).decode()
    connection.execute("UPDATE networks SET document=? WHERE id=?", (document, network.id))


def check_network_name(connection: sqlite3.Connection, name: str) -> None:
    """Raises Conflict when a network has this name."""
    if connection.execute("SELECT 1 FROM networks WHERE name=?", (name,)).fetchone():
        raise Conflict(f"network with name {name} already exists", code="network-exists")


def check_bridge_name(connection: sqlite3.Connection, bridge: str, wanted_by: str) -> None:
    """Raises Conflict when a network has a bridge of this name."""
    for network in all_networks(connection):
        if network.bridge_name == bridge:
            raise Conflict(
                f"cannot create network {wanted_by} ({bridge}): conflicts with network {network.id} ({bridge}):"
                " networks have same bridge name",
                hint=f"network {network.name} has it; choose another",
                code="bridge-in-use",
            )


def all_networks(connection: sqlite3.Connection) -> list[Network]:
    """Every network, oldest first."""
    rows = connection.execute("SELECT document FROM networks ORDER BY created, name")
    return [msgspec.json.decode(row[0], type=Network) for row in rows]


def find_network(connection: sqlite3.Connection, reference: str) -> Network:
    """A network by name, id or unique prefix of its id. Raises NotFound, Conflict for an ambiguous prefix."""
    row = connection.execute(
        "SELECT document FROM networks WHERE name=?1 OR id=?1 ORDER BY id=?1 DESC", (reference,)
    ).fetchone()
    if row is None and reference:
        rows = connection.execute(
            "SELECT document FROM networks WHERE substr(id, 1, length(?1)) = ?1", (reference,)
        ).fetchall()
        if len(rows) > 1:
            raise Conflict(f"network {reference} is ambiguous ({len(rows)} matches found on ID prefix)")
        row = rows[0] if rows else None
    if row is None:
        raise NotFound(f"network {reference} not found", code="network-missing")
    return msgspec.json.decode(row[0], type=Network)


def network_ranges(connection: sqlite3.Connection) -> list[Taken]:
    """The subnets that networks of this engine have.

    The database picks them out of the documents: thousands of networks take some milliseconds.
    """
    rows = connection.execute(
        "SELECT networks.name, json_extract(pool.value, '$.subnet')"
        " FROM networks, json_each(document, '$.subnets') AS pool"
    )
    return [Taken.parse(subnet, f"network {name}") for name, subnet in rows]


def insert_endpoint(connection: sqlite3.Connection, endpoint: Endpoint) -> None:
    """Store an endpoint. Raises Conflict when the container is on the network already."""
    if connection.execute(
        "SELECT 1 FROM endpoints WHERE network=? AND container=?", (endpoint.network_id, endpoint.container_id)
    ).fetchone():
        raise Conflict(
            f"endpoint with name {endpoint.container_name} already exists in network {endpoint.network_name}",
            code="endpoint-exists",
        )
    connection.execute(
        "INSERT INTO endpoints VALUES (?, ?, ?, ?)",
        (endpoint.id, endpoint.network_id, endpoint.container_id, msgspec.json.encode(endpoint).decode()),
    )


def update_endpoint(connection: sqlite3.Connection, endpoint: Endpoint) -> None:
    """Store an endpoint's changed document."""
    document = msgspec.json.encode(endpoint).decode()
    connection.execute("UPDATE endpoints SET document=? WHERE id=?", (document, endpoint.id))


def endpoints(
    connection: sqlite3.Connection, *, network: str | None = None, container: str | None = None
) -> list[Endpoint]:
    """Endpoints, oldest first, of one network, of one container, or all."""
    rows = connection.execute(
        "SELECT document FROM endpoints WHERE (?1 IS NULL OR network=?1) AND (?2 IS NULL OR container=?2)"
        " ORDER BY rowid",
        (network, container),
    )
    return [msgspec.json.decode(row[0], type=Endpoint) for row in rows]


def delete_endpoint(connection: sqlite3.Connection, endpoint_id: str) -> None:
    """Delete an endpoint; its address and ports go with it."""
    connection.execute("DELETE FROM endpoints WHERE id=?", (endpoint_id,))


def ports_of_endpoint(connection: sqlite3.Connection, endpoint_id: str) -> list[PublishedPort]:
    """The ports that an endpoint publishes."""
    rows = connection.execute(
        "SELECT protocol, host_address, host_port, container_port, count, sources FROM published_ports WHERE endpoint=?"
        " ORDER BY container_port, protocol, host_address, host_port",
        (endpoint_id,),
    )
    return [
        PublishedPort(
            protocol=row[0],
            host_address=row[1],
            host_port=row[2],
            container_port=row[3],
            count=row[4],
            sources=tuple(row[5].split()),
        )
        for row in rows
    ]


def firewall_state(connection: sqlite3.Connection) -> FirewallState:
    """What the firewall must say for what the database holds."""
    networks = tuple(network for network in all_networks(connection) if network.driver is Driver.BRIDGE)
    forwardings = tuple(
        Forwarding.to(endpoint, port)
        for endpoint in endpoints(connection)
        for port in ports_of_endpoint(connection, endpoint.id)
    )
    opened = tuple(opening for endpoint in endpoints(connection) for opening in openings(endpoint))
    return FirewallState(networks, forwardings, openings=opened)
