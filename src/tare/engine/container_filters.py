"""``ps --filter`` with Docker's meaning."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence

from tare.engine.clock import to_seconds
from tare.engine.prune_filters import check_names, has_labels, labels_fit, until_limit
from tare.engine.requests import Filters
from tare.errors import InvalidArgument, NotFound
from tare.model import ContainerStatus
from tare.model.container import Container

_CHECKED = ("status", "exited", "health", "is-task", "expose", "publish")
_HEALTH = ("none", "starting", "healthy", "unhealthy")

Predicate = Callable[[Container, str], bool]


def select(
    containers: Sequence[Container], filters: Filters, *, running_only: bool, ancestors: Collection[str] = ()
) -> list[Container]:
    """The containers that pass every filter (any value of one filter suffices, but all labels must fit).

    A ``status`` or ``exited`` filter looks at containers in any state. ``ancestors`` are the IDs of the images that the
    filter ``ancestor`` stands for. Raises InvalidArgument for an unknown filter.
    """
    for name, values in filters.items():
        if name not in _PREDICATES and name not in ("label", "before", "since", "ancestor"):
            raise InvalidArgument(f"invalid filter '{name}'")
        for value in values if name in _CHECKED and containers else ():
            _PREDICATES[name](containers[0], value)  # a wrong value is one whichever containers are left
    chosen = list(containers)
    if running_only and not (filters.get("status") or filters.get("exited")):
        chosen = [item for item in chosen if item.state.status in ("running", "paused", "restarting")]
    for name, values in filters.items():
        if name == "label":
            chosen = [item for item in chosen if has_labels(item.config.labels or {}, values)]
        elif name in ("before", "since") and values:
            chosen = _by_age(containers, chosen, name, values[0])
        elif name == "ancestor" and values:
            chosen = [item for item in chosen if item.image_id in ancestors]
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


def select_for_prune(containers: Sequence[Container], filters: Filters, now: float) -> list[Container]:
    """The containers that ``prune`` may remove as far as its filters go; ``now`` in seconds since the epoch.

    Filters: ``until`` (made then or before), ``label`` and ``label!`` (:func:`labels_fit`). Raises InvalidArgument.
    """
    check_names(filters, ("until", "label", "label!"))
    limit = until_limit(filters, now)
    return [
        item
        for item in containers
        if (limit is None or to_seconds(item.created) <= limit) and labels_fit(item.config.labels or {}, filters)
    ]


def _fits(pattern: str, text: str) -> bool:
    """Docker takes ids and names for regular expressions, found anywhere; one that is not is taken literally."""
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return pattern in text


def _status(container: Container, wanted: str) -> bool:
    if wanted not in set(ContainerStatus):
        raise InvalidArgument(
            f"invalid filter 'status={wanted}': invalid value for state ({wanted}): must be one of "
            "created, running, paused, restarting, removing, exited, dead"
        )
    return container.state.status == wanted


def _exited(container: Container, wanted: str) -> bool:
    if not re.fullmatch(r"[+-]?\d+", wanted):
        raise InvalidArgument(f"invalid filter 'exited={wanted}': strconv.Atoi: parsing \"{wanted}\": invalid syntax")
    return container.state.status == "exited" and container.state.exit_code == int(wanted)


def _health(container: Container, wanted: str) -> bool:
    if wanted not in _HEALTH:
        raise InvalidArgument(
            f"invalid filter 'health={wanted}': invalid value for health ({wanted}): "
            f"must be one of {', '.join(_HEALTH)}"
        )
    return wanted == container_health(container)


def container_health(container: Container) -> str:
    """The health status of a container in the API's words; ``none`` where nothing was ever checked."""
    return "none" if container.state.health is None else container.state.health.status


def _is_task(_: Container, wanted: str) -> bool:
    if wanted.lower() not in ("0", "1", "true", "false"):
        raise InvalidArgument(f"invalid filter 'is-task=[{wanted}]'")
    return wanted.lower() in ("0", "false")


def _volume(container: Container, wanted: str) -> bool:
    return any(wanted in (mount.name, mount.source, mount.destination) for mount in container.mounts)


def _publishes(container: Container, wanted: str) -> bool:
    return _has_port(container, wanted, "publish", container.host_config.port_bindings or {})


def _exposes(container: Container, wanted: str) -> bool:
    ports = {**(container.config.exposed_ports or {}), **(container.host_config.port_bindings or {})}
    return _has_port(container, wanted, "expose", ports)


def _has_port(container: Container, wanted: str, name: str, ports: Collection[str]) -> bool:
    """Whether a port of the range is there; as in Docker only containers that run have ports."""
    span, _, protocol = wanted.partition("/")
    first, _, last = span.partition("-")
    for number in (first, last or first):
        if not number.isdecimal():
            raise InvalidArgument(
                f'error while looking up for {name} {wanted}: strconv.ParseUint: parsing "{number}": invalid syntax'
            )
    if not ContainerStatus(container.state.status).is_live:
        return False
    asked = {f"{number}/{protocol or 'tcp'}" for number in range(int(first), min(int(last or first), 65535) + 1)}
    return not asked.isdisjoint(ports)


_PREDICATES: dict[str, Predicate] = {
    "id": lambda item, value: _fits(value, item.id),
    "name": lambda item, value: _fits(value, item.name) or _fits(value, f"/{item.name}"),
    "status": _status,
    "exited": _exited,
    "volume": _volume,
    "network": lambda item, value: value in item.networking or value == item.host_config.network_mode,
    "publish": _publishes,
    "expose": _exposes,
    "health": _health,
    "isolation": lambda item, value: value.lower() == (item.host_config.isolation or "default"),
    "is-task": _is_task,
}
