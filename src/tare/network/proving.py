"""Compares what is predicted with what real sockets find, between all containers and the host.

Listeners are opened for the time of the proof in every namespace, on free ports of its own addresses; so no program of
a container's is needed, and none is disturbed. Threads enter the namespaces for that (network_namespaces(7)).
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from tare.errors import NotFound
from tare.kernel.namespaces import run_in_network_namespace
from tare.network.probes import TOKEN_BYTES, Attempt, Kind, Targets, answer_datagrams, attempt_all, open_targets
from tare.network.reachability import Cause, Origin, Prediction, Predictor, Verdict
from tare.network.topology import ANY_ADDRESS, HOST, Listener, Topology, address_of

Result = TypeVar("Result")

SECONDS = 1.0
"""How long an answer is waited for, before an attempt is taken for dropped."""

PATIENT_SECONDS = 3.0
"""The same for the second try of an attempt that did not end as predicted: the host may have been busy."""

MOST_ATTEMPTS = 40_000
"""So many attempts are made at most; what is left out is counted."""

_AT_ONCE = 16  # namespaces that attempts are made from at the same time; each has some forty sockets
_PROTOCOLS = {Kind.CONNECT: "tcp", Kind.SYN: "tcp", Kind.DATAGRAM: "udp", Kind.ECHO: "icmp"}


@dataclass(frozen=True, slots=True)
class Observation:
    """An attempt from a namespace (``source``) to one (``target``), as predicted and as it ended.

    ``published`` tells that it went to a published port, where somebody else's service answers.
    """

    source: str
    target: str
    attempt: Attempt
    prediction: Prediction
    observed: Verdict
    published: bool = False

    @property
    def protocol(self) -> str:
        """tcp, udp or icmp."""
        return _PROTOCOLS[self.attempt.kind]

    @property
    def agrees(self) -> bool:
        """Whether it ended as predicted.

        What the host has no route for takes its way out, where others may refuse it: then it is enough not to arrive.
        """
        if self.prediction.verdict is Verdict.DROPPED and self.prediction.cause is Cause.NO_ROUTE:
            return self.observed is not Verdict.REACHABLE
        return self.prediction.verdict is self.observed


@dataclass(frozen=True, slots=True)
class Proof:
    """All observations; ``left_out`` attempts were too many, or their namespaces had gone."""

    observations: tuple[Observation, ...]
    left_out: int
    seconds: float

    @property
    def disagreements(self) -> list[Observation]:
        """What did not end as predicted."""
        return [one for one in self.observations if not one.agrees]


@dataclass(frozen=True, slots=True)
class _Planned:
    source: str
    target: str
    attempt: Attempt
    published: bool = False


def prove(topology: Topology, path_of: Callable[[str], Path], places: Sequence[str], *, published: bool) -> Proof:
    """Try every pair of ``places`` (namespaces, HOST among them or not), and ``published`` TCP ports from each.

    ``path_of`` gives the file that keeps a namespace. Blocks, for some seconds when there is much that is dropped;
    nothing is left behind. Raises InternalError when a rule of the firewall is not understood.
    """
    begun = time.monotonic()
    token = os.urandom(TOKEN_BYTES)
    with contextlib.ExitStack() as undo:
        targets = _open(topology, path_of, places, undo)
        undo.enter_context(_answering([one for opened in targets.values() for one in opened], token))
        plan = list(_plan(topology, places, targets, published=published))
        chosen = plan[:MOST_ATTEMPTS]
        predictor = Predictor(_with_targets(topology, targets))
        observed = _attempt(chosen, path_of, token, SECONDS)
        found = [_observation(predictor, planned, verdict) for planned, verdict in observed.items()]
        doubtful = [planned for planned, one in zip(observed, found, strict=True) if not one.agrees]
        if doubtful:
            again = _attempt(doubtful, path_of, token, PATIENT_SECONDS)
            changed = {planned: _observation(predictor, planned, verdict) for planned, verdict in again.items()}
            found = [changed.get(planned, one) for planned, one in zip(observed, found, strict=True)]
    return Proof(tuple(found), len(plan) - len(found), time.monotonic() - begun)


def _open(
    topology: Topology, path_of: Callable[[str], Path], places: Iterable[str], undo: contextlib.ExitStack
) -> dict[str, list[Targets]]:
    opened: dict[str, list[Targets]] = {}
    for place in places:
        addresses = _addresses(topology, place)
        with contextlib.suppress(NotFound):  # it ended meanwhile
            opened[place] = _inside(path_of, place, partial(open_targets, addresses))
            for one in opened[place]:
                undo.callback(one.close)
    return opened


def _addresses(topology: Topology, place: str) -> list[str]:
    """Where others would try to reach a namespace: a container's addresses, the host's gateways and own addresses."""
    if place != HOST:
        endpoints = topology.endpoints_of(place)
        return [address for one in endpoints for version in (4, 6) if (address := address_of(one, version))]
    used = {endpoint.network_id for endpoint in topology.endpoints}
    gateways = [
        pool.gateway
        for network in topology.networks.values()
        if network.id in used and network.bridge_name
        for pool in network.subnets
    ]
    own = [topology.host_addresses(version)[:1] for version in (4, 6)]
    return [address for address in [*gateways, *own[0], *own[1]] if address in topology.host.addresses]


@contextlib.contextmanager
def _answering(targets: list[Targets], token: bytes) -> Iterator[None]:
    """A thread that sends datagrams back."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    thread = threading.Thread(target=answer_datagrams, args=(targets, token, reader), name="proof", daemon=True)
    try:
        thread.start()
        yield
    finally:
        os.close(writer)  # makes the other end readable
        thread.join()
        os.close(reader)


def _plan(
    topology: Topology, places: Sequence[str], targets: Mapping[str, list[Targets]], *, published: bool
) -> Iterator[_Planned]:
    for source in places:
        versions = {one.version for one in (Attempt(Kind.ECHO, address) for address in _addresses(topology, source))}
        for target, opened in targets.items():
            if target == source:
                continue
            for one in opened:
                if source != HOST and Attempt(Kind.ECHO, one.address).version not in versions:
                    continue  # without an address of that version, which nobody wants to be told for each pair
                tcp, udp = one.ports
                yield _Planned(source, target, Attempt(Kind.CONNECT, one.address, tcp))
                yield _Planned(source, target, Attempt(Kind.DATAGRAM, one.address, udp))
                yield _Planned(source, target, Attempt(Kind.ECHO, one.address))
        if published:
            yield from _published(topology, source)


def _published(topology: Topology, source: str) -> Iterator[_Planned]:
    """A published TCP port at the host's own address, or at the one that it is published on."""
    for endpoint, port in topology.published:
        if port.protocol != "tcp":
            continue  # a datagram without an answer tells nothing, and might disturb a service
        version = 6 if ":" in port.host_address else 4
        everywhere = port.host_address in ANY_ADDRESS.values()
        addresses = topology.host_addresses(version)[:1] if everywhere else [port.host_address]
        for address in addresses:
            if address.startswith("127.") and source != HOST:
                continue  # another loopback: the container's own
            yield _Planned(source, endpoint.container_id, Attempt(Kind.SYN, address, port.host_port), published=True)


def _with_targets(topology: Topology, targets: Mapping[str, list[Targets]]) -> Topology:
    """The topology with the proof's own listeners."""
    listeners = dict(topology.listeners)
    for place, opened in targets.items():
        mine = set(listeners.get(place, frozenset()))
        for one in opened:
            tcp, udp = one.ports
            mine |= {Listener("tcp", one.address, tcp), Listener("udp", one.address, udp)}
        listeners[place] = frozenset(mine)
    return replace(topology, listeners=listeners)


def _attempt(
    plan: Sequence[_Planned], path_of: Callable[[str], Path], token: bytes, seconds: float
) -> dict[_Planned, Verdict]:
    """The outcomes; attempts from a namespace that has gone are missing."""
    by_source: dict[str, list[_Planned]] = defaultdict(list)
    for planned in plan:
        by_source[planned.source].append(planned)

    def work(source: str) -> list[tuple[_Planned, Verdict]]:
        mine = by_source[source]
        attempts = [planned.attempt for planned in mine]
        try:
            found = _inside(path_of, source, lambda: attempt_all(attempts, token, seconds))
        except NotFound:
            return []
        return list(zip(mine, found, strict=True))

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="proof") as pool:
        outcomes = dict(one for some in pool.map(work, by_source) for one in some)
    return {planned: outcomes[planned] for planned in plan if planned in outcomes}


def _inside(path_of: Callable[[str], Path], place: str, function: Callable[[], Result]) -> Result:
    return function() if place == HOST else run_in_network_namespace(path_of(place), function)


def _observation(predictor: Predictor, planned: _Planned, verdict: Verdict) -> Observation:
    attempt = planned.attempt
    prediction = predictor.predict(Origin(planned.source), attempt.address, _PROTOCOLS[attempt.kind], attempt.port)
    return Observation(planned.source, planned.target, attempt, prediction, verdict, planned.published)
