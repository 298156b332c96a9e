"""``ps --filter`` with Docker's meaning."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from tare.engine.clock import to_seconds
from tare.engine.requests import Filters
from tare.errors import InvalidArgument, NotFound
from tare.model import ContainerStatus
from tare.model.container import Container

HEALTH_VALUES = ("none", "starting", "healthy", "unhealthy")
Predicate = Callable[[Container, str], bool]


def select(containers: Sequence[Container], filters: Filters, *, running_only: bool) -> list[Container]:
    """The containers that pass every filter (any value of one filter suffices, but all labels must fit).

    A ``status`` or ``exited`` filter looks at containers in any state. Raises InvalidArgument for an unknown filter.
    """
    for name in filters:
        if name not in _PREDICATES and name not in ("label", "before", "since", "until"):
            raise InvalidArgument(f"invalid filter '{name}'")
    for value in filters.get("health", ()):
        if value not in HEALTH_VALUES:
            raise InvalidArgument(f"Unrecognised filter value for health: {value}")
    chosen = list(containers)
    if running_only and not (filters.get("status") or filters.get("exited")):
        chosen = [item for item in chosen if item.state.status in ("running", "paused", "restarting")]
    for name, values in filters.items():
        if name == "label":
            chosen = [item for item in chosen if all(_label(item, value) for value in values)]
        elif name in ("before", "since") and values:
            chosen = _by_age(containers, chosen, name, values[0])
        elif name in _PREDICATES and values:
            predicate = _PREDICATES[name]
            chosen = [item for item in chosen if any(predicate(item, value) for value in values)]
    return chosen


def _by_age(everything: Sequence[Container], chosen: list[Container], name: str, reference: str) -> list[Container]:
    pivot = next((item for item in everything if item.name == reference or item.id.startswith(reference)), None)
    if pivot is None:
        raise NotFound(f"No such container: {reference}")
    moment = to_seconds(pivot.created)
    if name == "before":
        return [item for item in chosen if to_seconds(item.created) < moment]
    return [item for item in chosen if to_seconds(item.created) > moment]


def _label(container: Container, wanted: str) -> bool:
    key, equals, value = wanted.partition("=")
    labels = container.config.labels or {}
    return key in labels and (not equals or labels[key] == value)


def _fits(pattern: str, text: str) -> bool:
    """Docker takes ids and names for regular expressions, found anywhere; one that is not is taken literally."""
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return pattern in text


def _status(container: Container, wanted: str) -> bool:
    if wanted not in set(ContainerStatus):
        raise InvalidArgument(f"invalid filter 'status={wanted}'")
    return container.state.status == wanted


def _exited(container: Container, wanted: str) -> bool:
    return (
        container.state.status == "exited"
        and wanted.lstrip("-").isdecimal()
        and container.state.exit_code == int(wanted)
    )


def _ancestor(container: Container, wanted: str) -> bool:
    names = {container.image_name, container.image_name.removesuffix(":latest")}
    return wanted in names or container.image_id.removeprefix("sha256:").startswith(wanted.removeprefix("sha256:"))


def _volume(container: Container, wanted: str) -> bool:
    return any(wanted in (mount.name, mount.source, mount.destination) for mount in container.mounts)


def _publishes(container: Container, wanted: str) -> bool:
    port = wanted if "/" in wanted else f"{wanted}/tcp"
    return port in (container.host_config.port_bindings or {})


def _exposes(container: Container, wanted: str) -> bool:
    port = wanted if "/" in wanted else f"{wanted}/tcp"
    return port in (container.config.exposed_ports or {})


def _health(container: Container, wanted: str) -> bool:
    health = container.state.health
    return wanted == ("none" if health is None else health.status)


_PREDICATES: dict[str, Predicate] = {
    "id": lambda item, value: _fits(value, item.id),
    "name": lambda item, value: _fits(value, item.name) or _fits(value, f"/{item.name}"),
    "status": _status,
    "exited": _exited,
    "ancestor": _ancestor,
    "volume": _volume,
    "network": lambda item, value: value in item.networking or value == item.host_config.network_mode,
    "publish": _publishes,
    "expose": _exposes,
    "health": _health,
    "is-task": lambda item, value: value in ("false", "0"),
}
