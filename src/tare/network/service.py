"""The engine's networks: what the rest of Tare calls.

The database is the truth; bridges, veth pairs, firewall elements and names follow it. Each change commits first what
it takes (address, port), then acts, and undoes everything when an action fails. What a crash leaves, the next
:meth:`NetworkService.start` brings in line.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import zlib
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from tare.base.locks import KeyedLocks
from tare.base.shielding import finish
from tare.errors import NotFound, TareError
from tare.model.ids import new_id
from tare.network import detour_links, links, macvlan, macvlan_links, netlink, records, routed, survey
from tare.network.catalogue import Catalogue, forward_ipv6
from tare.network.directory import Directory
from tare.network.endpoints import Attachment, claim, claim_addresses, republish, route_rank, veth_plan
from tare.network.model import (
    Driver,
    Endpoint,
    Network,
    NetworkSettings,
    PortRequest,
    PublishedPort,
    detour_interfaces,
    detour_mark,
    owns_interface,
)
from tare.network.names import container_resolver, host_resolver, hosts_file, read_resolv_conf
from tare.network.netlink import VethPlan
from tare.network.openings import openings
from tare.network.request import NetworkRequest, PoolRequest
from tare.network.ruleset import DETOUR_ADDRESSES, Detour, Forwarding
from tare.network.sandboxes import NamespaceOwner, Sandboxes
from tare.network.steering import Steering
from tare.store.database import Database

logger = logging.getLogger(__name__)


class NetworkService:
    """Networks, endpoints, published ports and names of one engine."""

    def __init__(self, db: Database, run_root: Path, instance: str, settings: NetworkSettings) -> None:
        self._db = db
        self._instance = instance
        if instance and not settings.first_port:  # engines side by side, whose ports no process holds, keep apart
            low, high = settings.port_range
            first = low + zlib.crc32(instance.encode()) % (high - low + 1)
            settings = msgspec.structs.replace(settings, first_port=first)
        self._settings = settings
        self._mark = f"tare-{instance}" if instance else "tare"  # whose the firewall's table and the parents are
        detour = Detour(*detour_interfaces(instance), detour_mark(instance)) if settings.respect_host_firewall else None
        self._steering = Steering(db, self._mark, detour)
        self._catalogue = Catalogue(db, instance, self._mark, settings, self._steering)
        self._sandboxes = Sandboxes(run_root)
        self._directory = Directory(db, run_root, self._sandboxes, settings)
        self._locks = KeyedLocks()
        self._background: set[asyncio.Task[None]] = set()

    # --- life cycle -------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Bring the kernel in line with the database; traffic of running containers goes on meanwhile."""
        await self._remove_unknown()
        await self._catalogue.ensure_predefined()
        if await netlink.enable_forwarding():
            logger.info("enabled net.ipv4.ip_forward")
        networks = {network.id: network for network in await self._catalogue.all()}
        if any(network.pool6 for network in networks.values()):
            await forward_ipv6()
        for network in networks.values():
            await self._ensure(network)
        await self._prepare_detour()
        await self._steering.replace()
        self._steering.watch()
        await self._reconnect(networks)
        await self._directory.start()

    async def stop(self, *, remove_kernel_state: bool) -> None:
        """Stop serving. Everything keeps working, or with ``remove_kernel_state`` nothing of it is left."""
        await self._steering.unwatch()
        await self._directory.detach()
        await self.settle()
        if not remove_kernel_state:
            return
        await self._directory.stop()
        for endpoint in await self._db.read(records.endpoints):
            if endpoint.host_interface:
                await netlink.remove_link(endpoint.host_interface)
        for path in await self._sandboxes.leftovers(everything=True):
            await self._sandboxes.remove(path)
        for network in await self._catalogue.all():
            await links.remove_network(network, self._mark)
        await self._steering.remove()
        await detour_links.remove(*detour_interfaces(self._instance), detour_mark(self._instance))

    async def _prepare_detour(self) -> None:
        (out, back), mark = detour_interfaces(self._instance), detour_mark(self._instance)
        if self._settings.respect_host_firewall:
            await detour_links.ensure(out, back, DETOUR_ADDRESSES, mark)
        else:
            await detour_links.remove(out, back, mark)

    async def settle(self) -> None:
        """Wait until the interfaces of ended containers and build steps are gone from the kernel too."""
        await asyncio.gather(*self._background, return_exceptions=True)

    # --- networks ---------------------------------------------------------------------------------------------------

    async def create_network(
        self,
        name: str,
        *,
        driver: str = "bridge",
        subnet: str | None = None,
        gateway: str | None = None,
        ip_range: str | None = None,
        aux_addresses: Mapping[str, str] | None = None,
        pools: Sequence[PoolRequest] = (),
        ipv4: bool = True,
        ipv6: bool = False,
        internal: bool = False,
        attachable: bool = False,
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
        ipam_driver: str = "default",
        ipam_options: Mapping[str, str] | None = None,
    ) -> Network:
        """Make a network; ``subnet`` and what follows it is short for one of ``pools``.

        Raises Conflict (name), Forbidden (overlap, predefined), InvalidArgument, Exhausted.
        """
        first = PoolRequest(
            subnet=subnet or "",
            gateway=gateway or "",
            ip_range=ip_range or "",
            aux_addresses=dict(aux_addresses or {}),
        )
        request = NetworkRequest(
            name=name,
            driver=driver,
            ipv4=ipv4,
            ipv6=ipv6,
            pools=tuple(pool for pool in (first, *pools) if pool != PoolRequest()),
            internal=internal,
            attachable=attachable,
            labels=labels or {},
            options=options or {},
            ipam_driver=ipam_driver,
            ipam_options=ipam_options or {},
        )
        return await self._catalogue.create(request)

    async def remove_network(self, reference: str) -> Network:
        """Remove a network. Raises NotFound, Forbidden when it is predefined or has endpoints (named in the error)."""
        return await self._catalogue.remove(reference)

    async def get_network(self, reference: str) -> Network:
        """A network by name, id or unique id prefix. Raises NotFound, Conflict when ambiguous."""
        return await self._catalogue.get(reference)

    async def list_networks(self) -> list[Network]:
        """Every network, oldest first."""
        return await self._catalogue.all()

    async def endpoints_of_network(self, network_id: str) -> list[Endpoint]:
        """The endpoints on a network, oldest first."""
        return await self._db.read(lambda connection: records.endpoints(connection, network=network_id))

    async def all_endpoints(self) -> list[Endpoint]:
        """Every endpoint, oldest first."""
        return await self._db.read(records.endpoints)

    async def endpoints_of_container(self, container_id: str) -> list[Endpoint]:
        """The endpoints of a container, oldest first."""
        return await self._db.read(lambda connection: records.endpoints(connection, container=container_id))

    async def survey(self) -> survey.Survey:
        """Networks, endpoints, published ports and what the firewall must say, all of one moment."""
        return await self._db.read(survey.read)

    @property
    def table(self) -> str:
        """The name of the engine's table (family inet)."""
        return self._steering.table

    async def published(self, container_id: str) -> list[PublishedPort]:
        """The ports that a container publishes."""

        def query(connection: sqlite3.Connection) -> list[PublishedPort]:
            return [
                port
                for endpoint in records.endpoints(connection, container=container_id)
                for port in records.ports_of_endpoint(connection, endpoint.id)
            ]

        return await self._db.read(query)

    # --- sandboxes --------------------------------------------------------------------------------------------------

    def sandbox_path(self, container_id: str) -> Path:
        """The file that keeps the container's network namespace (whether it exists or not)."""
        return self._sandboxes.path(container_id)

    async def create_sandbox(self, container_id: str, owner: NamespaceOwner | None = None) -> Path:
        """Make the container's network namespace with its loopback up; one left from an earlier run is replaced."""
        return await self._sandboxes.create(self._sandboxes.path(container_id), owner)

    async def remove_sandbox(self, container_id: str) -> None:
        """Let the container's network namespace go; absence is no error."""
        await self._directory.close(container_id)
        await self._sandboxes.remove(self._sandboxes.path(container_id))

    @asynccontextmanager
    async def build_sandbox(self, identifier: str) -> AsyncIterator[Path]:
        """A namespace on the network ``bridge`` for a build step: address, NAT; gone when the block ends."""
        network = await self._catalogue.get("bridge")
        path = self._sandboxes.build_path(identifier)
        addresses = await self._db.write(lambda db: claim_addresses(db, network, None), durable=False)
        plan = veth_plan(network, new_id(), path, addresses=addresses)
        try:
            await self._sandboxes.create(path)
            await netlink.connect(plan)
            yield path
        finally:
            await finish(self._remove_build_sandbox(network, plan), what=f"build sandbox {identifier}")

    async def host_resolv_conf(self) -> str:
        """The text of resolv.conf for what is on the network ``bridge``, build steps for instance."""
        host = await asyncio.to_thread(read_resolv_conf, Path(self._settings.resolv_conf))
        return host_resolver(host).render()

    # --- endpoints --------------------------------------------------------------------------------------------------

    async def attach(
        self,
        container_id: str,
        container_name: str,
        network_ref: str,
        *,
        aliases: Sequence[str] = (),
        address: str | None = None,
        address6: str | None = None,
        mac: str | None = None,
        interface: str | None = None,
        gateway_priority: int = 0,
        link_local: Sequence[str] = (),
        ports: Sequence[PortRequest] = (),
        hostname: str = "",
        nameservers: Sequence[str] = (),
        ipv6: bool = True,
        links: Sequence[tuple[str, str]] = (),
    ) -> Endpoint:
        """Connect a container (its row exists, its sandbox too unless the driver is host or none) to a network.

        ``interface`` None takes the first free of eth0, eth1, …. The default route of each family goes to the network
        of the highest ``gateway_priority``; :func:`tare.network.endpoints.route_rank` orders several. ``ipv6`` False
        takes no address of that family. ``links`` are pairs of a private alias and the name that it stands for.
        Raises NotFound, Conflict (connected already, address or port in use), InvalidArgument, Exhausted; nothing is
        left behind then.
        """
        request = Attachment(
            endpoint_id=new_id(),
            container_id=container_id,
            container_name=container_name,
            aliases=tuple(aliases),
            address=address,
            address6=address6,
            mac=mac,
            interface=interface,
            gateway_priority=gateway_priority,
            link_local=tuple(link_local),
            ports=tuple(ports),
            hostname=hostname,
            nameservers=tuple(nameservers),
            links=tuple(links),
            ipv6=ipv6,
        )
        async with self._locks.hold(container_id):
            network = await self._catalogue.get(network_ref)
            if network.driver.has_interfaces:
                await self._sandboxes.require(container_id)
            endpoint, published = await self._claim(network, request)
            if network.driver.has_interfaces:
                try:
                    await self._connect(network, endpoint, published)
                    if endpoint.default_route or endpoint.default_route6:
                        await self._take_default_route_from_others(endpoint)
                except BaseException:
                    await finish(self._disconnect(network, endpoint), what=f"endpoint of {container_name}")
                    raise
            return endpoint

    async def detach(self, container_id: str, network_ref: str) -> None:
        """Disconnect a container from a network. Raises NotFound when it is not connected."""
        async with self._locks.hold(container_id):
            network = await self._catalogue.get(network_ref)
            mine = await self.endpoints_of_container(container_id)
            endpoint = next((item for item in mine if item.network_id == network.id), None)
            if endpoint is None:
                raise NotFound(
                    f"container {container_id} is not connected to network {network.name}", code="not-connected"
                )
            await self._disconnect(network, endpoint)
            await self._pass_on_default_routes(endpoint, [item for item in mine if item.id != endpoint.id])

    async def republish(self, container_id: str, requests: Sequence[PortRequest]) -> None:
        """Have the endpoint with the default route publish the container's ports, as in Docker.

        Ports that another endpoint of the container has move; when none has any, ``requests`` are published. Raises
        Conflict for a port in use, Exhausted; what was published stays so then.
        """

        def move(connection: sqlite3.Connection) -> tuple[routed.Change, list[Forwarding], list[Forwarding]]:
            change = routed.reopen(connection, container_id, requests)
            return change, *republish(
                connection, container_id, requests, self._settings, translate=bool(change.closing)
            )

        async with self._locks.hold(container_id):
            change, before, after = await self._db.write(move, durable=False)
            await self._steering.close(change.closing)
            await self._steering.unpublish([*change.closed, *before])
            await self._steering.publish(after)
            await self._steering.open(change.opening)

    async def detach_all(self, container_id: str) -> None:
        """Disconnect a container from everything, as when it has stopped; nothing connected is no error."""
        async with self._locks.hold(container_id):
            for endpoint in await self.endpoints_of_container(container_id):
                await self._disconnect(await self._catalogue.get(endpoint.network_id), endpoint, lasting=False)

    async def rename(self, container_id: str, name: str) -> None:
        """Let a container's endpoints, and the names that resolve to it, follow its new name."""
        async with self._locks.hold(container_id):
            for endpoint in await self.endpoints_of_container(container_id):
                renamed = msgspec.structs.replace(endpoint, container_name=name)
                await self._db.write(
                    lambda connection, renamed=renamed: records.update_endpoint(connection, renamed)  # type: ignore[misc]
                )
                network = await self._catalogue.get(endpoint.network_id)
                await self._directory.add(network, renamed)

    async def resolv_conf(
        self, container_id: str, *, dns: Sequence[str] = (), search: Sequence[str] = (), options: Sequence[str] = ()
    ) -> str:
        """The text of the container's ``/etc/resolv.conf`` for the networks that it is connected to now."""
        embedded = False
        for endpoint in await self.endpoints_of_container(container_id):
            embedded |= (await self._catalogue.get(endpoint.network_id)).resolves_names
        host = await asyncio.to_thread(read_resolv_conf, Path(self._settings.resolv_conf))
        return container_resolver(
            host, embedded=embedded, dns=dns, search=search, options=options, source=self._settings.resolv_conf
        ).render()

    async def hosts_file(
        self,
        container_id: str,
        *,
        hostname: str,
        domainname: str = "",
        extra_hosts: Sequence[tuple[str, str]] = (),
    ) -> str:
        """The text of the container's ``/etc/hosts``; ``extra_hosts`` are pairs of name and address."""
        endpoints = await self.endpoints_of_container(container_id)
        return hosts_file(hostname=hostname, domainname=domainname, endpoints=endpoints, extra_hosts=extra_hosts)

    # --- steps ------------------------------------------------------------------------------------------------------

    async def _claim(self, network: Network, request: Attachment) -> tuple[Endpoint, list[PublishedPort]]:
        try:
            return await self._db.write(
                lambda connection: claim(connection, network, request, self._settings), durable=False
            )
        except asyncio.CancelledError:  # the transaction may go through all the same, and this one follows it
            undo = self._db.write(lambda connection: records.delete_endpoint(connection, request.endpoint_id))
            await finish(undo, what=f"endpoint of {request.container_name}")
            raise

    async def _connect(self, network: Network, endpoint: Endpoint, published: Sequence[PublishedPort]) -> None:
        plan = veth_plan(network, endpoint.id, self._sandboxes.path(endpoint.container_id), endpoint=endpoint)
        await links.connect(network, plan)
        await self._directory.add(network, endpoint)
        await self._steering.publish([Forwarding.to(endpoint, port) for port in published])
        await self._steering.open(openings(endpoint))

    async def _disconnect(self, network: Network, endpoint: Endpoint, *, lasting: bool = True) -> None:
        """Undo :meth:`_connect`, however far it came; ports close first, the address is free again last.

        ``lasting`` tells that the namespace lives on, so that its interface must be gone when this returns.
        """

        def close_ports(connection: sqlite3.Connection) -> list[PublishedPort]:
            closed = records.ports_of_endpoint(connection, endpoint.id)
            connection.execute("DELETE FROM published_ports WHERE endpoint=?", (endpoint.id,))
            return closed

        closed = await self._db.write(close_ports, durable=False, freeing=True)
        await self._steering.unpublish([Forwarding.to(endpoint, port) for port in closed])
        await self._steering.close(openings(endpoint))
        await self._directory.remove(network, endpoint)
        namespace = self._sandboxes.path(endpoint.container_id)
        if lasting:
            await links.remove(network, endpoint, namespace)
        else:  # down it is silent, so the address may go to another; nobody waits until it is deleted
            await links.silence(network, endpoint, namespace)
            if endpoint.host_interface:
                self._later(netlink.remove_link(endpoint.host_interface))
        await self._db.write(
            lambda connection: records.delete_endpoint(connection, endpoint.id), durable=False, freeing=True
        )

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _take_default_route_from_others(self, owner: Endpoint) -> None:
        """Note which routes ``owner`` has; its interface was made with them."""

        def note(connection: sqlite3.Connection) -> None:
            for other in records.endpoints(connection, container=owner.container_id):
                if other.id != owner.id:
                    changed = msgspec.structs.replace(
                        other,
                        default_route=other.default_route and not owner.default_route,
                        default_route6=other.default_route6 and not owner.default_route6,
                    )
                    records.update_endpoint(connection, changed)

        await self._db.write(note, durable=False)

    async def _pass_on_default_routes(self, gone: Endpoint, remaining: Sequence[Endpoint]) -> None:
        """Let the routes that an endpoint had lead through the best of those that remain."""
        if not await self._sandboxes.exists(gone.container_id):
            return
        path = self._sandboxes.path(gone.container_id)
        heir = min((item for item in remaining if item.gateway), key=route_rank, default=None)
        if gone.default_route and heir is not None:
            await netlink.set_default_route(path, heir.gateway)
            await self._note_routes(heir, default_route=True)
        heir = min((item for item in remaining if item.gateway6), key=route_rank, default=None)
        if gone.default_route6 and heir is not None:
            await netlink.set_default_route(path, heir.gateway6, version=6)
            await self._note_routes(heir, default_route6=True)

    async def _note_routes(self, heir: Endpoint, **changes: bool) -> None:
        def note(connection: sqlite3.Connection) -> None:
            for endpoint in records.endpoints(connection, container=heir.container_id):
                if endpoint.id == heir.id:
                    records.update_endpoint(connection, msgspec.structs.replace(endpoint, **changes))

        await self._db.write(note, durable=False)

    async def _remove_build_sandbox(self, network: Network, plan: VethPlan) -> None:
        await netlink.take_down(plan.host_interface)
        self._later(netlink.remove_link(plan.host_interface))
        await self._sandboxes.remove(plan.namespace)

        def release(connection: sqlite3.Connection) -> None:
            connection.execute(
                "DELETE FROM addresses WHERE network=? AND address IN (?, ?) AND endpoint IS NULL",
                (network.id, plan.address, plan.address6),
            )

        await self._db.write(release, durable=False)

    async def _remove_unknown(self) -> None:
        """Remove what a crash left: addresses, namespaces and veths of build steps, bridges of no network."""
        await self._db.write(lambda db: db.execute("DELETE FROM addresses WHERE endpoint IS NULL"), durable=False)
        for path in await self._sandboxes.leftovers():
            await self._sandboxes.remove(path)
        known = {network.bridge_name for network in await self._catalogue.all()}
        interfaces = {endpoint.host_interface for endpoint in await self._db.read(records.endpoints)}
        for bridge in await netlink.bridges():
            if bridge not in known and not owns_interface(self._instance, bridge):
                continue
            for port in await netlink.ports_of_bridge(bridge):
                if port not in interfaces and port.startswith("tv"):
                    await netlink.remove_link(port)
            if bridge not in known:
                logger.info("removing bridge %s, which belongs to no network", bridge)
                await netlink.remove_link(bridge)

        parents = macvlan.parents_made(await self._catalogue.all())
        for parent in await macvlan_links.made_parents(self._mark):
            if parent not in parents:
                logger.info("removing interface %s, which belongs to no network", parent)
                await macvlan_links.remove_parent(parent, self._mark)

    async def _ensure(self, network: Network) -> None:
        """Make what a network stands on; a macvlan's parent may have gone: its containers say so when they start."""
        try:
            await links.ensure_network(network, self._mark)
        except TareError:
            if network.driver is not Driver.MACVLAN:
                raise
            logger.exception("the parent of network %s cannot be made", network.name)

    async def _reconnect(self, networks: Mapping[str, Network]) -> None:
        """Connect anew the endpoints whose interface is gone although their namespace is there."""
        for endpoint in await self._db.read(records.endpoints):
            network = networks[endpoint.network_id]
            path = self._sandboxes.path(endpoint.container_id)
            if not network.driver.has_interfaces or not await self._sandboxes.exists(endpoint.container_id):
                continue
            if await links.is_connected(network, endpoint, path):
                continue
            logger.warning("reconnecting container %s to network %s", endpoint.container_name, network.name)
            try:
                await links.remove(network, endpoint, path)
                await links.connect(network, veth_plan(network, endpoint.id, path, endpoint=endpoint))
            except TareError:
                logger.exception("container %s stays without network %s", endpoint.container_name, network.name)
