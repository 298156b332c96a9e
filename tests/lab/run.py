"""Tare in the lab, from the first wire to the last outcome."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import engines, topology
from lab.attempts import Attempt, attempts
from lab.lab import changed, furnished
from lab.measuring import measure, verdict
from lab.predicting import explain, predictable, question

RECORD = Path(__file__).with_name("docker-28.5.2.json")
ASKED = "a2 > b1@beta tcp/80"
"""What the command line is asked as well."""


@dataclass(frozen=True)
class Found:
    """What became of the attempts with Tare, what it had said about them, and what became of them with Docker."""

    attempts: Sequence[Attempt]
    measured: Mapping[str, str]
    predicted: Mapping[str, dict[str, Any]]
    explained: dict[str, Any]
    """The answer of the command line about ``ASKED``."""
    alone: Mapping[str, str]
    """What became of every fifth attempt after the engine was killed."""
    docker: Mapping[str, str]

    def different(self) -> Iterator[tuple[Attempt, str, str]]:
        """The attempts that ended in another way than with Docker, Docker's outcome first."""
        for attempt in self.attempts:
            if self.measured[attempt.key] != self.docker[attempt.key]:
                yield attempt, self.docker[attempt.key], self.measured[attempt.key]

    def is_right(self, attempt: Attempt) -> bool:
        """Whether the prediction came true."""
        return bool(self.predicted[attempt.key]["verdict"] == verdict(self.measured[attempt.key]))


def run() -> Found:
    """Everything, in about 25 seconds."""
    chosen = attempts()
    first, later = ([attempt for attempt in chosen if attempt.later is when] for when in (False, True))
    asked = [attempt for attempt in first if predictable(attempt)]
    with (
        topology.built() as wires,
        engines.tare(wires.host) as engine,
        furnished(wires, engine.host) as lab,
    ):
        answers = explain(engine.socket, lab, asked)
        predicted = {attempt.key: answer for attempt, answer in zip(asked, answers, strict=True)}
        one = next(attempt for attempt in asked if attempt.key == ASKED)
        said = engine.tare("network", "explain", *question(lab, one), "--format", "json", check=False)
        outcomes = measure(lab, first)
        engine.kill()
        alone = measure(lab, first[::5])
        engine.start()
        with changed(wires, engine.host) as afterwards:
            answers = explain(engine.socket, afterwards, later)
            predicted |= {attempt.key: answer for attempt, answer in zip(later, answers, strict=True)}
            outcomes |= measure(afterwards, later)
    return Found(chosen, outcomes, predicted, json.loads(said.stdout), alone, json.loads(RECORD.read_text()))
