"""Answers "does A reach B?": names become places and addresses, each way is predicted, the best one is explained."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address

from tare.errors import InvalidArgument, NotFound
from tare.network.advice import advise
from tare.network.reachability import OUTSIDE, Origin, Prediction, Predictor, Verdict, outside_address
from tare.network.topology import ANY_ADDRESS, HOST, Topology, address_of, gateway_of

PROTOCOLS = ("tcp", "udp", "sctp", "icmp")
HOST_WORD = "host"
_WORTH = (Verdict.REACHABLE, Verdict.REFUSED, Verdict.DROPPED, Verdict.UNROUTABLE)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked; ``source`` and ``target`` are a container, ``host``, ``outside``, or an address.

    Without a port (0) the protocol is icmp.
    """

    source: str
    target: str
    protocol: str = "icmp"
    port: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """The best way (``prediction`` at ``port``), all ways that were looked at, and what would open a closed one."""

    question: Question
    prediction: Prediction
    port: int
    attempts: tuple[tuple[Prediction, int], ...]
    allow: tuple[str, ...]


def read_question(source: str, target: str, service: str) -> Question:
    """A question from its words; ``service`` is ``80``, ``80/udp``, ``icmp`` or empty. Raises InvalidArgument."""
    for word, what in ((source, "from"), (target, "to")):
        if not word:
            raise InvalidArgument(f"{what} is missing: a container, host, outside, or an address")
    if service in ("", "icmp"):
        return Question(source, target)
    number, _, protocol = service.partition("/")
    protocol = protocol or "tcp"
    if protocol not in PROTOCOLS[:3]:
        raise InvalidArgument(f"invalid port {service}: unknown protocol {protocol!r}", hint="tcp, udp or sctp")
    if not number.isdecimal() or not 1 <= int(number) <= 65535:
        raise InvalidArgument(f"invalid port {service}: {number!r} is not in 1-65535", hint="such as 80 or 53/udp")
    return Question(source, target, protocol, int(number))


def explain(predictor: Predictor, question: Question) -> Answer:
    """Predict every way from source to target. Raises NotFound, InvalidArgument (code ``family-mismatch``)."""
    topology = predictor.topology
    origin = _origin(topology, question.source)
    ways = list(dict.fromkeys(_ways(topology, origin, question)))
    if origin.address:  # an address of one family reaches none of the other
        ways = [way for way in ways if ip_address(way[0]).version == ip_address(origin.address).version]
    if not ways:
        raise InvalidArgument(
            f"{question.target} has no address that {question.source} could send to",
            hint="a container needs a network, and both ends an address of the same IP version",
            code="no-address",
        )
    attempts = tuple((predictor.predict(origin, address, question.protocol, port), port) for address, port in ways)
    best, port = min(attempts, key=lambda attempt: _WORTH.index(attempt[0].verdict))
    if best.verdict is Verdict.REACHABLE:
        return Answer(question, best, port, attempts, ())
    service = f"{question.port}/{question.protocol}" if question.port else ""
    advice = advise(topology, origin, _place(topology, question.target), best, service)
    return Answer(question, best, port, attempts, tuple(advice))


def _origin(topology: Topology, word: str) -> Origin:
    if word == OUTSIDE:
        return Origin(OUTSIDE)
    place = _place(topology, word)
    return Origin(place, word if place == OUTSIDE else "")


def _place(topology: Topology, word: str) -> str:
    """The namespace (or OUTSIDE) that a word names. Raises NotFound."""
    if word == HOST_WORD:
        return HOST
    if word == OUTSIDE:
        return OUTSIDE
    member = topology.member(word)
    if member is not None:
        return member.namespace
    try:
        address = str(ip_address(word))
    except ValueError as error:
        raise NotFound(
            f"no running container is called {word}",
            hint="name a running container, host, outside, or an address",
            code="place-missing",
        ) from error
    owner = topology.owner_of(address)
    if owner is not None:
        return owner.container_id
    return HOST if topology.is_local(address) else OUTSIDE


def _ways(topology: Topology, origin: Origin, question: Question) -> Iterable[tuple[str, int]]:
    """Addresses and ports by which the target may be reached, the usual one first."""
    port = question.port
    place = _place(topology, question.target)
    if question.target == OUTSIDE:
        for version in (4, 6):
            if version == 4 or topology.host_addresses(6):
                yield outside_address(topology, version), port
        return
    if question.target != HOST_WORD and topology.member(question.target) is None:
        yield str(ip_address(question.target)), port
        return
    if place == HOST:
        yield from ((address, port) for address in _addresses_of_host(topology, origin))
        return
    if place == origin.place:
        yield "127.0.0.1", port
        return
    direct = [(address, port) for address in _addresses_of(topology, origin, place)]
    published = list(_published(topology, place, question, origin))
    yield from published + direct if origin.place == OUTSIDE else direct + published


def _addresses_of_host(topology: Topology, origin: Origin) -> Iterable[str]:
    if origin.place == HOST:
        yield "127.0.0.1"
    elif origin.place != OUTSIDE:
        for version in (4, 6):
            for endpoint in topology.endpoints_of(origin.place):
                if gateway := gateway_of(endpoint, version):
                    yield gateway
    for version in (4, 6):
        yield from topology.host_addresses(version)


def _addresses_of(topology: Topology, origin: Origin, place: str) -> Iterable[str]:
    """A container's addresses, those on a network that the sender is on first."""
    mine = {endpoint.network_id for endpoint in topology.endpoints_of(origin.place)}
    endpoints = sorted(topology.endpoints_of(place), key=lambda endpoint: endpoint.network_id not in mine)
    for endpoint in endpoints:
        yield from (address for version in (4, 6) if (address := address_of(endpoint, version)))


def _published(topology: Topology, place: str, question: Question, origin: Origin) -> Iterable[tuple[str, int]]:
    """Where the host answers for the container's port."""
    for endpoint, port in topology.published:
        if endpoint.container_id != place or (port.protocol, port.container_port) != (question.protocol, question.port):
            continue
        if port.host_address.startswith("127.") and origin.place not in (HOST, OUTSIDE):
            continue
        everywhere = port.host_address in ANY_ADDRESS.values()
        version = 6 if ":" in port.host_address else 4
        loopback = ["127.0.0.1"] if version == 4 and origin.place == HOST else []
        addresses = [*topology.host_addresses(version), *loopback] if everywhere else [port.host_address]
        yield from ((address, port.host_port) for address in addresses)
