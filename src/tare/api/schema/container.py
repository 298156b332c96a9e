"""Containers as the API gives them: ContainerInspectResponse and ContainerSummary."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tare.api.wording import parse_time, status_text
from tare.errors import Diagnosis
from tare.model.container import Container, EndpointSettings, HostConfig, PortBinding
from tare.model.state import ContainerStatus

Endpoints = Mapping[str, EndpointSettings]
Ports = Mapping[str, list[PortBinding] | None]

# HostConfig members of API 1.51 that Tare does not act on; clients expect them to be there.
_HOST_CONFIG_REST: dict[str, Any] = {
    "CpuCount": 0,
    "CpuPercent": 0,
    "IOMaximumIOps": 0,
    "IOMaximumBandwidth": 0,
}

_LISTS = (
    "BlkioWeightDevice",
    "BlkioDeviceReadBps",
    "BlkioDeviceWriteBps",
    "BlkioDeviceReadIOps",
    "BlkioDeviceWriteIOps",
)
_OPTIONAL_CONFIG = {"Healthcheck", "ArgsEscaped", "NetworkDisabled", "MacAddress", "StopSignal", "StopTimeout", "Shell"}
"""ContainerConfig members that Docker leaves out when they say nothing."""


def render_config(config: msgspec.Struct) -> dict[str, Any]:
    """ContainerConfig, with the members left out that Docker leaves out."""
    document: dict[str, Any] = msgspec.to_builtins(config)
    for name in _OPTIONAL_CONFIG:
        if not document.get(name):
            document.pop(name, None)
    if not document.get("ExposedPorts"):
        document.pop("ExposedPorts", None)
    document["Env"] = document.get("Env") or []
    document["Labels"] = document.get("Labels") or {}
    document["Volumes"] = document.get("Volumes") or None
    return document


def render_host_config(host: HostConfig) -> dict[str, Any]:
    """HostConfig with every member of the API."""
    document: dict[str, Any] = {**_HOST_CONFIG_REST, **msgspec.to_builtins(host)}
    for name in ("Annotations", "StorageOpt", "Tmpfs", "Sysctls", "Mounts", "Init"):
        if document[name] is None:
            del document[name]
    if document["MemorySwappiness"] == -1:
        document["MemorySwappiness"] = None  # what clients send for none
    document["PidsLimit"] = document["PidsLimit"] or None
    document["ConsoleSize"] = document["ConsoleSize"] or [0, 0]
    document["LogConfig"]["Config"] = document["LogConfig"]["Config"] or {}
    document["PortBindings"] = document["PortBindings"] or {}
    for name in (*_LISTS, "Dns", "DnsOptions", "DnsSearch", "Devices"):
        document[name] = document[name] or []
    return document


def render_health(container: Container, log: Sequence[msgspec.Struct]) -> dict[str, Any]:
    """The member ``Health`` of ContainerState; nothing for a container that was never checked."""
    health = container.state.health
    if health is None:
        return {}
    results = msgspec.to_builtins(list(log))
    return {"Health": {"Status": health.status, "FailingStreak": health.failing_streak, "Log": results}}


def render_state(container: Container) -> dict[str, Any]:
    """ContainerState."""
    state = container.state
    status = ContainerStatus(state.status)
    document: dict[str, Any] = {
        "Status": status.value,
        "Running": status.is_live or status is ContainerStatus.RESTARTING,
        "Paused": status is ContainerStatus.PAUSED,
        "Restarting": status is ContainerStatus.RESTARTING,
        "OOMKilled": state.oom_killed,
        "Dead": status is ContainerStatus.DEAD,
        "Pid": state.pid if status.is_live else 0,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": state.started_at,
        "FinishedAt": state.finished_at,
    }
    if state.diagnosis is not None:
        document["Diagnosis"] = render_diagnosis(state.diagnosis)
    return document


def render_diagnosis(diagnosis: Diagnosis) -> dict[str, Any]:
    """Why a container did not start, or ended at once; Docker has no such member."""
    return {
        "Code": diagnosis.code,
        "Subject": diagnosis.subject,
        "Cause": diagnosis.cause,
        "Fix": diagnosis.fix,
    }


def render_network_settings(
    container: Container, endpoints: Endpoints, ports: Ports, sandbox_key: str = ""
) -> dict[str, Any]:
    """NetworkSettings; the members of the default network are repeated at the top, as Docker still does."""
    default = endpoints.get("bridge")
    top = default if default is not None and default.endpoint_id else EndpointSettings()
    return {
        "Bridge": "",
        "SandboxID": container.id if sandbox_key else "",
        "SandboxKey": sandbox_key,
        "Ports": {port: msgspec.to_builtins(bindings) for port, bindings in ports.items()},
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        "EndpointID": top.endpoint_id,
        "Gateway": top.gateway,
        "GlobalIPv6Address": top.global_ipv6_address,
        "GlobalIPv6PrefixLen": top.global_ipv6_prefix_len,
        "IPAddress": top.ip_address,
        "IPPrefixLen": top.ip_prefix_len,
        "IPv6Gateway": top.ipv6_gateway,
        "MacAddress": top.mac_address,
        "Networks": {name: render_endpoint(endpoint) for name, endpoint in endpoints.items()},
    }


def render_endpoint(endpoint: EndpointSettings) -> dict[str, Any]:
    """EndpointSettings."""
    document: dict[str, Any] = msgspec.to_builtins(endpoint)
    return document


def render_mounts(container: Container) -> list[dict[str, Any]]:
    """The MountPoints; a bind mount has neither name nor driver."""
    documents: list[dict[str, Any]] = msgspec.to_builtins(container.mounts)
    for document in documents:
        for name in ("Name", "Driver"):
            if not document[name]:
                del document[name]
    return documents


def render_inspect(
    container: Container,
    endpoints: Endpoints,
    ports: Ports,
    *,
    extra: Mapping[str, Any],
    sandbox_key: str = "",
    health_log: Sequence[msgspec.Struct] = (),
    sizes: tuple[int, int] | None = None,
    links: Sequence[str] = (),
) -> dict[str, Any]:
    """ContainerInspectResponse; ``extra`` brings what only the engine knows (paths, driver, execs)."""
    document: dict[str, Any] = {
        "Id": container.id,
        "Created": container.created,
        "Path": container.path,
        "Args": container.args,
        "State": {**render_state(container), **render_health(container, health_log)},
        "Image": container.image_id,
        "ResolvConfPath": "",
        "HostnamePath": "",
        "HostsPath": "",
        "LogPath": "",
        "Name": f"/{container.name}",
        "RestartCount": container.state.restart_count,
        "Driver": "overlay",
        "Platform": container.platform,
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": None,
        "HostConfig": render_host_config(container.host_config),
        "GraphDriver": {"Name": "overlay", "Data": {}},
        **extra,
    }
    document["HostConfig"]["Links"] = [*links] or None
    if sizes is not None:
        document["SizeRw"], document["SizeRootFs"] = sizes
    document["Mounts"] = render_mounts(container)
    document["Config"] = render_config(container.config)
    document["NetworkSettings"] = render_network_settings(container, endpoints, ports, sandbox_key)
    return document


def render_summary(
    container: Container,
    endpoints: Endpoints,
    ports: Ports,
    *,
    now: float,
    sizes: tuple[int, int] | None = None,
    link_names: Sequence[str] = (),
    image: str = "",
) -> dict[str, Any]:
    """ContainerSummary; ``now`` is seconds since 1970, ``link_names`` are what others call it, ``image`` its image."""
    document: dict[str, Any] = {
        "Id": container.id,
        "Names": [f"/{container.name}", *link_names],
        "Image": image or container.image_name or container.image_id,
        "ImageID": container.image_id,
        "Command": shlex.join([container.path, *container.args]) if container.args else container.path,
        "Created": int(parse_time(container.created)),
        "Ports": summary_ports(ports),
        "Labels": container.config.labels or {},
        "State": container.state.status,
        "Status": status_text(container.state, now),
        "HostConfig": {"NetworkMode": container.host_config.network_mode},
        "NetworkSettings": {"Networks": {name: render_endpoint(endpoint) for name, endpoint in endpoints.items()}},
        "Mounts": render_mounts(container),
    }
    if sizes is not None:
        document["SizeRw"], document["SizeRootFs"] = sizes
    return document


def summary_ports(ports: Ports) -> list[dict[str, Any]]:
    """The API's list of Port: one entry for each place on the host, or one for a port that is only exposed."""
    entries: list[dict[str, Any]] = []
    for port, bindings in ports.items():
        number, _, protocol = port.partition("/")
        base = {"PrivatePort": int(number), "Type": protocol or "tcp"}
        if not bindings:
            entries.append(base)
        for binding in bindings or []:
            place = {"PublicPort": int(binding.host_port)} if binding.host_port.isdigit() else {}
            entries.append({"IP": binding.host_ip or "0.0.0.0", **base, **place})  # noqa: S104
    return entries
