"""The networks that an engine has: creating, finding and removing them, in database and kernel alike."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from ipaddress import AddressValueError, IPv4Network
from pathlib import Path

import msgspec

from tare.base.shielding import finish
from tare.errors import Conflict, Forbidden, InvalidArgument
from tare.model.ids import new_id
from tare.network import ipam, links, macvlan, macvlan_links, netlink, records
from tare.network.ipam import Taken
from tare.network.model import PREDEFINED, Driver, Network, NetworkSettings, Subnet, bridge_interface
from tare.network.names import read_resolv_conf
from tare.network.request import (
    NetworkRequest,
    check_addresses,
    check_drivers,
    check_name,
    default_bridge_options,
    read_options,
)
from tare.network.steering import Steering
from tare.store.database import Database

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
        """Make the networks that every engine has; the firewall is told by the caller."""
        known = {network.name for network in await self.all()}
        for name in PREDEFINED:
            if name not in known:
                await self._make(NetworkRequest(name=name, driver=name, subnet=self._default_subnet(name)))

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

    def _default_subnet(self, name: str) -> str | None:
        return (self._settings.default_subnet or None) if name == "bridge" else None

    async def _make(self, request: NetworkRequest) -> Network:
        """The row and the bridge, or nothing; other engines choose their subnets before or after."""
        async with self._creating, _host_lock():
            outside = await self._outside_ranges() if _must_keep_clear(request) else []
            bridge = ""
            if request.driver == Driver.BRIDGE:
                bridge = read_options(request.options, self._settings.mtu, internal=request.internal).bridge_name
            has_parent = await macvlan_links.exists(request.options.get(macvlan.PARENT_OPTION, ""))

            def check_bridge(connection: sqlite3.Connection) -> None:
                records.check_bridge_name(connection, bridge, request.name)

            if bridge:
                await self._db.read(check_bridge)
                await _check_interface(bridge)

            def insert(connection: sqlite3.Connection) -> Network:
                taken = [*records.network_ranges(connection), *outside]
                network = self._plan(request, taken, has_parent=has_parent)
                if network.macvlan is not None:
                    macvlan.check_parent(network, records.all_networks(connection))
                records.insert_network(connection, network, time.time())
                return network

            network = await self._db.write(insert)
            try:
                await links.ensure_network(network, self._mark)
            except BaseException:
                await finish(self._erase(network), what=f"network {network.name}")
                raise
            return network

    def _plan(self, request: NetworkRequest, taken: list[Taken], *, has_parent: bool) -> Network:
        """The new network's document; ``has_parent`` tells whether the host has the parent of a macvlan."""
        identifier, driver = new_id(), Driver(request.driver)
        subnets: tuple[Subnet, ...] = ()
        options = dict(request.options)
        asked = read_options(options if driver is Driver.BRIDGE else {}, self._settings.mtu, internal=request.internal)
        bridge_name = ""
        if driver.has_interfaces:
            if request.subnet:
                subnets = (ipam.place_subnet(request, taken),)
            else:
                subnets = (ipam.choose_subnet(self._settings.default_address_pools, taken),)
                if request.needs_no_gateway:
                    subnets = (msgspec.structs.replace(subnets[0], gateway="", gateway_shown=False),)
        if driver is Driver.BRIDGE:
            predefined = request.name == "bridge"
            bridge_name = asked.bridge_name or bridge_interface(self._instance, identifier, default=predefined)
            if predefined:
                options = default_bridge_options(bridge_name, self._settings.mtu)
        return Network(
            id=identifier,
            name=request.name,
            driver=driver,
            created=datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "000Z"),
            subnets=subnets,
            subnet_given=request.subnet is not None and request.name != "bridge",
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
                taken.append(Taken.of(IPv4Network(f"{server}/32"), f"the host's nameserver {server}"))
            except AddressValueError:
                continue
        return taken


def _must_keep_clear(request: NetworkRequest) -> bool:
    """Whether the subnet must not be one of the host: a macvlan's is that of the LAN that the host is in, too."""
    return request.driver == Driver.BRIDGE or (request.driver == Driver.MACVLAN and not request.subnet)


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
