"""The networks service."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

from tare.base.locks import KeyedLocks
from tare.base.shielding import finish
from tare.engine.endpoint_checks import check_can_join, check_endpoint
from tare.engine.events import Events
from tare.engine.network_filters import select, select_for_prune
from tare.engine.records import ContainerRecords
from tare.engine.requests import Filters, NetworkCreate
from tare.engine.sandbox import Sandboxes, port_requests
from tare.engine.use_events import publish_use
from tare.errors import Conflict, Forbidden, NotFound
from tare.model import ContainerStatus
from tare.model.container import Container, EndpointSettings
from tare.network.model import Endpoint, Network
from tare.network.service import NetworkService


@dataclass(frozen=True, slots=True)
class NetworkDetails:
    """A network and who is on it, by container id, with the containers' names."""

    network: Network
    endpoints: dict[str, tuple[str, Endpoint]]


class Networks:
    """Make, list, join, leave and remove networks."""

    def __init__(
        self,
        *,
        network: NetworkService,
        records: ContainerRecords,
        sandboxes: Sandboxes,
        events: Events,
        locks: KeyedLocks,
    ) -> None:
        self._network = network
        self._records = records
        self._sandboxes = sandboxes
        self._events = events
        self._locks = locks

    async def create(self, request: NetworkCreate) -> tuple[str, str]:
        """Make a network; returns its id and a warning. Raises Conflict, InvalidArgument, NotFound (driver)."""
        network = await self._network.create_network(
            request.name,
            driver=request.driver or "bridge",
            pools=request.pools,
            ipv4=request.ipv4,
            ipv6=request.ipv6,
            internal=request.internal,
            labels=dict(request.labels),
            options=dict(request.options),
            attachable=request.attachable,
            ipam_driver=request.ipam_driver,
            ipam_options=dict(request.ipam_options),
        )
        self._emit(network, "create")
        return network.id, ""

    async def inspect(self, reference: str) -> NetworkDetails:
        """A network with its endpoints. Raises NotFound."""
        network = await self._network.get_network(reference)
        endpoints = {}
        for endpoint in await self._network.endpoints_of_network(network.id):
            with contextlib.suppress(NotFound):
                container = await self._records.get(endpoint.container_id)
                endpoints[container.id] = (container.name, endpoint)
        return NetworkDetails(network, endpoints)

    async def remove(self, reference: str) -> None:
        """Remove. Raises NotFound, Forbidden for predefined ones, Conflict while containers are on it."""
        network = await self._network.get_network(reference)
        await self._network.remove_network(network.id)
        self._emit(network, "destroy")

    async def connect(self, reference: str, container_ref: str, settings: EndpointSettings | None) -> None:
        """Put a container on one more network; one that runs gets its interface at once."""
        network = await self._network.get_network(reference)
        container = await self._records.get(container_ref)
        async with self._locks.hold(container.id):
            container = await self._records.get(container.id)
            check_can_join(container.host_config.network_mode, frozenset(container.networking), network)
            asked = settings or EndpointSettings()
            check_endpoint(asked, network, network_name=network.name, creating=False)

            def joined(document: Container) -> None:
                document.networking[network.name] = asked

            if ContainerStatus(container.state.status).is_live:
                if network.name in container.networking:
                    raise Forbidden(f"endpoint with name {container.name} already exists in network {network.name}")
                await self._sandboxes.join(container, network.name, asked, ports=[])
                await self._sandboxes.refresh_files(container, come=await self._addresses(container, network))
                try:
                    await self._network.republish(container.id, port_requests(container))
                except BaseException:
                    undo = self._network.detach(container.id, network.id)
                    await finish(undo, what=f"endpoint of {container.name} on {network.name}")
                    raise
                publish_use(self._events, "connect", network, container.id)
            await self._records.update(container.id, joined, durable=True)

    async def disconnect(self, reference: str, container_ref: str, *, force: bool = False) -> None:
        """Take a container off a network. Raises NotFound, Forbidden when it is not on it.

        ``force`` is for a container that is gone: nothing of it can be left here, so its absence is told, as in Docker.
        """
        network = await self._network.get_network(reference)
        try:
            container = await self._records.get(container_ref)
        except NotFound as error:
            if not force:
                raise
            raise NotFound(f"endpoint {container_ref} not found", code=error.code) from error
        async with self._locks.hold(container.id):
            container = await self._records.get(container.id)
            live = ContainerStatus(container.state.status).is_live
            if network.name == "host" and container.host_config.network_mode == "host":
                raise Forbidden(
                    "cannot disconnect container from host network - container was created in host network mode",
                    hint="make it anew with another network",
                    code="shared-namespace",
                )
            if network.name not in container.networking:
                the = "" if live else "the "
                raise Forbidden(
                    f"container {container.id} is not connected to {the}network {network.name}", code="not-connected"
                )
            connected = live and any(
                endpoint.network_id == network.id
                for endpoint in await self._network.endpoints_of_container(container.id)
            )
            await self._leave(container, network, connected=connected)
        if connected:
            publish_use(self._events, "disconnect", network, container.id)

    async def _leave(self, container: Container, network: Network, *, connected: bool) -> None:
        """Take a container off a network, in its document first: the next start removes what a crash leaves."""
        settings = container.networking[network.name]

        def left(document: Container) -> None:
            document.networking.pop(network.name, None)

        def returned(document: Container) -> None:
            document.networking[network.name] = settings

        await self._records.update(container.id, left, durable=True)
        if not connected:
            return
        try:
            gone = await self._addresses(container, network)
            await self._network.detach(container.id, network.id)
            await self._sandboxes.refresh_files(container, gone=gone)
        except BaseException:
            back = self._records.update(container.id, returned, durable=True)
            await finish(back, what=f"network {network.name} of {container.name}")
            raise
        await self._network.republish(container.id, port_requests(container))

    async def _addresses(self, container: Container, network: Network) -> list[str]:
        """A container's addresses on a network."""
        endpoints = await self._network.endpoints_of_container(container.id)
        return [address for item in endpoints if item.network_id == network.id for address in item.addresses]

    async def prune(self, filters: Filters | None = None) -> list[str]:
        """Remove networks that no container refers to; returns their names. Raises InvalidArgument for a filter."""
        chosen = select_for_prune(await self._network.list_networks(), filters or {}, time.time())
        live = {name for container in await self._records.list() for name in _live_networks(container)}
        removed = []
        for network in chosen:
            if network.name in live:
                continue
            with contextlib.suppress(Conflict, Forbidden, NotFound):
                await self.remove(network.id)
                removed.append(network.name)
        self._events.publish("network", "prune", "", {"reclaimed": "0"})
        return removed

    def _emit(self, network: Network, action: str) -> None:
        self._events.publish("network", action, network.id, {"name": network.name, "type": network.driver.stored_as})

    async def list(self, filters: Filters | None = None) -> list[Network]:
        """Networks; filters: id, name, driver, label, type, dangling, scope. Raises InvalidArgument for another."""
        used: set[str] = set()
        if (filters or {}).get("dangling"):
            used = {endpoint.network_id for endpoint in await self._network.all_endpoints()}
        return select(await self._network.list_networks(), filters or {}, used)


def _live_networks(container: Container) -> list[str]:
    return [*container.networking] if ContainerStatus(container.state.status).is_live else []
