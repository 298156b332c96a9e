"""Tare in the lab: every attempt ends as with Docker 28.5.2, but for differences that have a reason."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from lab import engines, topology
from lab.attempts import Attempt, attempts
from lab.differences import DIFFERENCES, rule_for
from lab.lab import furnished
from lab.measuring import measure
from lab.record import RECORD

pytestmark = [pytest.mark.root, pytest.mark.e2e]

SIX = False
ATTEMPTS = [attempt for attempt in attempts() if SIX or not attempt.six]
DOCKER: dict[str, str] = json.loads(RECORD.read_text())


@pytest.fixture(scope="module")
def measured() -> Iterator[dict[str, str]]:
    """What became of every attempt with Tare."""
    with topology.built() as wires, engines.tare(wires.host) as engine, furnished(wires, engine.host, six=SIX) as lab:
        yield measure(lab, ATTEMPTS)


def different(measured: dict[str, str]) -> Iterator[tuple[Attempt, str, str]]:
    """The attempts that ended in another way than with Docker."""
    for attempt in ATTEMPTS:
        if measured[attempt.key] != DOCKER[attempt.key]:
            yield attempt, DOCKER[attempt.key], measured[attempt.key]


def test_the_record_is_of_this_table() -> None:
    assert sorted(DOCKER) == sorted(attempt.key for attempt in attempts())
    assert len(ATTEMPTS) >= 200


def test_every_difference_from_docker_has_one_reason(measured: dict[str, str]) -> None:
    unexplained = [
        f"{attempt.key}: Docker {docker}, Tare {tare}, reasons {[rule.name for rule in rules]}"
        for attempt, docker, tare in different(measured)
        if len(rules := rule_for(attempt, docker, tare)) != 1
    ]
    assert not unexplained, "\n".join(unexplained)


def test_every_reason_has_a_difference(measured: dict[str, str]) -> None:
    used = {rule.name for attempt, docker, tare in different(measured) for rule in rule_for(attempt, docker, tare)}
    assert used == {rule.name for rule in DIFFERENCES}
