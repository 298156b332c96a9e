"""Each folder of tests/golden/dockerfile has a Dockerfile and what it must give: result.json, or error.txt.

To add a case, make the folder and its Dockerfile, run once with TARE_GOLDEN_WRITE=1 and read what was written.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tare.build.checks.linter import check_text
from tare.build.checks.rules import RULES
from tare.build.dockerfile.parser import ParsedFile, parse_nodes
from tare.build.dockerfile.source import SourceRange
from tare.build.dockerfile.stages import read_stages
from tare.build.request import BuildRequest
from tare.errors import InvalidArgument
from tare.model import Platform

ROOT = Path(__file__).parents[2] / "golden" / "dockerfile"
CASES = sorted(folder.name for folder in ROOT.iterdir() if (folder / "Dockerfile").exists())
AMD64 = Platform("linux", "amd64")
EXPERIMENTAL = {rule.name for rule in RULES if rule.experimental}
WRITE = bool(os.environ.get("TARE_GOLDEN_WRITE"))


def plain(value: Any) -> Any:
    if isinstance(value, SourceRange):
        return f"{value.first_line}-{value.last_line}"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            field.name: plain(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if field.name not in ("original", "raw") and getattr(value, field.name) != field.default
        }
        return {"": type(value).__name__, **fields}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return value


def summary(text: str) -> dict[str, Any]:
    parsed = parse_nodes(text)
    dockerfile = read_stages(parsed)
    return {
        "directives": plain(dockerfile.directives),
        "global_args": plain(dockerfile.global_args),
        "stages": [
            {"name": stage.name, "base": plain(stage.base), "instructions": plain(stage.instructions)}
            for stage in dockerfile.stages
        ],
        "warnings": warnings(parsed, text),
    }


def warnings(parsed: ParsedFile, text: str) -> list[str]:
    """The findings of the checks that are on without being asked for, as far as the text alone tells them."""
    request = BuildRequest(context=None, dockerfile=text, platform=AMD64)
    found = (item for item in check_text(parsed, read_stages(parsed), request) if item.rule not in EXPERIMENTAL)
    return [item.short for item in sorted(found, key=lambda item: item.first_line)]


def read(folder: Path) -> str:
    return (folder / "Dockerfile").read_bytes().decode()


def test_there_are_enough_cases() -> None:
    errors = [name for name in CASES if (ROOT / name / "error.txt").exists()]
    assert len(errors) >= 25
    assert len(CASES) - len(errors) >= 30


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str) -> None:
    folder = ROOT / name
    try:
        outcome = json.dumps(summary(read(folder)), indent=1, ensure_ascii=False) + "\n"
        expected = folder / "result.json"
    except InvalidArgument as error:
        outcome = f"{error}\n"
        expected = folder / "error.txt"
    if WRITE:
        expected.write_text(outcome)
    others = {"result.json", "error.txt"} - {expected.name}
    assert expected.exists(), outcome
    assert not any((folder / other).exists() for other in others)
    assert outcome == expected.read_text()
