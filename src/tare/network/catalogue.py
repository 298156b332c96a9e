"""The networks that an engine has: creating, finding and removing them, in database and kernel alike."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path

import msgspec

from tare.base.shielding import finish
from tare.errors import Conflict, Forbidden, InvalidArgument
from tare.model.ids import new_id
from tare.network import ipam, links, macvlan, macvlan_links, netlink, records
from tare.network.ipam import Taken
from tare.network.model import (
    LEAST_MTU6,
    PREDEFINED,
    AddressPool,
    Driver,
    Network,
    NetworkSettings,
    Subnet,
    bridge_interface,
    unique_local_pool,
)
from tare.network.names import read_resolv_conf
from tare.network.request import (
    NetworkRequest,
    PoolRequest,
    check_addresses,
    check_drivers,
    check_name,
    default_bridge_options,
    read_options,
)
from tare.network.steering import Steering
from tare.store.database import Database

logger = logging.getLogger(__name__)

_MACHINE_ID = Path("/etc/machine-id")
_HOST_LOCK = "/run/tare-networks.lock"  # one for all engines of the host


class Catalogue:
    """Networks of one engine."""

    def __init__(self, db: Database, instance: str, mark: str, settings: NetworkSettings, steering: Steering) -> None:
        self._db = db
        self._mark = mark
        self._instance = instance
        self._settings = settings
        self._steering = steering
        self._creating = asyncio.Lock()  # subnets are chosen against the host's routes, one at a time

    async def get(self, reference: str) -> Network:
        """A network by name, id or unique id prefix. Raises NotFound, Conflict when ambiguous."""
        return await self._db.read(lambda connection: records.find_network(connection, reference))

    async def all(self) -> list[Network]:
        """Every network, oldest first."""
        return await self._db.read(records.all_networks)

    async def ensure_predefined(self) -> None:
        """Make the networks that every engine has; the firewall and the bridges are the caller's.

        The network ``bridge`` follows the configuration's IPv6 when no container is on it.
        """
        known = {network.name: network for network in await self.all()}
        for name in PREDEFINED:
            if name not in known:
                await self._make(self._predefined(name))
        if "bridge" in known:
            await self._follow_configuration(known["bridge"])

    async def _follow_configuration(self, bridge: Network) -> None:
        wanted = self._predefined("bridge")
        asked = self._settings.default_subnet6
        has = bridge.pool6.subnet if bridge.pool6 else ""
        if bridge.ipv6 == wanted.ipv6 and (not wanted.ipv6 or asked in ("", has)):
            return
        if await self._db.read(lambda connection: records.endpoints(connection, network=bridge.id)):
            logger.warning("network bridge keeps its addresses, as containers are on it: stop them, then start again")
            return
        await netlink.remove_link(bridge.bridge_name)  # with the old address, which the new subnet may hold
        async with self._creating, _host_lock():
            outside = await self._outside_ranges()
            defaults = await asyncio.to_thread(self._default_pools)

            def change(connection: sqlite3.Connection) -> None:
                others = [item for item in records.network_ranges(connection) if item.owner != "network bridge"]
                pools = tuple(pool for pool in bridge.subnets if pool.version == 4)
                pools += _place_subnets(replace(wanted, ipv4=False), [*others, *outside], defaults)
                changed = msgspec.structs.replace(bridge, ipv6=wanted.ipv6, subnets=pools)
                records.update_network(connection, changed)

            await self._db.write(change)

    async def create(self, request: NetworkRequest) -> Network:
        """Make a network: row, bridge and firewall elements, or nothing. Raises Conflict, InvalidArgument, …."""
        check_name(request)
        check_addresses(request)
        await self._db.read(lambda connection: records.check_network_name(connection, request.name))
        check_drivers(request)
        network = await self._make(request)
        try:
            await self._steering.add_network(network)
        except BaseException:
            await finish(self._erase(network), what=f"network {network.name}")
            raise
        return network

    async def remove(self, reference: str) -> Network:
        """Remove a network without endpoints. Raises NotFound, Forbidden (predefined), Conflict (endpoints)."""

        def delete(connection: sqlite3.Connection) -> tuple[Network, Network | None]:
            network = records.find_network(connection, reference)
            if network.predefined:
                raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")
            active = records.endpoints(connection, network=network.id)
            if active:
                listed = ", ".join(f'name:"{item.container_name}" id:"{item.id[:12]}"' for item in active)
                raise Forbidden(
                    f"error while removing network: network {network.name} has active endpoints ({listed})",
                    hint="disconnect or stop these containers first",
                    code="network-in-use",
                )
            connection.execute("DELETE FROM networks WHERE id=?", (network.id,))
            heir = macvlan.heir_of_parent(network, records.all_networks(connection))
            if heir is not None and heir.macvlan is not None:
                kept = msgspec.structs.replace(heir.macvlan, made=True)
                records.update_network(connection, msgspec.structs.replace(heir, macvlan=kept))
            return network, heir

        network, heir = await self._db.write(delete)
        await self._steering.remove_network(network)
        if heir is None:
            await links.remove_network(network, self._mark)
        return network

    async def _erase(self, network: Network) -> None:
        await self._db.write(lambda connection: connection.execute("DELETE FROM networks WHERE id=?", (network.id,)))
        await self._steering.replace()
        await links.remove_network(network, self._mark)

    def _predefined(self, name: str) -> NetworkRequest:
        if name != "bridge":
            return NetworkRequest(name=name, driver=name)
        settings = self._settings
        subnets = (settings.default_subnet, settings.default_subnet6 if settings.ipv6 else "")
        pools = tuple(PoolRequest(subnet=subnet) for subnet in subnets if subnet)
        return NetworkRequest(name=name, driver=name, ipv6=settings.ipv6, pools=pools)

    async def _make(self, request: NetworkRequest) -> Network:
        """The row and the bridge, or nothing; other engines choose their subnets before or after."""
        async with self._creating, _host_lock():
            outside = await self._outside_ranges() if _must_keep_clear(request) else []
            bridge = ""
            if request.driver == Driver.BRIDGE:
                bridge = read_options(request.options, self._settings.mtu, internal=request.internal).bridge_name
            defaults = await asyncio.to_thread(self._default_pools)
            has_parent = await macvlan_links.exists(request.options.get(macvlan.PARENT_OPTION, ""))

            def check_bridge(connection: sqlite3.Connection) -> None:
                records.check_bridge_name(connection, bridge, request.name)

            if bridge:
                await self._db.read(check_bridge)
                await _check_interface(bridge)

            def insert(connection: sqlite3.Connection) -> Network:
                taken = [*records.network_ranges(connection), *outside]
                network = self._plan(request, taken, defaults, has_parent=has_parent)
                if network.macvlan is not None:
                    macvlan.check_parent(network, records.all_networks(connection))
                records.insert_network(connection, network, time.time())
                return network

            network = await self._db.write(insert)
            try:
                if network.pool6 and network.driver is Driver.BRIDGE:
                    await forward_ipv6()
                await links.ensure_network(network, self._mark)
            except BaseException:
                await finish(self._erase(network), what=f"network {network.name}")
                raise
            return network

    def _default_pools(self) -> tuple[AddressPool, ...]:
        """The pools of both families that subnets come from."""
        configured = self._settings.default_address_pools
        if any(":" in pool.base for pool in configured):
            return configured
        return (*configured, unique_local_pool(f"{_machine_id()} {self._instance}".encode()))

    def _plan(
        self, request: NetworkRequest, taken: list[Taken], defaults: Sequence[AddressPool], *, has_parent: bool
    ) -> Network:
        """The new network's document; ``has_parent`` tells whether the host has the parent of a macvlan."""
        identifier, driver = new_id(), Driver(request.driver)
        options = dict(request.options)
        asked = read_options(options if driver is Driver.BRIDGE else {}, self._settings.mtu, internal=request.internal)
        bridge_name = ""
        subnets: tuple[Subnet, ...] = ()
        if driver.has_interfaces:
            subnets = _place_subnets(request, taken, defaults)
        if driver is Driver.BRIDGE:
            if request.ipv6 and asked.mtu < LEAST_MTU6:
                raise InvalidArgument(
                    f"MTU {asked.mtu} is too small for IPv6",
                    hint=f"use {LEAST_MTU6} or more, or leave out --ipv6",
                    code="bad-network-option",
                )
            predefined = request.name == "bridge"
            bridge_name = asked.bridge_name or bridge_interface(self._instance, identifier, default=predefined)
            if predefined:
                options = default_bridge_options(bridge_name, self._settings.mtu)
        given = {pool.version for pool in request.pools} if request.name != "bridge" else set()
        return Network(
            id=identifier,
            name=request.name,
            driver=driver,
            created=datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "000Z"),
            ipv4=request.ipv4,
            ipv6=request.ipv6,
            subnets=subnets,
            subnet_given=4 in given,
            subnet6_given=6 in given,
            idle_subnets=tuple(_idle(pool) for pool in request.pools if pool.version not in request.families),
            internal=request.internal,
            icc=asked.icc,
            masquerade=asked.masquerade,
            mtu=asked.mtu,
            attachable=request.attachable,
            labels=dict(request.labels),
            options=options,
            ipam_options=dict(request.ipam_options),
            bridge_name=bridge_name,
            macvlan=macvlan.read_options(options, identifier, exists=has_parent) if driver is Driver.MACVLAN else None,
        )

    async def _outside_ranges(self) -> list[Taken]:
        config = await asyncio.to_thread(read_resolv_conf, Path(self._settings.resolv_conf))
        taken = await netlink.host_ranges()
        for server in config.nameservers:
            try:
                taken.append(Taken.of(ip_network(server), f"the host's nameserver {server}"))
            except ValueError:  # a name, or an address of one link with its interface
                continue
        return taken


def _place_subnets(request: NetworkRequest, taken: list[Taken], defaults: Sequence[AddressPool]) -> tuple[Subnet, ...]:
    """The subnets asked for, and of a family for which none is a piece of the default pools.

    A bridge has one of each family. Where nobody but containers has an address there is no gateway but one that is
    named, as in Docker.
    """
    found: list[Subnet] = []
    for version in request.families:
        asked = [pool for pool in request.pools if pool.version == version]
        if len(asked) > 1 and request.driver == Driver.BRIDGE:
            raise InvalidArgument("bridge driver doesn't support multiple subnets", hint="give one of each family")
        placed = [ipam.place_subnet(pool, taken) for pool in asked]
        placed = placed or [ipam.choose_subnet(defaults, taken, version)]
        named = {pool.subnet for pool in asked if pool.gateway}
        found += [
            msgspec.structs.replace(pool, gateway="", gateway_shown=False)
            if request.needs_no_gateway(version) and pool.subnet not in named
            else pool
            for pool in placed
        ]
    return tuple(found)


def _idle(pool: PoolRequest) -> Subnet:
    """A pool whose family is off, as it was written."""
    return Subnet(
        subnet=pool.subnet,
        gateway=pool.gateway,
        ip_range=pool.ip_range,
        aux_addresses=pool.aux_addresses,
        gateway_shown=bool(pool.gateway),
    )


async def forward_ipv6() -> None:
    """Let the host forward IPv6, and log what that changed. Raises Unsupported where the kernel has no IPv6."""
    enabled, kept = await netlink.enable_forwarding6()
    if enabled:
        logger.info("enabled net.ipv6.conf.all.forwarding")
    for name in kept:
        logger.info("set net.ipv6.conf.%s.accept_ra to 2, as its routes come from advertisements", name)


def _machine_id() -> str:
    """What tells this host from others; random where it has no machine-id(5), which only makes ranges differ."""
    try:
        return _MACHINE_ID.read_text().strip() or new_id()
    except OSError:
        return new_id()


def _must_keep_clear(request: NetworkRequest) -> bool:
    """Whether the subnet must not be one of the host: a macvlan's is that of the LAN that the host is in, too."""
    return request.driver == Driver.BRIDGE or (request.driver == Driver.MACVLAN and not request.pools)


@asynccontextmanager
async def _host_lock() -> AsyncIterator[None]:
    """Keeps two engines from taking one subnet: the choice and the bridge that shows it go together."""

    def lock() -> int:
        fd = os.open(_HOST_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        return fd

    fd = await asyncio.to_thread(lock)
    try:
        yield
    finally:
        os.close(fd)


async def _check_interface(name: str) -> None:
    path = Path("/sys/class/net", name)
    if await asyncio.to_thread(path.exists):
        if not await asyncio.to_thread((path / "bridge").exists):
            raise InvalidArgument(f"existing interface {name} is not a bridge", hint="choose another bridge name")
        raise Conflict(f"interface {name} exists already", hint="choose another bridge name")
