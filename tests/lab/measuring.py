"""Attempts made in the lab, and their outcomes in words that fit every run."""

from __future__ import annotations

from collections.abc import Sequence

from dnslib import DNSRecord

from lab.attempts import BY_NAME, PLACES, Attempt
from lab.lab import Lab
from lab.probing import Outcome, Probe, attempt_all
from tare.kernel.namespaces import run_in_network_namespace

EMBEDDED_RESOLVER = "127.0.0.11"
RESOLVER_SECONDS = 20
AT_ONCE = 600
"""Attempts at the same time; each needs a descriptor."""


def measure(lab: Lab, attempts: Sequence[Attempt]) -> dict[str, str]:
    """The outcome of each attempt by its key: ``dropped``, or ``reachable by d1, seen as gateway@bridge``."""
    names = {address: label for label, address in (PLACES | dict(lab.addresses)).items()}
    found = {item: _find(lab, item) for item in attempts}
    outcomes = {item.key: "unresolved" for item, address in found.items() if not address}
    known = [item for item, address in found.items() if address]
    for start in range(0, len(known), AT_ONCE):
        part = known[start : start + AT_ONCE]
        probes = [Probe(lab.namespaces[item.source], found[item], item.port, item.protocol) for item in part]
        for item, outcome in zip(part, attempt_all(probes), strict=True):
            outcomes[item.key] = _in_words(outcome, names)
    return outcomes


def _find(lab: Lab, attempt: Attempt) -> str:
    """The address of the target; empty when the source's resolver does not know it."""
    if not attempt.target.startswith(BY_NAME):
        return address_of(lab, attempt.target)
    if EMBEDDED_RESOLVER not in lab.resolvers[attempt.source]:
        return ""  # resolvers of the host, which know no containers
    question = DNSRecord.question(attempt.target.removeprefix(BY_NAME))
    answer = run_in_network_namespace(
        lab.namespaces[attempt.source], lambda: question.send(EMBEDDED_RESOLVER, timeout=RESOLVER_SECONDS)
    )
    return next((str(record.rdata) for record in DNSRecord.parse(answer).rr), "")


def address_of(lab: Lab, label: str) -> str:
    """The address that a target's name stands for."""
    return PLACES.get(label) or lab.addresses[label]


def verdict(outcome: str) -> str:
    """The first word: reachable, refused, dropped, unroutable, closed."""
    return outcome.partition(" ")[0]


def _in_words(outcome: Outcome, names: dict[str, str]) -> str:
    if not outcome.by:
        return outcome.verdict
    seen = "its address on the link" if outcome.seen.startswith("fe80:") else names.get(outcome.seen, outcome.seen)
    return f"{outcome.verdict} by {outcome.by}, seen as {seen}"
