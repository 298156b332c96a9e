"""Tare answers docker commands about images as Docker 28.5.2 did (``recorded.json``, written by ``record.py``)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from differential.images.commands import COMMANDS, DIFFERENCES
from differential.images.normal import run_all
from engine_process import EngineProcess

pytestmark = [pytest.mark.root, pytest.mark.e2e]

RECORDED: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("recorded.json").read_text())
_HINT = re.compile(r" \((?:[^()]|\([^()]*\))*\)$")


@pytest.fixture(scope="module")
def answers() -> Iterator[dict[str, dict[str, Any]]]:
    """Tare's answers, of an engine for this module: the commands list and prune everything."""
    engine = EngineProcess.make()
    try:
        yield run_all(engine.environment())
    finally:
        engine.stop()


def test_the_recorded_commands_are_those_of_the_table() -> None:
    assert [key[4:] for key in RECORDED] == COMMANDS
    assert len(COMMANDS) >= 300
    assert set(DIFFERENCES) <= set(COMMANDS)


@pytest.mark.parametrize("key", RECORDED)
def test_tare_answers_as_docker_does(answers: dict[str, dict[str, Any]], key: str) -> None:
    expected, found = RECORDED[key], answers[key]
    # Tare names the fix behind Docker's words.
    found["err"] = [line if line in expected["err"] else _HINT.sub("", line) for line in found["err"]]
    if reason := DIFFERENCES.get(key[4:], ""):
        assert found != expected, f"this is as in Docker now, and no difference: {reason}"
    else:
        assert found == expected
