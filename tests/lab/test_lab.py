"""Tare in the lab: attempts end as predicted, and as with Docker 28.5.2 but for differences that have a reason."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from lab.attempts import attempts
from lab.differences import DIFFERENCES, rule_for
from lab.measuring import verdict
from lab.run import ASKED, RECORD, Found, run

pytestmark = [pytest.mark.root, pytest.mark.e2e]


@pytest.fixture(scope="module")
def found() -> Found:
    """What one run of the lab has found."""
    return run()


def test_the_record_is_of_this_table() -> None:
    assert sorted(json.loads(RECORD.read_text())) == sorted(attempt.key for attempt in attempts())


def test_attempts_end_in_every_way(found: Found) -> None:
    """A lab in which nothing works, or nothing is stopped, would agree with everything."""
    ends = Counter(verdict(outcome) for outcome in found.measured.values())
    assert set(ends) == {"reachable", "refused", "dropped", "unroutable", "unresolved"}
    assert min(ends.values()) >= 50


def test_predictions_agree_with_measurements(found: Found) -> None:
    asked = [attempt for attempt in found.attempts if attempt.key in found.predicted]
    wrong = [
        f"{attempt.key}: predicted {found.predicted[attempt.key]}, found {found.measured[attempt.key]}"
        for attempt in asked
        if not found.is_right(attempt)
    ]
    assert len(asked) >= 1500
    assert not wrong, "\n".join(wrong)


def test_all_stays_as_it_is_when_the_engine_is_killed(found: Found) -> None:
    """What is tried after changes is tried with an engine that was started anew."""
    assert len(found.alone) >= 400
    assert {key: found.measured[key] for key in found.alone} == found.alone


def test_the_command_line_says_the_same(found: Found) -> None:
    assert found.explained == found.predicted[ASKED]
    assert found.explained["verdict"] == "dropped"


def test_every_difference_from_docker_has_one_reason(found: Found) -> None:
    unexplained = [
        f"{attempt.key}: Docker {docker}, Tare {tare}, reasons {[rule.name for rule in rules]}"
        for attempt, docker, tare in found.different()
        if len(rules := rule_for(attempt, docker, tare)) != 1
    ]
    assert not unexplained, "\n".join(unexplained)


def test_every_reason_has_a_difference(found: Found) -> None:
    used = {rule.name for difference in found.different() for rule in rule_for(*difference)}
    assert used == {rule.name for rule in DIFFERENCES}
