"""The lab, furnished: the scene's networks and containers in an engine, and a service in every namespace."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker as docker_py
from docker.types import IPAMConfig, IPAMPool

from lab import scene
from lab.listeners import Service, listening
from lab.scene import LabContainer, LabNetwork
from lab.topology import Topology, configure, prepare
from tare.kernel.namespaces import run_in_network_namespace

CLIENT_SECONDS = 60


@dataclass(frozen=True)
class Lab:
    """Namespaces by the name of what is in there, and the containers' addresses by ``<container>@<network>``."""

    namespaces: Mapping[str, Path]
    addresses: Mapping[str, str]


@contextlib.contextmanager
def furnished(wires: Topology, engine: str, *, ports6: bool = True) -> Iterator[Lab]:
    """The scene in the engine at the address ``engine``, with everybody listening; ``ports6``: it publishes on IPv6."""
    client = docker_py.DockerClient(base_url=engine, version="auto", timeout=CLIENT_SECONDS)
    with contextlib.closing(client):
        for network in scene.NETWORKS[1:]:
            _create_network(client, network)
        found = {container.name: _run(client, container, ports6=ports6) for container in scene.CONTAINERS}
        processes = {name: state["State"]["Pid"] for name, state in found.items()}
        inside = {name: Path(f"/proc/{pid}/ns/net") for name, pid in processes.items()}
        lab = Lab({**wires.namespaces, **inside}, dict(_addresses(found)))
        for name in found:
            run_in_network_namespace(lab.namespaces[name], prepare)
        for name in scene.ATTACK_ON_LOOPBACK:
            run_in_network_namespace(lab.namespaces[name], _let_loopback_addresses_leave)
            configure(lab.namespaces[name], "addr del 127.0.0.1/8 dev lo\nroute add 127.0.0.0/8 via 10.201.2.1")
        with listening(list(_services(lab))):
            yield lab


def _services(lab: Lab) -> Iterator[Service]:
    for name, namespace in lab.namespaces.items():
        if name == "host":
            yield Service(name, namespace, (scene.HOST_SERVICE,))
        elif name == "h1":
            yield Service(name, namespace, (scene.HOST_MODE_PORT,))
        elif name != "router":
            yield Service(name, namespace, (scene.WEB,))


def _create_network(client: docker_py.DockerClient, network: LabNetwork) -> None:
    pools = [IPAMPool(subnet=network.subnet, gateway=network.gateway)]
    if network.subnet6:
        pools.append(IPAMPool(subnet=network.subnet6, gateway=network.gateway6))
    client.networks.create(
        network.name,
        driver="bridge",
        internal=network.internal,
        enable_ipv6=bool(network.subnet6),
        ipam=IPAMConfig(pool_configs=pools),
        options={} if network.icc else {"com.docker.network.bridge.enable_icc": "false"},
    )


def _run(client: docker_py.DockerClient, container: LabContainer, *, ports6: bool) -> dict[str, Any]:
    """Start it; the answer of inspect."""
    first, *others = container.networks
    bindings: dict[str, list[dict[str, str]]] = {}
    published = [port for port in container.publishes if ports6 or ":" not in port.address]
    for port in published:
        place = {"HostIp": port.address, "HostPort": str(port.host_port)}
        bindings.setdefault(f"{port.container_port}/{port.protocol}", []).append(place)
    settings = client.api.create_host_config(network_mode=first)
    settings["PortBindings"] = bindings
    ports = [(port.container_port, port.protocol) for port in published]
    made = client.api.create_container(
        "busybox:latest", ["/bin/sleep", "1000000"], name=container.name, host_config=settings, ports=ports
    )
    for other in others:
        client.api.connect_container_to_network(made["Id"], other)
    client.api.start(made["Id"])
    state: dict[str, Any] = client.api.inspect_container(made["Id"])
    return state


def _addresses(found: Mapping[str, dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for name, state in found.items():
        for network, endpoint in state["NetworkSettings"]["Networks"].items():
            if endpoint["IPAddress"]:
                yield f"{name}@{network}", endpoint["IPAddress"]
            if endpoint["GlobalIPv6Address"]:
                yield f"{name}@{network}/6", endpoint["GlobalIPv6Address"]


def _let_loopback_addresses_leave() -> None:
    Path("/proc/sys/net/ipv4/conf/all/route_localnet").write_text("1")
