"""Attempts made in the lab, and their outcomes in words that fit every run."""

from __future__ import annotations

from collections.abc import Sequence

from lab.attempts import PLACES, Attempt
from lab.lab import Lab
from lab.probing import Outcome, Probe, attempt_all

AT_ONCE = 600
"""Attempts at the same time; each needs a descriptor."""


def measure(lab: Lab, attempts: Sequence[Attempt]) -> dict[str, str]:
    """The outcome of each attempt by its key: ``dropped``, or ``reachable by d1, seen as gateway@bridge``."""
    names = {address: label for label, address in (PLACES | dict(lab.addresses)).items()}
    outcomes: dict[str, str] = {}
    for start in range(0, len(attempts), AT_ONCE):
        part = attempts[start : start + AT_ONCE]
        probes = [
            Probe(lab.namespaces[item.source], address_of(lab, item.target), item.port, item.protocol) for item in part
        ]
        for item, outcome in zip(part, attempt_all(probes), strict=True):
            outcomes[item.key] = _in_words(outcome, names)
    return outcomes


def address_of(lab: Lab, label: str) -> str:
    """The address that a target's name stands for."""
    return PLACES.get(label) or lab.addresses[label]


def verdict(outcome: str) -> str:
    """The first word: reachable, refused, dropped, unroutable, closed."""
    return outcome.partition(" ")[0]


def _in_words(outcome: Outcome, names: dict[str, str]) -> str:
    if not outcome.by:
        return outcome.verdict
    return f"{outcome.verdict} by {outcome.by}, seen as {names.get(outcome.seen, outcome.seen)}"
