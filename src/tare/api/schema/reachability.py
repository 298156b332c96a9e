"""Answers about reachability as the API gives them; member names are in lower case, as nothing of Docker's is here."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from tare.api.params import convert
from tare.network.explanation import Answer
from tare.network.exposure import Exposure
from tare.network.graph import Graph
from tare.network.model import Network
from tare.network.proving import Observation, Proof
from tare.network.reachability import Hop
from tare.network.topology import HOST, Topology

MOST_QUESTIONS = 10_000


class _Question(msgspec.Struct, forbid_unknown_fields=True):
    source: str = msgspec.field(name="from")
    target: str = msgspec.field(name="to")
    port: str = ""


class _Questions(msgspec.Struct, forbid_unknown_fields=True):
    questions: Annotated[list[_Question], msgspec.Meta(max_length=MOST_QUESTIONS)]


def read_questions(document: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Source, target and service of each question in the body of ``POST /tare/networks/explain``.

    Raises InvalidArgument.
    """
    return [(one.source, one.target, one.port) for one in convert(document, _Questions).questions]


def render_answer(answer: Answer) -> dict[str, Any]:
    """The answer of ``/tare/networks/explain``."""
    best, question = answer.prediction, answer.question
    return {
        "from": question.source,
        "to": question.target,
        "address": best.address,
        "port": answer.port or None,
        "protocol": question.protocol,
        "verdict": best.verdict.value,
        "reachable": best.verdict.value == "reachable",
        "open": best.open,
        "cause": best.cause.value,
        "reason": best.reason,
        "hops": [_hop(hop) for hop in best.hops],
        "allow": list(answer.allow),
        "attempts": [
            {
                "address": prediction.address,
                "port": port or None,
                "verdict": prediction.verdict.value,
                "cause": prediction.cause.value,
                "reason": prediction.reason,
            }
            for prediction, port in answer.attempts
        ],
    }


def render_proof(topology: Topology, proof: Proof) -> dict[str, Any]:
    """The answer of ``/tare/networks/verify``."""
    return {
        "agreed": not proof.disagreements,
        "attempts": len(proof.observations),
        "left_out": proof.left_out,
        "seconds": round(proof.seconds, 3),
        "results": [_observation(topology, one) for one in proof.observations],
    }


def _observation(topology: Topology, one: Observation) -> dict[str, Any]:
    decision = one.prediction.decision
    return {
        "from": place_name(topology, one.source),
        "to": place_name(topology, one.target),
        "address": one.attempt.address,
        "gateway": _gateway(topology, one),
        "port": one.attempt.port or None,
        "protocol": one.protocol,
        "published": one.published,
        "predicted": one.prediction.verdict.value,
        "observed": one.observed.value,
        "agrees": one.agrees,
        "reason": one.prediction.reason,
        "rule": decision.rule if decision else "",
    }


def _gateway(topology: Topology, one: Observation) -> str:
    """``own`` or ``other`` when the address is the host's on a network that the sender is on, or is not; else empty."""
    network = topology.network_of_gateway(one.attempt.address)
    if network is None:
        return ""
    mine = {endpoint.network_id for endpoint in topology.endpoints_of(one.source)}
    return "own" if network.id in mine else "other"


def place_name(topology: Topology, namespace: str) -> str:
    """``host``, or the name of the container that owns a namespace."""
    members = topology.members_of(namespace)
    return "host" if namespace == HOST else members[0].name if members else namespace[:12]


def render_exposure(one: Exposure) -> dict[str, Any]:
    """One of ``/tare/networks/exposure``."""
    return {
        "kind": one.kind,
        "container": one.container,
        "network": one.network,
        "protocol": one.protocol,
        "address": one.address,
        "port": one.port or None,
        "container_port": one.container_port or None,
        "scope": one.scope,
        "sources": list(one.sources),
        "listening": one.listening,
        "risk": one.risk,
    }


def render_graph(graph: Graph, topology: Topology, found: list[Exposure]) -> dict[str, Any]:
    """The answer of ``/tare/networks/graph``; ``reaches`` is by names."""
    names = [place_name(topology, place) for place in graph.nodes] + ["host"]
    reaches: dict[str, list[str]] = {name: [] for name in names}
    for source, target in graph.reaches:
        reaches[place_name(topology, source)].append(place_name(topology, target))
    return {
        "host": {
            "addresses": list(graph.host_addresses),
            "containers": list(graph.host_containers),
            "exposures": [render_exposure(one) for one in found if one.kind == "host" and one.port],
        },
        "networks": [_network(graph, network) for network in graph.networks],
        "nodes": [
            {"names": list(node.names), "exposures": [render_exposure(one) for one in node.exposures]}
            for node in graph.nodes.values()
        ],
        "reaches": reaches,
        "complete": graph.complete,
    }


def _network(graph: Graph, network: Network) -> dict[str, Any]:
    members = [
        (node, [address for where, address in node.addresses if where == network.id]) for node in graph.nodes.values()
    ]
    return {
        "name": network.name,
        "driver": network.driver.stored_as,
        "internal": network.internal,
        "icc": network.icc,
        "pools": [{"subnet": pool.subnet, "gateway": pool.gateway} for pool in network.subnets],
        "members": [
            {
                "names": list(node.names),
                "addresses": [address for address in addresses if address],
                "exposures": [render_exposure(one) for one in node.exposures if one.network == network.name],
            }
            for node, addresses in members
            if addresses
        ],
    }


def _hop(hop: Hop) -> dict[str, Any]:
    return {"where": hop.where, "rule": hop.rule, "comment": hop.comment, "decision": hop.decision}
