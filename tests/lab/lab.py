"""The lab, furnished: the scene's networks and containers in an engine, and a service in every namespace."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker as docker_py

from engine_process import UnixConnection
from lab import scene
from lab.listeners import NAME_SERVER, Service, listening
from lab.scene import LabContainer, LabNetwork
from lab.topology import Topology, configure, prepare
from tare.kernel.namespaces import run_in_network_namespace

CLIENT_SECONDS = 60


@dataclass(frozen=True)
class Lab:
    """Namespaces by the name of what is in there, and what the engine chose.

    ``addresses`` are the containers' by ``<container>@<network>``, and the host's of the bridges' own link by
    ``link@<network>/6``; ``resolvers`` the addresses in the containers' resolv.conf.
    """

    namespaces: Mapping[str, Path]
    addresses: Mapping[str, str]
    resolvers: Mapping[str, tuple[str, ...]]


@contextlib.contextmanager
def furnished(wires: Topology, engine: str) -> Iterator[Lab]:
    """The scene in the engine at the address ``engine``, with everybody listening."""
    with _client(engine) as client:
        for network in scene.NETWORKS[1:]:
            _create_network(engine, network)
        for container in scene.CONTAINERS:
            _run(client, container)
        lab = _look(client, wires)
    for name in lab.resolvers:
        run_in_network_namespace(lab.namespaces[name], prepare)
    for name, commands in scene.REROUTED.items():
        run_in_network_namespace(lab.namespaces[name], _let_loopback_addresses_leave)
        configure(lab.namespaces[name], commands)
    with listening(list(_services(lab))):
        yield lab


@contextlib.contextmanager
def changed(wires: Topology, engine: str) -> Iterator[Lab]:
    """The lab after networks were joined, left and removed, and containers stopped and replaced by others."""
    with _client(engine) as client:
        client.networks.get("beta").disconnect("both")
        client.networks.get("beta").connect("a2")
        client.networks.get("gamma").connect("a2")
        client.containers.get("b1").kill()
        client.containers.get("b1").wait()
        for gone in ("d1", "o1"):
            client.containers.get(gone).remove(force=True)
        client.networks.get("other6").remove()
        _create_network(engine, scene.AGAIN)
        for container in scene.LATER:
            _run(client, container)
        lab = _look(client, wires)
    for container in scene.LATER:
        run_in_network_namespace(lab.namespaces[container.name], prepare)
    with listening([Service(item.name, lab.namespaces[item.name], (scene.WEB,)) for item in scene.LATER]):
        yield lab


@contextlib.contextmanager
def _client(engine: str) -> Iterator[docker_py.DockerClient]:
    with contextlib.closing(
        docker_py.DockerClient(base_url=engine, version="auto", timeout=CLIENT_SECONDS)
    ) as connected:
        yield connected


def _look(client: docker_py.DockerClient, wires: Topology) -> Lab:
    """What runs now, and where."""
    found = {item.name: item.attrs for item in client.containers.list()}
    processes = {name: state["State"]["Pid"] for name, state in found.items()}
    inside = {name: Path(f"/proc/{pid}/ns/net") for name, pid in processes.items()}
    resolvers = {name: _resolvers(Path(f"/proc/{pid}/root/etc/resolv.conf")) for name, pid in processes.items()}
    addresses = dict(_addresses(found)) | dict(_link_addresses(wires.host))
    return Lab({**wires.namespaces, **inside}, addresses, resolvers)


def _services(lab: Lab) -> Iterator[Service]:
    for name, namespace in lab.namespaces.items():
        if name == "host":
            yield Service(name, namespace, (scene.HOST_SERVICE,))
        elif name == "h1":
            yield Service(name, namespace, (scene.HOST_MODE_PORT,))
        elif name == "wan":
            yield Service(name, namespace, (scene.WEB, NAME_SERVER))
        elif name not in ("router", "sidecar"):
            yield Service(name, namespace, (scene.WEB,))


def _create_network(engine: str, network: LabNetwork) -> None:
    """By HTTP, as docker-py cannot ask for a network without IPv4."""
    document = {
        "Name": network.name,
        "Driver": "bridge",
        "Internal": network.internal,
        "EnableIPv4": bool(network.subnet),
        "EnableIPv6": bool(network.subnet6),
        "IPAM": {"Config": [{"Subnet": subnet, "Gateway": gateway} for subnet, gateway in network.pools]},
        "Options": dict(network.options),
    }
    connection = UnixConnection(Path(engine.removeprefix("unix://")))
    with contextlib.closing(connection):
        connection.request("POST", "/v1.51/networks/create", json.dumps(document), {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
    assert response.status == 201, answer


def _run(client: docker_py.DockerClient, container: LabContainer) -> None:
    first, *others = container.networks
    bindings: dict[str, list[dict[str, str]]] = {}
    for port in container.publishes:
        place = {"HostIp": port.address, "HostPort": str(port.host_port)}
        bindings.setdefault(f"{port.container_port}/{port.protocol}", []).append(place)
    settings = client.api.create_host_config(network_mode=first)
    settings["PortBindings"] = bindings
    ports = [(port.container_port, port.protocol) for port in container.publishes]
    made = client.api.create_container(
        "busybox:latest", ["/bin/sleep", "1000000"], name=container.name, host_config=settings, ports=ports
    )
    for other in others:
        client.api.connect_container_to_network(made["Id"], other)
    client.api.start(made["Id"])


def _addresses(found: Mapping[str, dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for name, state in found.items():
        for network, endpoint in state["NetworkSettings"]["Networks"].items():
            if endpoint["IPAddress"]:
                yield f"{name}@{network}", endpoint["IPAddress"]
            if endpoint["GlobalIPv6Address"]:
                yield f"{name}@{network}/6", endpoint["GlobalIPv6Address"]


def _link_addresses(host: Path) -> Iterator[tuple[str, str]]:
    """The host's address on the link of every bridge with IPv6 (fe80::/10)."""
    command = ["nsenter", f"--net={host}", "ip", "-6", "-json", "address"]
    interfaces = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    for network in scene.NETWORKS:
        for interface in interfaces:
            known = [item["local"] for item in interface["addr_info"]]
            if network.gateway6 in known:
                yield f"link@{network.name}/6", next(item for item in known if item.startswith("fe80:"))


def _resolvers(file: Path) -> tuple[str, ...]:
    lines = [line.split() for line in file.read_text().splitlines()]
    return tuple(words[1] for words in lines if words[:1] == ["nameserver"])


def _let_loopback_addresses_leave() -> None:
    Path("/proc/sys/net/ipv4/conf/all/route_localnet").write_text("1")
