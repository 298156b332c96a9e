"""Address management: which subnet a network gets, which address an endpoint gets.

Subnets are chosen by pure functions over what is taken; addresses live in the table ``addresses`` and are taken in the
transaction that inserts the endpoint, so that they are released exactly once, by the row's end.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError

from tare.errors import Conflict, Exhausted, Forbidden, InvalidArgument
from tare.network.model import AddressPool, Network, Subnet


@dataclass(frozen=True, slots=True)
class Taken:
    """A range that no new subnet may overlap, and what it belongs to, in words."""

    network: IPv4Network
    owner: str


def choose_subnet(pools: Iterable[AddressPool], taken: Sequence[Taken]) -> Subnet:
    """The first piece of the pools that overlaps nothing. Raises Exhausted naming an owner when all are taken."""
    last: Taken | None = None
    for pool in pools:
        base = IPv4Network(pool.base)
        step = 1 << (32 - pool.size)
        number = int(base.network_address)
        end = number + base.num_addresses
        while number < end:
            piece = IPv4Network((number, pool.size))
            clash = next((item for item in taken if item.network.overlaps(piece)), None)
            if clash is None:
                return Subnet(subnet=str(piece), gateway=str(piece.network_address + 1))
            last = clash
            # a clash larger than the piece is left in one step
            number = max(number + step, (int(clash.network.broadcast_address) + step) // step * step)
    reason = f"; the last piece overlaps {last.network} of {last.owner}" if last else ""
    raise Exhausted(
        f"all predefined address pools have been fully subnetted{reason}",
        hint="remove unused networks, give --subnet, or configure more address pools",
        code="pools-exhausted",
    )


def validate_subnet(subnet: str, gateway: str | None, ip_range: str | None, taken: Sequence[Taken]) -> Subnet:
    """A subnet that the user asked for. Raises InvalidArgument for what is malformed, Forbidden for an overlap."""
    pool = _parse_network("subnet", subnet)
    if pool.prefixlen > 30:
        raise InvalidArgument(
            f"invalid subnet {subnet}: no room for a gateway and a container", hint="use /30 or larger"
        )
    if pool.is_loopback or pool.is_multicast or pool.network_address.is_unspecified:
        raise InvalidArgument(f"invalid subnet {subnet}: not a range that containers can use")
    clash = next((item for item in taken if item.network.overlaps(pool)), None)
    if clash is not None:
        raise Forbidden(
            f"invalid pool request: Pool overlaps with other one on this address space: {pool} overlaps "
            f"{clash.network} of {clash.owner}",
            hint="choose another --subnet",
            code="subnet-overlap",
        )
    chosen_range = ""
    if ip_range:
        part = _parse_network("ip range", ip_range)
        if not part.subnet_of(pool):
            raise InvalidArgument(f"no matching subnet for range {ip_range}: it is not inside {pool}")
        chosen_range = str(part)
    if gateway:
        host = _parse_address("gateway", gateway)
        _check_usable("gateway", host, pool)
    else:
        host = IPv4Network(chosen_range or pool).network_address + (
            0 if chosen_range and chosen_range != str(pool) else 1
        )
        if host == pool.network_address:
            host += 1
    return Subnet(subnet=str(pool), gateway=str(host), ip_range=chosen_range)


def allocate(connection: sqlite3.Connection, network: Network, endpoint_id: str | None, wanted: str | None) -> str:
    """Take an address of ``network`` for an endpoint (None: reserved without one); part of the caller's transaction.

    Raises InvalidArgument for an address outside the subnet, Conflict for one in use, Exhausted when none is free.
    """
    if not network.subnets:
        raise InvalidArgument(f"network {network.name} has no addresses to give")
    pool = network.subnets[0]
    taken = {row[0] for row in connection.execute("SELECT address FROM addresses WHERE network=?", (network.id,))}
    taken.add(pool.gateway)
    if wanted:
        address = _parse_address("address", wanted)
        _check_usable("address", address, pool.network)
        if str(address) in taken:
            raise Conflict(
                f"address {address} is already in use on network {network.name}",
                hint="choose another --ip",
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


def _check_usable(what: str, address: IPv4Address, pool: IPv4Network) -> None:
    if address not in pool:
        raise InvalidArgument(f"{what} {address} is not in subnet {pool}", hint=f"choose one inside {pool}")
    if address in (pool.network_address, pool.broadcast_address):
        raise InvalidArgument(f"{what} {address} is the network or broadcast address of {pool}")


def _parse_network(what: str, text: str) -> IPv4Network:
    if "/" not in text:
        raise InvalidArgument(f"invalid {what} {text}: no prefix length", hint="write it as 172.30.0.0/24")
    try:
        return IPv4Network(text)
    except (AddressValueError, NetmaskValueError) as error:
        raise InvalidArgument(f"invalid {what} {text}: {error}", hint="IPv4 as 172.30.0.0/24") from error
    except ValueError as error:
        masked = IPv4Network(text, strict=False)
        raise InvalidArgument(f"invalid {what} {text}: it should be {masked}") from error


def _parse_address(what: str, text: str) -> IPv4Address:
    try:
        return IPv4Address(text)
    except AddressValueError as error:
        raise InvalidArgument(f"invalid {what} {text}: {error}") from error
