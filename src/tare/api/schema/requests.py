"""Request documents of the API as the model's structs, with Go's leniency: null means the zero value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tare.api.params import convert, without_nulls
from tare.errors import InvalidArgument
from tare.model.container import ContainerConfig, EndpointSettings, HostConfig, NetworkingConfig

_WORD_LISTS = ("Cmd", "Entrypoint", "Shell")


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """The body of ``POST /containers/create``."""

    config: ContainerConfig
    host: HostConfig
    networking: NetworkingConfig | None


def read_create(document: dict[str, Any]) -> CreateRequest:
    """Read the three parts of a create request; raises InvalidArgument with the field that is wrong."""
    rest = dict(document)
    host = rest.pop("HostConfig", None)
    networking = rest.pop("NetworkingConfig", None)
    return CreateRequest(read_config(rest), read_host_config(host), read_networking(networking))


def read_config(document: dict[str, Any]) -> ContainerConfig:
    """ContainerConfig; command and entrypoint may be one string (Go's ``strslice``)."""
    values = without_nulls(document)
    for name in _WORD_LISTS:
        if isinstance(values.get(name), str):
            values[name] = [values[name]]
    if isinstance(values.get("Healthcheck"), dict):
        values["Healthcheck"] = without_nulls(values["Healthcheck"])
    return convert(values, ContainerConfig)


def read_host_config(document: object) -> HostConfig:
    """HostConfig."""
    values = _object(document, "HostConfig")
    for name in ("LogConfig", "RestartPolicy"):
        if name in values:
            values[name] = _object(values[name], name)
    for name in (
        "Mounts",
        "Devices",
        "Ulimits",
        "BlkioWeightDevice",
        "BlkioDeviceReadBps",
        "BlkioDeviceWriteBps",
        "BlkioDeviceReadIOps",
        "BlkioDeviceWriteIOps",
    ):
        if isinstance(values.get(name), list):
            values[name] = [_object(item, name) for item in values[name]]
    bindings = values.get("PortBindings")
    if isinstance(bindings, dict):
        values["PortBindings"] = {port: _bindings(places) for port, places in bindings.items()}
    return convert(values, HostConfig)


def read_networking(document: object) -> NetworkingConfig | None:
    """NetworkingConfig; a network without settings is asked for all the same."""
    if document is None:
        return None
    endpoints = _object(document, "NetworkingConfig").get("EndpointsConfig") or {}
    if not isinstance(endpoints, dict):
        raise InvalidArgument("invalid request: EndpointsConfig must be an object")
    return NetworkingConfig(endpoints_config={name: read_endpoint(value) for name, value in endpoints.items()})


def read_endpoint(document: object) -> EndpointSettings | None:
    """EndpointSettings of one network, None where nothing particular is asked for."""
    if document is None:
        return None
    values = _object(document, "EndpointSettings")
    if "IPAMConfig" in values:
        values["IPAMConfig"] = _object(values["IPAMConfig"], "IPAMConfig")
    return convert(values, EndpointSettings)


def _bindings(places: object) -> object:
    if not isinstance(places, list):
        return places
    return [_object(place, "PortBindings") for place in places if place is not None]


def _object(document: object, name: str) -> dict[str, Any]:
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise InvalidArgument(f"invalid request: {name} must be an object")
    return without_nulls(document)
