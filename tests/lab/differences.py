"""Where Tare's outcome is not Docker's, on purpose, and why. Any other difference fails the test.

A rule that matches no difference fails as well: Tare is as Docker there now.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lab.attempts import Attempt, publications
from lab.scene import CONTAINERS, LATER, NETWORKS, NOBODY

INTERNAL = {network.name for network in NETWORKS if network.internal}
WITHOUT_MASQUERADE = {network.name for network in NETWORKS if not network.masquerade}
WITH_IPV6 = {network.name for network in NETWORKS if network.subnet6}
WITHOUT_ICC = {network.name for network in NETWORKS if not network.icc}
NETWORKS_OF = {container.name: set(container.networks) for container in (*CONTAINERS, *LATER)}
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


def _by_the_host(docker: str) -> bool:
    """Whether it was the host itself that answered."""
    return docker in ("reachable", "refused") or docker.startswith("reachable by host,")


def _shut_in(attempt: Attempt, docker: str, tare: str) -> bool:
    return NETWORKS_OF.get(attempt.source, {""}) <= INTERNAL and _by_the_host(docker) and tare == "dropped"


def _foreign_gateway(attempt: Attempt, docker: str, tare: str) -> bool:
    network, own = _network_of_gateway(attempt), NETWORKS_OF.get(attempt.source, set())
    if not network or not own or own <= INTERNAL or network in own:
        return False
    return _by_the_host(docker) and tare == "dropped"


def _without_icc(attempt: Attempt, docker: str, tare: str) -> bool:
    publisher = PUBLISHERS.get(attempt.port, "")
    shared = NETWORKS_OF.get(attempt.source, set()) & NETWORKS_OF.get(publisher, set())
    return bool(shared & WITHOUT_ICC) and tare == "dropped"


def _source_kept(attempt: Attempt, docker: str, tare: str) -> bool:
    who, _, seen_by_docker = docker.partition(", seen as ")
    same, _, seen_by_tare = tare.partition(", seen as ")
    is_own = seen_by_tare.startswith(f"{attempt.source}@")
    return who == same and attempt.port in PUBLISHERS and seen_by_docker.startswith("gateway@") and is_own


def _answers_to_plain_addresses(attempt: Attempt, docker: str, tare: str) -> bool:
    plain = NETWORKS_OF.get(attempt.source, {""}) <= WITHOUT_MASQUERADE
    goes_out = attempt.target in ("wan", "neighbour@lan") and tare.startswith("reachable")
    return plain and docker == "dropped" and goes_out


def _published_for_plain_addresses(attempt: Attempt, docker: str, tare: str) -> bool:
    plain = NETWORKS_OF.get(attempt.source, {""}) <= WITHOUT_MASQUERADE
    return plain and docker == "dropped" and attempt.port in PUBLISHERS and tare != "dropped"


def _across_families(attempt: Attempt, docker: str, tare: str) -> bool:
    publisher = PUBLISHERS.get(attempt.port, "")
    has_six = bool(NETWORKS_OF.get(publisher, set()) & WITH_IPV6)
    return (
        attempt.six
        and not has_six
        and docker.startswith(f"reachable by {publisher},")
        and tare in ("refused", "dropped")
    )


def _from_loopback6(attempt: Attempt, docker: str, tare: str) -> bool:
    has_six = bool(NETWORKS_OF.get(PUBLISHERS.get(attempt.port, ""), set()) & WITH_IPV6)
    return attempt.target == "host@loopback/6" and has_six and docker.startswith("reachable by") and tare == "refused"


def _closed(attempt: Attempt, docker: str, tare: str) -> bool:
    return attempt.port in SILENT and (docker, tare) == ("closed", "refused")


DIFFERENCES = (
    Difference(
        "from an internal network to the host",
        "An internal network reaches neither outside nor host. In Docker its containers reach each service of the host "
        "at the gateway's address and at the link's, and at all of the host's addresses with a route of their own.",
        _shut_in,
    ),
    Difference(
        "gateway of another network",
        "Networks do not see each other, and the gateway is part of the network: in Docker a container finds the host, "
        "and which networks it has, at every gateway's address. Published ports are open there, as in Docker.",
        _foreign_gateway,
    ),
    Difference(
        "client of another network",
        "The service sees the container that calls. In Docker it sees its own gateway, as docker-proxy, a process of "
        "the host, hands the connection on.",
        _source_kept,
    ),
    Difference(
        "published port without a listener",
        "There is no docker-proxy that accepts connections for a container that does not: the client is told at once.",
        _closed,
    ),
    Difference(
        "published port on IPv6 of a container without",
        "A container is published on the families that it has. In Docker docker-proxy answers on IPv6 too and goes on "
        "with IPv4, so that the container sees its gateway for every client.",
        _across_families,
    ),
    Difference(
        "published port at ::1",
        "The kernel lets no answer back in to ::1, and there is no proxy. It is refused at once, so that clients of "
        "`localhost` go on with 127.0.0.1, where the same port answers.",
        _from_loopback6,
    ),
    Difference(
        "out of a network without masquerade",
        "Answers come back. Docker drops what comes from elsewhere for a container's address before it looks whether "
        "it is an answer, so that such a network has no way out that works.",
        _answers_to_plain_addresses,
    ),
    Difference(
        "published port, from a network without masquerade",
        "One rule for all networks. In Docker such a network is sent past docker-proxy, straight into the isolation of "
        "the other one.",
        _published_for_plain_addresses,
    ),
    Difference(
        "published port within a network without icc",
        "The bridge isolates the ports of such a network from each other, so that it holds without br_netfilter too. "
        "In Docker docker-proxy hands the connection on.",
        _without_icc,
    ),
)


def rule_for(attempt: Attempt, docker: str, tare: str) -> list[Difference]:
    """The rules that explain this difference: exactly one, where it is meant."""
    return [item for item in DIFFERENCES if item.applies(attempt, docker, tare)]
