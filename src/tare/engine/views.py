"""A container's networks as they are now: endpoint settings and published ports."""

from __future__ import annotations

import msgspec

from tare.model import ContainerStatus
from tare.model.container import Container, EndpointSettings, PortBinding
from tare.network.service import NetworkService


class NetworkView:
    """Joins what a container asked for with what the network service gave it."""

    def __init__(self, network: NetworkService) -> None:
        self._network = network

    async def endpoints(self, container: Container) -> dict[str, EndpointSettings]:
        """Endpoint settings by network name; addresses are empty while the container does not run."""
        live = {endpoint.network_id: endpoint for endpoint in await self._network.endpoints_of_container(container.id)}
        names = {network.name: network.id for network in await self._network.list_networks()}
        result = {}
        for name, asked in container.networking.items():
            settings = msgspec.structs.replace(asked, network_id=names.get(name, ""))
            endpoint = live.get(settings.network_id)
            if endpoint is not None:
                settings = msgspec.structs.replace(
                    settings,
                    endpoint_id=endpoint.id,
                    gateway=endpoint.gateway,
                    ip_address=endpoint.address,
                    ip_prefix_len=endpoint.prefix_len,
                    mac_address=endpoint.mac,
                    dns_names=(list(endpoint.dns_names) or None) if name != "bridge" else None,  # no names there
                )
            result[name] = settings
        return result

    async def ports(self, container: Container) -> dict[str, list[PortBinding] | None]:
        """Container ports, ``80/tcp``, with the host places they are published at (None: exposed only).

        Empty while the container does not run, as in Docker.
        """
        if not ContainerStatus(container.state.status).is_live:
            return {}
        result: dict[str, list[PortBinding] | None] = dict.fromkeys(container.config.exposed_ports or {})
        for port in await self._network.published(container.id):
            key = f"{port.container_port}/{port.protocol}"
            bindings = result.get(key) or []
            bindings.append(PortBinding(host_ip=port.host_address, host_port=str(port.host_port)))
            result[key] = bindings
        return result

    async def rename(self, container_id: str, name: str) -> None:
        """Tell name resolution the container's new name."""
        await self._network.rename(container_id, name)
