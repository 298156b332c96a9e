"""Tare answers docker commands about containers as Docker 28.5.2 did (``recorded.json``, written by ``record.py``)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from differential.containers.commands import COMMANDS, DIFFERENCES
from differential.containers.normal import run_all
from differential.containers.shape import inspected
from engine_process import EngineProcess

pytestmark = [pytest.mark.root, pytest.mark.e2e]

RECORDED: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("recorded.json").read_text())
_HINT = re.compile(r" \([^()]*\)$")


@pytest.fixture(scope="module")
def own_engine() -> Iterator[EngineProcess]:
    """An engine for this module: the commands list and prune everything."""
    engine = EngineProcess.make()
    yield engine
    engine.stop()


@pytest.fixture(scope="module")
def answers(own_engine: EngineProcess) -> dict[str, dict[str, Any]]:
    """Tare's answers."""
    return run_all(own_engine.environment())


def test_the_recorded_commands_are_those_of_the_table() -> None:
    assert [key[4:] for key in RECORDED] == [command.line for command in COMMANDS]
    assert len(COMMANDS) >= 150
    assert set(DIFFERENCES) <= {command.line for command in COMMANDS}


@pytest.mark.parametrize("key", RECORDED)
def test_tare_answers_as_docker_does(answers: dict[str, dict[str, Any]], key: str) -> None:
    if reason := DIFFERENCES.get(key[4:], ""):
        pytest.skip(reason)
    expected, found = RECORDED[key], answers[key]
    # Tare names the fix behind Docker's words.
    found["err"] = [line if line in expected["err"] else _HINT.sub("", line) for line in found["err"]]
    assert found == expected


def test_inspect_has_the_members_that_docker_has(answers: object, own_engine: EngineProcess) -> None:
    assert answers  # the image is there
    assert inspected(own_engine.environment()) == json.loads(Path(__file__).with_name("shapes.json").read_text())
