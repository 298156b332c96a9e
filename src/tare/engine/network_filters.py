"""``network ls --filter`` and ``network prune --filter`` with Docker's meaning. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tare.engine.clock import to_seconds
from tare.engine.prune_filters import check_names, has_labels, labels_fit, until_limit
from tare.engine.requests import Filters
from tare.errors import InvalidArgument
from tare.network.model import Network

_KNOWN = ("dangling", "driver", "id", "label", "name", "scope", "type")
_TRUE, _FALSE = ("1", "true"), ("0", "false")


def select(networks: Sequence[Network], filters: Filters, used: Collection[str]) -> list[Network]:
    """The networks that pass every filter; ``used`` are the ids of those with containers. Raises InvalidArgument."""
    check_names(filters, _KNOWN)
    _check_values(filters)
    return [network for network in networks if all(_passes(network, *item, used) for item in filters.items())]


def _check_values(filters: Filters) -> None:
    for value in filters.get("type") or []:
        if value not in ("builtin", "custom"):
            raise InvalidArgument(f"invalid filter: 'type'='{value}'", hint="builtin or custom")
    dangling = filters.get("dangling") or []
    if len(dangling) > 1 or any(value not in (*_TRUE, *_FALSE) for value in dangling):
        raise InvalidArgument(
            'invalid value for filter \'dangling\', must be "true" (or "1"), or "false" (or "0")',
        )


def _passes(network: Network, name: str, values: list[str], used: Collection[str]) -> bool:
    if not values:
        return True
    if name == "label":
        return has_labels(network.labels, values)
    if name == "dangling":
        return (not network.predefined and network.id not in used) is (values[0] in _TRUE)
    if name == "id":
        return any(network.id.startswith(value) for value in values)
    if name == "name":
        return any(value in network.name for value in values)
    if name == "driver":
        return network.driver.stored_as in values
    if name == "scope":
        return "local" in values
    return ("builtin" if network.predefined else "custom") in values


def select_for_prune(networks: Sequence[Network], filters: Filters, now: float) -> list[Network]:
    """The networks that ``prune`` may remove as far as its filters go; ``now`` in seconds since the epoch.

    Filters: ``until`` (made then or before), ``label`` and ``label!`` (:func:`labels_fit`). Raises InvalidArgument.
    """
    check_names(filters, ("until", "label", "label!"))
    limit = until_limit(filters, now)
    return [
        network
        for network in networks
        if not network.predefined
        and (limit is None or to_seconds(network.created) <= limit)
        and labels_fit(network.labels, filters)
    ]
