"""The networks that an engine has: creating, finding and removing them, in database and kernel alike."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import sqlite3
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import AddressValueError, IPv4Network
from pathlib import Path

from tare.base.shielding import finish
from tare.errors import Conflict, Forbidden, InvalidArgument, NotFound
from tare.model.ids import new_id
from tare.network import ipam, netlink, records
from tare.network.ipam import Taken
from tare.network.model import PREDEFINED, Driver, Network, NetworkSettings, Subnet, bridge_interface
from tare.network.names import read_resolv_conf
from tare.network.steering import Steering
from tare.store.database import Database

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_BRIDGE_OPTION = "com.docker.network.bridge."
_HOST_LOCK = "/run/tare-networks.lock"  # one for all engines of the host
_MTU_OPTION = "com.docker.network.driver.mtu"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRequest:
    """What is asked of a new network; addresses as CIDR or dotted text, None where the engine may choose."""

    name: str
    driver: str = "bridge"
    subnet: str | None = None
    gateway: str | None = None
    ip_range: str | None = None
    internal: bool = False
    attachable: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    ipam_options: Mapping[str, str] = field(default_factory=dict)


class Catalogue:
    """Networks of one engine."""

    def __init__(self, db: Database, instance: str, settings: NetworkSettings, steering: Steering) -> None:
        self._db = db
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
        _check_request(request)
        network = await self._make(request)
        try:
            await self._steering.add_network(network)
        except BaseException:
            await finish(self._erase(network), what=f"network {network.name}")
            raise
        return network

    async def remove(self, reference: str) -> Network:
        """Remove a network without endpoints. Raises NotFound, Forbidden (predefined), Conflict (endpoints)."""

        def delete(connection: sqlite3.Connection) -> Network:
            network = records.find_network(connection, reference)
            if network.predefined:
                raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")
            active = records.endpoints(connection, network=network.id)
            if active:
                listed = ", ".join(f'name:"{item.container_name}" id:"{item.id[:12]}"' for item in active)
                raise Forbidden(
                    f"error while removing network: network {network.name} id {network.id} has active endpoints"
                    f" ({listed})",
                    hint="disconnect or stop these containers first",
                    code="network-in-use",
                )
            connection.execute("DELETE FROM networks WHERE id=?", (network.id,))
            return network

        network = await self._db.write(delete)
        if network.driver is Driver.BRIDGE:
            await self._steering.remove_network(network)
            await netlink.remove_link(network.bridge_name)
        return network

    async def _erase(self, network: Network) -> None:
        await self._db.write(lambda connection: connection.execute("DELETE FROM networks WHERE id=?", (network.id,)))
        await self._steering.replace()
        await netlink.remove_link(network.bridge_name)

    def _default_subnet(self, name: str) -> str | None:
        return (self._settings.default_subnet or None) if name == "bridge" else None

    async def _make(self, request: NetworkRequest) -> Network:
        """The row and the bridge, or nothing; other engines choose their subnets before or after."""
        async with self._creating, _host_lock():
            outside = await self._outside_ranges() if request.driver == Driver.BRIDGE else []
            await _check_interface(request.options.get(f"{_BRIDGE_OPTION}name", ""))

            def insert(connection: sqlite3.Connection) -> Network:
                taken = [*records.network_ranges(connection), *outside]
                network = self._plan(request, taken)
                records.insert_network(connection, network, time.time())
                return network

            network = await self._db.write(insert)
            if network.driver is Driver.BRIDGE:
                try:
                    await netlink.ensure_bridge(network)
                except BaseException:
                    await finish(self._erase(network), what=f"network {network.name}")
                    raise
            return network

    def _plan(self, request: NetworkRequest, taken: list[Taken]) -> Network:
        """The new network's document."""
        identifier, driver = new_id(), Driver(request.driver)
        subnets: tuple[Subnet, ...] = ()
        bridge_name, options = "", dict(request.options)
        if driver is Driver.BRIDGE:
            if request.subnet:
                subnets = (ipam.validate_subnet(request.subnet, request.gateway, request.ip_range, taken),)
            else:
                subnets = (ipam.choose_subnet(self._settings.default_address_pools, taken),)
            predefined = request.name == "bridge"
            bridge_name = options.get(f"{_BRIDGE_OPTION}name") or bridge_interface(
                self._instance, identifier, default=predefined
            )
            if predefined:
                options = _default_bridge_options(bridge_name, self._settings.mtu)
        return Network(
            id=identifier,
            name=request.name,
            driver=driver,
            created=datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "000Z"),
            subnets=subnets,
            internal=request.internal,
            icc=_flag(options, f"{_BRIDGE_OPTION}enable_icc"),
            masquerade=_flag(options, f"{_BRIDGE_OPTION}enable_ip_masquerade"),
            mtu=_mtu(options, self._settings.mtu),
            attachable=request.attachable,
            labels=dict(request.labels),
            options=options,
            ipam_options=dict(request.ipam_options),
            bridge_name=bridge_name,
        )

    async def _outside_ranges(self) -> list[Taken]:
        config = await asyncio.to_thread(read_resolv_conf, Path(self._settings.resolv_conf))
        taken = await netlink.host_ranges()
        for server in config.nameservers:
            try:
                taken.append(Taken(IPv4Network(f"{server}/32"), f"the host's nameserver {server}"))
            except AddressValueError:
                continue
        return taken


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


def _check_request(request: NetworkRequest) -> None:
    if request.name in PREDEFINED:
        raise Forbidden(f"operation is not permitted on predefined {request.name} network")
    if not _NAME.fullmatch(request.name):
        raise InvalidArgument(
            f"invalid network name {request.name!r}: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
        )
    if request.driver in {"host", "none", "null"}:
        raise Forbidden(f'only one instance of "{request.driver}" network is allowed')
    if request.driver != Driver.BRIDGE:
        raise NotFound(f"plugin {request.driver!r} not found", hint="the drivers are bridge, host and none")
    if request.gateway and not request.subnet:
        raise InvalidArgument(f"gateway {request.gateway} needs a subnet", hint="give --subnet as well")
    if request.ip_range and not request.subnet:
        raise InvalidArgument(f"ip range {request.ip_range} needs a subnet", hint="give --subnet as well")
    name = request.options.get(f"{_BRIDGE_OPTION}name", "")
    if name and not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,14}", name):
        raise InvalidArgument(f"invalid bridge name {name!r}: at most 15 letters, digits, dots and dashes")


async def _check_interface(name: str) -> None:
    if not name:
        return
    path = Path("/sys/class/net", name)
    if await asyncio.to_thread(path.exists):
        raise Conflict(f"interface {name} exists already", hint="choose another bridge name")


def _flag(options: Mapping[str, str], name: str) -> bool:
    value = options.get(name, "true").lower()
    if value not in {"true", "false", "1", "0"}:
        raise InvalidArgument(f"invalid value for option {name}: {value!r}", hint="true or false")
    return value in {"true", "1"}


def _mtu(options: Mapping[str, str], default: int) -> int:
    value = options.get(_MTU_OPTION, "")
    if not value or value == "0":
        return default
    if not value.isdecimal() or not 68 <= int(value) <= 65535:
        raise InvalidArgument(f"invalid value for option {_MTU_OPTION}: {value!r}", hint="68-65535")
    return int(value)


def _default_bridge_options(bridge: str, mtu: int) -> dict[str, str]:
    """What Docker shows for its default bridge."""
    return {
        f"{_BRIDGE_OPTION}default_bridge": "true",
        f"{_BRIDGE_OPTION}enable_icc": "true",
        f"{_BRIDGE_OPTION}enable_ip_masquerade": "true",
        f"{_BRIDGE_OPTION}host_binding_ipv4": "0.0.0.0",  # noqa: S104 - shown, nothing is bound
        f"{_BRIDGE_OPTION}name": bridge,
        _MTU_OPTION: str(mtu),
    }
