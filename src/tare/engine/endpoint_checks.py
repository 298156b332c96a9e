"""What a container may ask of its place on a network, by Docker's rules and in its words. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_network

from tare.errors import Conflict, Forbidden, InvalidArgument
from tare.model.container import ContainerConfig, EndpointSettings, HostConfig
from tare.network.model import PREDEFINED, Network, Subnet

SHARED = "container sharing network namespace with another container or host cannot be connected to any other network"
PRIVATE = "container cannot be connected to multiple networks with one of the networks in private (none) mode"


def check_endpoint(settings: EndpointSettings, network: Network | None, *, network_name: str, creating: bool) -> None:
    """Check an endpoint's settings; ``network`` None stands for another container's namespace.

    ``creating`` names the network in the error, as there can be several. Raises InvalidArgument with every fault.
    """
    faults = list(_faults(settings, network, network_name))
    if not faults:
        return
    listed = faults[0] if len(faults) == 1 else "\n".join(f"* {fault}" for fault in faults)
    prefix = f"invalid config for network {network_name}: " if creating else ""
    raise InvalidArgument(f"{prefix}invalid endpoint settings:\n{listed}", hint=_fix(network), code="bad-endpoint")


def _fix(network: Network | None) -> str:
    subnets = [] if network is None else [pool.subnet for pool in (*_pools(network, 4), *_pools(network, 6))]
    if not subnets:
        return "leave the address out, or use a network made with --subnet"
    return f"choose an address in {' or '.join(subnets)}"


def _pools(network: Network, version: int) -> list[Subnet]:
    """The pools of a family that the user chose, in use or not."""
    given = network.subnet6_given if version == 6 else network.subnet_given
    if not given or network.name in PREDEFINED:
        return []
    return [pool for pool in (*network.subnets, *network.idle_subnets) if pool.version == version]


def _faults(settings: EndpointSettings, network: Network | None, name: str) -> Iterator[str]:
    asked = settings.ipam_config
    if asked is None:
        return
    for text in asked.link_local_ips or ():
        if _address(text, 4) is None and _address(text, 6) is None:
            yield f"invalid link-local IP address: {text}"
    wanted = {version: text for version, text in ((4, asked.ipv4_address), (6, asked.ipv6_address)) if text}
    if wanted and (network is None or network.name in PREDEFINED or name.startswith("container:")):
        yield "user specified IP address is supported on user defined networks only"
    for version, text in wanted.items():
        if _address(text, version) is None:
            yield f"invalid IPv{version} address: {text}"
    if network is None:
        return
    for version, text in wanted.items():
        address, pools = _address(text, version), _pools(network, version)
        if not pools:
            yield "user specified IP address is supported only when connecting to networks with user configured subnets"
        elif address is None or not any(address in ip_network(pool.subnet, strict=False) for pool in pools):
            yield f"no configured subnet or ip-range contain the IP address {text}"


def _address(text: str, version: int) -> IPv4Address | IPv6Address | None:
    try:
        return IPv6Address(text) if version == 6 else IPv4Address(text)
    except ValueError:
        return None


def check_shared_namespace(config: ContainerConfig, host: HostConfig) -> None:
    """Refuse options that belong to the namespace's owner. ``config`` is the request's, without what the image says."""
    if host.network_mode == "host" and host.links:
        raise Conflict(
            "conflicting options: host type networking can't be used with links."
            " This would result in undefined behavior",
            hint="the host's names resolve there; leave out --link",
            code="network-mode-conflict",
        )
    if not host.network_mode.startswith("container:"):
        return
    conflicts = {
        "container type network can't be used with links. This would result in undefined behavior": host.links,
        "dns and the network mode": host.dns,
        "custom host-to-IP mapping and the network mode": host.extra_hosts,
        "port publishing and the container type network mode": host.port_bindings or host.publish_all_ports,
        "port exposing and the container type network mode": config.exposed_ports,
    }
    if host.network_mode == "container:":
        raise InvalidArgument("invalid network mode: invalid container format container:<name|id>")
    for what, given in conflicts.items():
        if given:
            raise Conflict(
                f"conflicting options: {what}",
                hint="give it to the container whose network is used",
                code="network-mode-conflict",
            )


def check_can_join(mode: str, names: frozenset[str], network: Network) -> None:
    """Whether a container of network mode ``mode`` that is on networks ``names`` may join ``network``."""
    if mode == "host" or mode.startswith("container:"):
        raise Forbidden(SHARED, hint="make the container with --network", code="shared-namespace")
    if network.name == "host":
        raise Forbidden(
            "cannot connect container to host network - container must be created in host network mode",
            hint="make it with --network host",
            code="shared-namespace",
        )
    if (network.name == "none" and names) or "none" in names:
        raise Forbidden(PRIVATE, hint="disconnect it from its other networks first", code="private-network")
