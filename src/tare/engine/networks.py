"""The networks service."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from tare.base.locks import KeyedLocks
from tare.engine.events import Events
from tare.engine.records import ContainerRecords
from tare.engine.requests import Filters, NetworkCreate
from tare.engine.sandbox import Sandboxes
from tare.errors import Conflict, Forbidden, InvalidArgument, NotFound, Unsupported
from tare.model import ContainerStatus
from tare.model.container import Container, EndpointSettings
from tare.network.model import Endpoint, Network
from tare.network.service import NetworkService

PREDEFINED = frozenset({"bridge", "host", "none"})


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
        """Make a network; returns its id and a warning. Raises Conflict, InvalidArgument, Unsupported (driver)."""
        if request.driver not in ("bridge", ""):
            if request.driver in ("host", "null", "none"):
                raise Forbidden(f'only one instance of "{request.driver}" network is allowed')
            raise Unsupported(f"network driver {request.driver!r} is not available", hint="use bridge")
        network = await self._network.create_network(
            request.name,
            driver="bridge",
            subnet=request.subnet or None,
            gateway=request.gateway or None,
            ip_range=request.ip_range or None,
            internal=request.internal,
            labels=dict(request.labels),
            options=dict(request.options),
            attachable=request.attachable,
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
            self._check_can_join(container, network)
            asked = settings or EndpointSettings()

            def joined(document: Container) -> None:
                document.networking.pop("none", None)
                document.networking[network.name] = asked

            if ContainerStatus(container.state.status).is_live:
                index = await self._free_index(container)
                await self._sandboxes.join(container, network.name, asked, index=index, ports=[])
                await self._sandboxes.refresh_files(container, come=await self._addresses(container, network))
            await self._records.update(container.id, joined, durable=True)
        self._emit(network, "connect", {"container": container.id})

    def _check_can_join(self, container: Container, network: Network) -> None:
        mode = container.host_config.network_mode
        if network.driver in ("host", "null"):
            raise Forbidden(f"container cannot be connected to {network.name} network while it has others")
        if mode == "host" or mode.startswith("container:"):
            raise Forbidden(
                "container sharing network namespace with another container or host "
                "cannot be connected to any other network"
            )
        if network.name in container.networking:
            raise Forbidden(f"endpoint with name {container.name} already exists in network {network.name}")

    async def _free_index(self, container: Container) -> int:
        used = {endpoint.interface for endpoint in await self._network.endpoints_of_container(container.id)}
        return next(index for index in range(len(used) + 1) if f"eth{index}" not in used)

    async def disconnect(self, reference: str, container_ref: str, *, force: bool = False) -> None:
        """Take a container off a network. Raises NotFound, Forbidden when it is not on it."""
        network = await self._network.get_network(reference)
        container = await self._records.get(container_ref)
        async with self._locks.hold(container.id):
            container = await self._records.get(container.id)
            if network.name not in container.networking:
                raise Forbidden(f"container {container.id} is not connected to network {network.name}")
            if ContainerStatus(container.state.status).is_live:
                gone = await self._addresses(container, network)
                await self._network.detach(container.id, network.id)
                await self._sandboxes.refresh_files(container, gone=gone)

            def left(document: Container) -> None:
                document.networking.pop(network.name, None)

            await self._records.update(container.id, left, durable=True)
        self._emit(network, "disconnect", {"container": container.id})

    async def _addresses(self, container: Container, network: Network) -> list[str]:
        """A container's addresses on a network."""
        endpoints = await self._network.endpoints_of_container(container.id)
        return [item.address for item in endpoints if item.network_id == network.id and item.address]

    async def prune(self, filters: Filters | None = None) -> list[str]:
        """Remove networks that no container refers to; returns their names."""
        referred = {name for container in await self._records.list() for name in container.networking}
        removed = []
        for network in await self.list(filters):
            if network.name in PREDEFINED or network.name in referred:
                continue
            with contextlib.suppress(Conflict, Forbidden):
                await self.remove(network.id)
                removed.append(network.name)
        return removed

    def _emit(self, network: Network, action: str, extra: dict[str, str] | None = None) -> None:
        attributes = {"name": network.name, "type": network.driver, **(extra or {})}
        self._events.publish("network", action, network.id, attributes)

    async def list(self, filters: Filters | None = None) -> list[Network]:
        """Networks; filters: id, name, driver, label, type, dangling, scope."""
        chosen = await self._network.list_networks()
        for key, values in (filters or {}).items():
            if key == "id":
                chosen = [item for item in chosen if any(item.id.startswith(value) for value in values)]
            elif key == "name":
                chosen = [item for item in chosen if any(value in item.name for value in values)]
            elif key == "driver":
                chosen = [item for item in chosen if item.driver in values]
            elif key == "label":
                chosen = [item for item in chosen if all(_label(item, value) for value in values)]
            elif key == "type":
                chosen = [item for item in chosen if ("builtin" if item.name in PREDEFINED else "custom") in values]
            elif key == "scope":
                chosen = [item for item in chosen if "local" in values]
            elif key == "dangling":
                wanted = values[0].lower() in ("true", "1")
                used = {item.id for item in chosen if await self._network.endpoints_of_network(item.id)}
                chosen = [item for item in chosen if (item.id not in used and item.name not in PREDEFINED) is wanted]
            else:
                raise InvalidArgument(f"invalid filter '{key}'")
        return chosen


def _label(network: Network, wanted: str) -> bool:
    key, equals, value = wanted.partition("=")
    return key in network.labels and (not equals or network.labels[key] == value)
