"""Address management: which subnet a network gets, which address an endpoint gets.

Subnets are chosen by pure functions over what is taken; addresses live in the table ``addresses`` and are taken in the
transaction that inserts the endpoint, so that they are released exactly once, by the row's end.
"""

from __future__ import annotations

import socket
import sqlite3
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

from tare.errors import Exhausted, Forbidden, InvalidArgument
from tare.network.model import AddressPool, Network, Subnet
from tare.network.request import PoolRequest

Address = IPv4Address | IPv6Address
Block = IPv4Network | IPv6Network

_MAPPED = IPv6Network("::ffff:0:0/96")  # IPv4 in the notation of IPv6 (RFC 4291, section 2.5.5.2)


class Taken(NamedTuple):
    """A range that no new subnet may overlap, as numbers (both inclusive), and what it belongs to, in words."""

    first: int
    last: int
    owner: str
    version: int = 4

    @classmethod
    def of(cls, network: Block, owner: str) -> Taken:
        """The range of a network."""
        return cls(int(network.network_address), int(network.broadcast_address), owner, network.version)

    @classmethod
    def parse(cls, subnet: str, owner: str) -> Taken:
        """The range of ``10.0.0.0/24``, known to be well-formed: ten times as fast as an address object."""
        address, _, length = subnet.partition("/")
        version, family, bits = (6, socket.AF_INET6, 128) if ":" in address else (4, socket.AF_INET, 32)
        first = int.from_bytes(socket.inet_pton(family, address))
        return cls(first, first + (1 << bits - int(length)) - 1, owner, version)

    @property
    def network(self) -> Block:
        """The range as a network."""
        size = (self.last - self.first).bit_length()
        return IPv6Network((self.first, 128 - size)) if self.version == 6 else IPv4Network((self.first, 32 - size))

    def overlaps(self, other: Block) -> bool:
        """Whether a network has addresses in this range."""
        if self.version != other.version:
            return False
        return self.first <= int(other.broadcast_address) and int(other.network_address) <= self.last


def choose_subnet(pools: Iterable[AddressPool], taken: Sequence[Taken], version: int = 4) -> Subnet:
    """The first piece of the pools of a family that overlaps nothing.

    Takes n log n for n taken ranges, however many of them lie in the pools. Raises Exhausted naming an owner when all
    pieces are taken.
    """
    ranges = _disjoint([item for item in taken if item.version == version])
    lasts = [item.last for item in ranges]
    found: Taken | None = None
    for pool in pools:
        base = ip_network(pool.base)
        if base.version != version:
            continue
        step = 1 << (base.max_prefixlen - pool.size)
        number = int(base.network_address)
        end = number + base.num_addresses
        while number < end:
            index = bisect_left(lasts, number)  # the first range that does not end before the piece
            if index == len(ranges) or ranges[index].first >= number + step:
                piece = ip_network(((number).to_bytes(base.max_prefixlen // 8), pool.size))
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


def place_subnet(request: PoolRequest, taken: Sequence[Taken]) -> Subnet:
    """The subnet that the user asked for; its addresses are checked (``request.check_addresses``).

    Raises Forbidden for an overlap, naming the network or route, InvalidArgument for what containers cannot use.
    """
    pool = ip_network(request.subnet)
    smallest = pool.max_prefixlen - 2
    if pool.prefixlen > smallest:
        raise InvalidArgument(
            f"invalid subnet {pool}: no room for a gateway and a container",
            hint=f"use /{smallest} or larger",
            code="bad-subnet",
        )
    clash = next((item for item in taken if item.overlaps(pool)), None)
    if clash is not None:
        raise Forbidden(
            "invalid pool request: Pool overlaps with other one on this address space",
            hint=f"{pool} overlaps {clash.network} of {clash.owner}; choose another --subnet",
            code="subnet-overlap",
        )
    _check_usable(pool)
    edges = _edges(pool)
    gateway = ip_address(request.gateway) if request.gateway else None
    if gateway in edges:
        raise Forbidden(
            f"failed to allocate gateway ({gateway}): Address already in use",
            hint=f"it is the network or broadcast address of {pool}",
            code="address-in-use",
        )
    host = gateway or _first_host(ip_network(request.ip_range or pool), edges)
    reserved = {*edges, host}
    for name, text in request.aux_addresses.items():
        if (address := ip_address(text)) in reserved:
            raise Forbidden(
                f"failed to allocate secondary ip address ({name}:{text}): Address already in use",
                hint="it is the gateway's, another auxiliary one, or the network or broadcast address",
                code="address-in-use",
            )
        reserved.add(address)
    return Subnet(
        subnet=request.subnet,
        gateway=request.gateway or str(host),
        ip_range=request.ip_range,
        aux_addresses=dict(request.aux_addresses),
        gateway_shown=gateway is not None,
    )


def _check_usable(pool: Block) -> None:
    """Raises InvalidArgument for a range that containers cannot use."""
    if pool.is_multicast and pool.version == 6:
        raise InvalidArgument(f"multicast subnet '{pool[1]}/{pool.prefixlen}' is not allowed", code="bad-subnet")
    unusable = pool.is_loopback or pool.is_multicast or pool.network_address.is_unspecified
    if isinstance(pool, IPv6Network):
        # addresses of one link (RFC 4291, section 2.5.6) reach nothing beyond it
        unusable = unusable or pool.is_link_local or pool.overlaps(_MAPPED)
    if unusable:
        raise InvalidArgument(f"invalid subnet {pool}: not a range that containers can use", code="bad-subnet")


def _edges(pool: Block) -> tuple[Address, ...]:
    """Addresses of a pool that are nobody's: IPv6 has no broadcast, and the first is any router's (RFC 4291, 2.6.1)."""
    return (pool.network_address,) if pool.version == 6 else (pool.network_address, pool.broadcast_address)


def _first_host(block: Block, edges: Sequence[Address]) -> Address:
    return next(address for address in block if address not in edges)


def allocate(
    connection: sqlite3.Connection,
    network: Network,
    endpoint_id: str | None,
    wanted: str | None,
    version: int = 4,
) -> str:
    """Take an address of ``network`` for an endpoint (None: reserved without one); part of the caller's transaction.

    ``version`` is the family, 4 or 6. Raises InvalidArgument for an address outside the subnet, Forbidden for one in
    use, Exhausted when none is free.
    """
    pool = network.pool6 if version == 6 else network.pool4
    if pool is None:
        raise InvalidArgument(f"network {network.name} has no IPv{version} addresses to give")
    taken = {row[0] for row in connection.execute("SELECT address FROM addresses WHERE network=?", (network.id,))}
    taken.update(str(ip_address(text)) for text in (pool.gateway, *pool.aux_addresses.values()) if text)
    if wanted:
        address = _parse_address(wanted, version)
        if address not in pool.block:
            option = "--ip6" if version == 6 else "--ip"
            raise InvalidArgument(f"address {address} is not in subnet {pool.subnet}", hint=f"choose another {option}")
        if str(address) in taken or address in _edges(pool.block):
            holder = _holder(connection, network, pool, address)
            raise Forbidden(
                "Address already in use",
                hint=f"{address} on network {network.name} {holder}; choose another",
                code="address-in-use",
            )
        chosen = str(address)
    else:
        chosen = _first_free(network, pool, taken)
    connection.execute("INSERT INTO addresses VALUES (?, ?, ?)", (network.id, chosen, endpoint_id))
    return chosen


def _first_free(network: Network, pool: Subnet, taken: set[str]) -> str:
    edges = _edges(pool.block)
    for address in ip_network(pool.ip_range or pool.subnet):
        if address not in edges and str(address) not in taken:
            return str(address)
    raise Exhausted(
        f"no available IPv{pool.version} addresses on network {network.name} ({pool.ip_range or pool.subnet})",
        hint="remove containers from it, or make a larger network",
        code="addresses-exhausted",
    )


def _holder(connection: sqlite3.Connection, network: Network, pool: Subnet, address: Address) -> str:
    """Who has an address that cannot be given, as the rest of a sentence."""
    row = connection.execute(
        "SELECT containers.name FROM addresses JOIN endpoints ON endpoints.id = addresses.endpoint"
        " JOIN containers ON containers.id = endpoints.container WHERE addresses.network=? AND address=?",
        (network.id, str(address)),
    ).fetchone()
    if row:
        return f"belongs to container {row[0]}"
    if pool.gateway and address == ip_address(pool.gateway):
        return "is the gateway"
    return "is reserved"


def _parse_address(text: str, version: int) -> Address:
    try:
        return IPv6Address(text) if version == 6 else IPv4Address(text)
    except ValueError as error:
        raise InvalidArgument(f"invalid address {text}: {error}") from error
