"""Address management: which subnet a network gets, which address an endpoint gets.

Subnets are chosen by pure functions over what is taken; addresses live in the table ``addresses`` and are taken in the
transaction that inserts the endpoint, so that they are released exactly once, by the row's end.
"""

from __future__ import annotations

import socket
import sqlite3
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from typing import NamedTuple

from tare.errors import Exhausted, Forbidden, InvalidArgument
from tare.network.model import AddressPool, Network, Subnet
from tare.network.request import NetworkRequest


class Taken(NamedTuple):
    """A range that no new subnet may overlap, as numbers (both inclusive), and what it belongs to, in words."""

    first: int
    last: int
    owner: str

    @classmethod
    def of(cls, network: IPv4Network, owner: str) -> Taken:
        """The range of a network."""
        return cls(int(network.network_address), int(network.broadcast_address), owner)

    @classmethod
    def parse(cls, subnet: str, owner: str) -> Taken:
        """The range of ``10.0.0.0/24``, known to be well-formed: ten times as fast as an address object."""
        address, _, length = subnet.partition("/")
        first = int.from_bytes(socket.inet_aton(address))
        return cls(first, first + (1 << 32 - int(length)) - 1, owner)

    @property
    def network(self) -> IPv4Network:
        """The range as a network."""
        return IPv4Network((self.first, 32 - (self.last - self.first).bit_length()))

    def overlaps(self, other: IPv4Network) -> bool:
        """Whether a network has addresses in this range."""
        return self.first <= int(other.broadcast_address) and int(other.network_address) <= self.last


def choose_subnet(pools: Iterable[AddressPool], taken: Sequence[Taken]) -> Subnet:
    """The first piece of the pools that overlaps nothing. Raises Exhausted naming an owner when all are taken.

    Takes n log n for n taken ranges, however many of them lie in the pools.
    """
    ranges = _disjoint(taken)
    lasts = [item.last for item in ranges]
    found: Taken | None = None
    for pool in pools:
        base = IPv4Network(pool.base)
        step = 1 << (32 - pool.size)
        number = int(base.network_address)
        end = number + base.num_addresses
        while number < end:
            index = bisect_left(lasts, number)  # the first range that does not end before the piece
            if index == len(ranges) or ranges[index].first >= number + step:
                piece = IPv4Network((number, pool.size))
                return Subnet(subnet=str(piece), gateway=str(piece.network_address + 1))
            found = ranges[index]
            number = (found.last // step + 1) * step
    reason = f"; the last piece overlaps {found.network} of {found.owner}" if found else ""
    raise Exhausted(
        f"all predefined address pools have been fully subnetted{reason}",
        hint="remove unused networks, give --subnet, or configure more address pools",
        code="pools-exhausted",
    )


def _disjoint(taken: Sequence[Taken]) -> list[Taken]:
    """The taken ranges in order, without those that lie in others (blocks never overlap partly)."""
    ranges: list[Taken] = []
    for item in sorted(taken, key=lambda item: (item.first, -item.last)):
        if not ranges or item.first > ranges[-1].last:
            ranges.append(item)
    return ranges


def place_subnet(request: NetworkRequest, taken: Sequence[Taken]) -> Subnet:
    """The subnet that the user asked for; its addresses are checked (``request.check_addresses``).

    Raises Forbidden for an overlap, naming the network or route, InvalidArgument for what containers cannot use.
    """
    pool = IPv4Network(request.subnet or "")
    if pool.prefixlen > 30:
        raise InvalidArgument(
            f"invalid subnet {pool}: no room for a gateway and a container", hint="use /30 or larger", code="bad-subnet"
        )
    clash = next((item for item in taken if item.overlaps(pool)), None)
    if clash is not None:
        raise Forbidden(
            "invalid pool request: Pool overlaps with other one on this address space",
            hint=f"{pool} overlaps {clash.network} of {clash.owner}; choose another --subnet",
            code="subnet-overlap",
        )
    if pool.is_loopback or pool.is_multicast or pool.network_address.is_unspecified:
        raise InvalidArgument(f"invalid subnet {pool}: not a range that containers can use", code="bad-subnet")
    edges = (pool.network_address, pool.broadcast_address)
    gateway = IPv4Address(request.gateway) if request.gateway else None
    if gateway in edges:
        raise Forbidden(
            f"failed to allocate gateway ({gateway}): Address already in use",
            hint=f"it is the network or broadcast address of {pool}",
            code="address-in-use",
        )
    first = None if request.needs_no_gateway else _first_host(IPv4Network(request.ip_range or pool), edges)
    host = gateway or first
    reserved = {*edges, host}
    for name, text in request.aux_addresses.items():
        if (address := IPv4Address(text)) in reserved:
            raise Forbidden(
                f"failed to allocate secondary ip address ({name}:{text}): Address already in use",
                hint="it is the gateway's, another auxiliary one, or the network or broadcast address",
                code="address-in-use",
            )
        reserved.add(address)
    return Subnet(
        subnet=str(pool),
        gateway=str(host or ""),
        ip_range=request.ip_range or "",
        aux_addresses=dict(request.aux_addresses),
        gateway_shown=gateway is not None,
    )


def _first_host(block: IPv4Network, edges: tuple[IPv4Address, IPv4Address]) -> IPv4Address:
    return next(address for address in block if address not in edges)


def allocate(connection: sqlite3.Connection, network: Network, endpoint_id: str | None, wanted: str | None) -> str:
    """Take an address of ``network`` for an endpoint (None: reserved without one); part of the caller's transaction.

    Raises InvalidArgument for an address outside the subnet, Conflict for one in use, Exhausted when none is free.
    """
    if not network.subnets:
        raise InvalidArgument(f"network {network.name} has no addresses to give")
    pool = network.subnets[0]
    taken = {row[0] for row in connection.execute("SELECT address FROM addresses WHERE network=?", (network.id,))}
    taken.update((pool.gateway, *pool.aux_addresses.values()))
    if wanted:
        address = _parse_address("address", wanted)
        if address not in pool.network:
            raise InvalidArgument(f"address {address} is not in subnet {pool.subnet}", hint="choose another --ip")
        if str(address) in taken or address in (pool.network.network_address, pool.network.broadcast_address):
            raise Forbidden(
                "Address already in use",
                hint=f"{address} on network {network.name} {_holder(connection, network, address)}; choose another",
                code="address-in-use",
            )
        chosen = str(address)
    else:
        chosen = _first_free(network, pool, taken)
    connection.execute("INSERT INTO addresses VALUES (?, ?, ?)", (network.id, chosen, endpoint_id))
    return chosen


def _first_free(network: Network, pool: Subnet, taken: set[str]) -> str:
    whole = pool.network
    for address in IPv4Network(pool.ip_range or pool.subnet):
        if address in (whole.network_address, whole.broadcast_address):
            continue
        if str(address) not in taken:
            return str(address)
    raise Exhausted(
        f"no available IPv4 addresses on network {network.name} ({pool.ip_range or pool.subnet})",
        hint="remove containers from it, or make a larger network",
        code="addresses-exhausted",
    )


def _holder(connection: sqlite3.Connection, network: Network, address: IPv4Address) -> str:
    """Who has an address that cannot be given, as the rest of a sentence."""
    row = connection.execute(
        "SELECT containers.name FROM addresses JOIN endpoints ON endpoints.id = addresses.endpoint"
        " JOIN containers ON containers.id = endpoints.container WHERE addresses.network=? AND address=?",
        (network.id, str(address)),
    ).fetchone()
    if row:
        return f"belongs to container {row[0]}"
    pool = network.subnets[0]
    if str(address) == pool.gateway:
        return "is the gateway"
    return "is reserved"


def _parse_address(what: str, text: str) -> IPv4Address:
    try:
        return IPv4Address(text)
    except AddressValueError as error:
        raise InvalidArgument(f"invalid {what} {text}: {error}") from error
