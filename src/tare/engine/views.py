"""A container's networks as they are now: endpoint settings and published ports."""

from __future__ import annotations

import msgspec

from tare.engine.clock import ZERO_TIME
from tare.model import ContainerStatus
from tare.model.container import Container, EndpointSettings, PortBinding
from tare.network.model import dns_names
from tare.network.service import NetworkService


class NetworkView:
    """Joins what a container asked for with what the network service gave it."""

    def __init__(self, network: NetworkService) -> None:
        self._network = network

    async def endpoints(self, container: Container) -> dict[str, EndpointSettings]:
        """Endpoint settings by network name; addresses are empty while the container does not run."""
        live = {endpoint.network_id: endpoint for endpoint in await self._network.endpoints_of_container(container.id)}
        networks = {network.name: network for network in await self._network.list_networks()}
        was_started = container.state.started_at != ZERO_TIME
        result = {}
        for name, asked in container.networking.items():
            network = networks.get(name)
            endpoint = live.get(network.id) if network else None
            settings = asked
            if network is not None and (was_started or endpoint is not None):
                names = dns_names(container.name, asked.aliases or (), container.id, container.config.hostname)
                settings = msgspec.structs.replace(
                    asked, network_id=network.id, dns_names=list(names) if network.resolves_names else None
                )
            if endpoint is not None:
                settings = msgspec.structs.replace(
                    settings,
                    endpoint_id=endpoint.id,
                    gateway=endpoint.gateway,
                    ip_address=endpoint.address,
                    ip_prefix_len=endpoint.prefix_len,
                    ipv6_gateway=endpoint.gateway6,
                    global_ipv6_address=endpoint.address6,
                    global_ipv6_prefix_len=endpoint.prefix_len6,
                    mac_address=endpoint.mac,
                )
            result[name] = settings
        return result

    def sandbox_key(self, container: Container) -> str:
        """The file that stands for the namespace of a running container of its own; empty without one."""
        mode = container.host_config.network_mode
        if not ContainerStatus(container.state.status).is_live or mode.startswith("container:"):
            return ""
        return "/proc/1/ns/net" if mode == "host" else str(self._network.sandbox_path(container.id))

    async def ports(self, container: Container) -> dict[str, list[PortBinding] | None]:
        """Container ports, ``80/tcp``, with the host places they are published at (None: exposed only).

        Empty while the container does not run, or is on no network that can publish ports, as in Docker: an endpoint
        of a macvlan network has no interface on the host.
        """
        endpoints = await self._network.endpoints_of_container(container.id)
        reachable = any((endpoint.gateway or endpoint.gateway6) and endpoint.host_interface for endpoint in endpoints)
        if not ContainerStatus(container.state.status).is_live or not reachable:
            return {}
        result: dict[str, list[PortBinding] | None] = dict.fromkeys(container.config.exposed_ports or {})
        published = await self._network.published(container.id)
        for port in (single for one in published for single in one.singles()):
            key = f"{port.container_port}/{port.protocol}"
            bindings = result.get(key) or []
            bindings.append(PortBinding(host_ip=port.host_address, host_port=str(port.host_port)))
            result[key] = bindings
        for opened in (item for endpoint in endpoints for item in endpoint.open_ports):
            for number in range(opened.port, opened.port + opened.count):
                key = f"{number}/{opened.protocol}"  # open at the container's address: Docker shows no port of the host
                result[key] = [*(result.get(key) or ()), PortBinding(host_ip="0.0.0.0", host_port="")]  # noqa: S104
        return result

    async def rename(self, container_id: str, name: str) -> None:
        """Tell name resolution the container's new name."""
        await self._network.rename(container_id, name)
