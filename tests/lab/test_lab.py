"""Tare in the lab: attempts end as predicted, and as with Docker 28.5.2 but for differences that have a reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from lab import engines, topology
from lab.attempts import Attempt, attempts, publications
from lab.differences import DIFFERENCES, rule_for
from lab.lab import furnished
from lab.measuring import measure, verdict
from lab.predicting import explain, predictable, question
from lab.record import RECORD

pytestmark = [pytest.mark.root, pytest.mark.e2e]

PORTS6 = False  # until ports are published on IPv6
PORTS = {port.host_port for _, port in publications()}
ATTEMPTS = [attempt for attempt in attempts() if PORTS6 or not (attempt.six and attempt.port in PORTS)]
PREDICTABLE = [attempt for attempt in ATTEMPTS if predictable(attempt)]
ASKED = next(attempt for attempt in PREDICTABLE if attempt.key == "a2 > b1@beta tcp/80")
DOCKER: dict[str, str] = json.loads(RECORD.read_text())


@dataclass(frozen=True)
class Found:
    """What became of the attempts with Tare, and what it had said about them."""

    measured: dict[str, str]
    predicted: dict[str, dict[str, object]]
    explained: dict[str, object]
    """The answer of the command line about ``ASKED``."""

    def different(self) -> Iterator[tuple[Attempt, str, str]]:
        """The attempts that ended in another way than with Docker."""
        for attempt in ATTEMPTS:
            if self.measured[attempt.key] != DOCKER[attempt.key]:
                yield attempt, DOCKER[attempt.key], self.measured[attempt.key]


@pytest.fixture(scope="module")
def found() -> Found:
    """Tare in the lab."""
    with (
        topology.built() as wires,
        engines.tare(wires.host) as engine,
        furnished(wires, engine.host, ports6=PORTS6) as lab,
    ):
        answers = explain(engine.socket, lab, PREDICTABLE)
        predicted = {attempt.key: answer for attempt, answer in zip(PREDICTABLE, answers, strict=True)}
        said = engine.tare("network", "explain", *question(lab, ASKED), "--format", "json", check=False)
        return Found(measure(lab, ATTEMPTS), predicted, json.loads(said.stdout))


def test_the_record_is_of_this_table() -> None:
    assert sorted(DOCKER) == sorted(attempt.key for attempt in attempts())


def test_every_kind_of_attempt_ends_in_several_ways(found: Found) -> None:
    """A lab in which nothing works, or nothing is stopped, would agree with everything."""
    ends = Counter(verdict(outcome) for outcome in found.measured.values())
    assert set(ends) == {"reachable", "refused", "dropped", "unroutable", "unresolved"}
    assert min(ends.values()) >= 50


def test_predictions_agree_with_measurements(found: Found) -> None:
    wrong = [
        f"{attempt.key}: predicted {answer['verdict']} ({answer['reason']}), found {found.measured[attempt.key]}"
        for attempt in PREDICTABLE
        if (answer := found.predicted[attempt.key])["verdict"] != verdict(found.measured[attempt.key])
    ]
    assert len(PREDICTABLE) >= 1500
    assert not wrong, "\n".join(wrong)


def test_the_command_line_says_the_same(found: Found) -> None:
    assert found.explained == found.predicted[ASKED.key]
    assert found.explained["verdict"] == "dropped"


def test_every_difference_from_docker_has_one_reason(found: Found) -> None:
    unexplained = [
        f"{attempt.key}: Docker {docker}, Tare {tare}, reasons {[rule.name for rule in rules]}"
        for attempt, docker, tare in found.different()
        if len(rules := rule_for(attempt, docker, tare)) != 1
    ]
    assert not unexplained, "\n".join(unexplained)


def test_every_reason_has_a_difference(found: Found) -> None:
    used = {rule.name for attempt, docker, tare in found.different() for rule in rule_for(attempt, docker, tare)}
    assert used == {rule.name for rule in DIFFERENCES}
