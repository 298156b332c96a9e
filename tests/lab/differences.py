"""Where Tare's outcome is not Docker's, on purpose, and why. Any other difference fails the test.

A rule that matches no difference fails as well: Tare is as Docker there now.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lab.attempts import MEMBERS, Attempt, publications
from lab.scene import CONTAINERS, NETWORKS, NOBODY

INTERNAL = {network.name for network in NETWORKS if network.internal}
NETWORKS_OF = {container.name: set(container.networks) for container in CONTAINERS}
PUBLISHERS = {port.host_port: container.name for container, port in publications()}
SILENT = {port.host_port for _, port in publications() if port.container_port == NOBODY}


@dataclass(frozen=True)
class Difference:
    """One kind of difference: ``applies(attempt, docker, tare)`` gets the two outcomes."""

    name: str
    reason: str
    applies: Callable[[Attempt, str, str], bool]


def _network_of_gateway(attempt: Attempt) -> str:
    """The network whose gateway is tried; empty for other targets."""
    label = attempt.target.removesuffix("/6")
    return label.removeprefix("gateway@") if label.startswith("gateway@") else ""


def _own_internal_gateway(attempt: Attempt, docker: str, tare: str) -> bool:
    network = _network_of_gateway(attempt)
    return network in INTERNAL and attempt.source in MEMBERS[network] and tare == "dropped"


def _foreign_gateway(attempt: Attempt, docker: str, tare: str) -> bool:
    network = _network_of_gateway(attempt)
    if not network or network in NETWORKS_OF.get(attempt.source, {network}):
        return False
    return attempt.port not in PUBLISHERS and tare == "dropped"


def _published(attempt: Attempt, docker: str, tare: str) -> bool:
    return attempt.port in PUBLISHERS and attempt.source in NETWORKS_OF and tare == "dropped"


def _closed(attempt: Attempt, docker: str, tare: str) -> bool:
    return attempt.port in SILENT and (docker, tare) == ("closed", "refused")


DIFFERENCES = (
    Difference(
        "gateway of an internal network",
        "An internal network reaches neither outside nor host: in Docker its containers reach every service of the "
        "host at the gateway's address.",
        _own_internal_gateway,
    ),
    Difference(
        "gateway of another network",
        "Networks do not see each other, and the gateway is part of the network: in Docker a container finds the host, "
        "and which networks it has, at every gateway's address.",
        _foreign_gateway,
    ),
    Difference(
        "published port, from another network",
        "Networks do not reach each other: in Docker docker-proxy, a process of the host, hands the connection on.",
        lambda attempt, docker, tare: (
            not _own_internal_gateway(attempt, docker, tare) and _published(attempt, docker, tare)
        ),
    ),
    Difference(
        "published port without a listener",
        "There is no docker-proxy that accepts connections for a container that does not: the client is told at once.",
        _closed,
    ),
)


def rule_for(attempt: Attempt, docker: str, tare: str) -> list[Difference]:
    """The rules that explain this difference: exactly one, where it is meant."""
    return [item for item in DIFFERENCES if item.applies(attempt, docker, tare)]
