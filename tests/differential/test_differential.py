"""Every Dockerfile of the differential suite gives what Docker made of it (``recorded.json``)."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from builders import tare_builder
from case import load_cases
from comparison import differences
from origin import serving

from engine_process import CHECKOUT, EngineProcess

pytestmark = [
    pytest.mark.root,
    pytest.mark.e2e,
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the results were recorded on amd64"),
]

_AT_ONCE = 4
CASES = {case.name: case for case in load_cases()}


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[dict[str, Any]]]]:
    """What Tare makes of each case that is asked for, several at the same time, in an engine for this alone."""
    engine = EngineProcess.make()
    try:
        yield from _results(engine, request)
    finally:
        engine.stop()


def _results(engine: EngineProcess, request: pytest.FixtureRequest) -> Iterator[dict[str, Future[dict[str, Any]]]]:
    wanted = [item.callspec.params["name"] for item in request.session.items if _is_case(item)]
    with (
        tare_builder(engine.host, _AT_ONCE) as builder,
        serving("127.0.0.1") as origin,
        ThreadPoolExecutor(_AT_ONCE) as pool,
    ):
        builder.load_base()
        yield {name: pool.submit(builder.run, CASES[name], origin) for name in wanted}


def _is_case(item: pytest.Item) -> bool:
    return getattr(item, "originalname", "") == test_builds_as_docker_does.__name__


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", CASES)
def test_builds_as_docker_does(results: dict[str, Future[dict[str, Any]]], name: str) -> None:
    recorded = json.loads(CASES[name].recorded.read_text())
    assert not differences(CASES[name], recorded, results[name].result())


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 120


def test_deliberate_differences_are_documented() -> None:
    listed = set(re.findall(r"`([a-z0-9-]+)`", (CHECKOUT / "docs" / "dockerfile.md").read_text()))
    differing = {name for name, case in CASES.items() if case.differs}
    assert differing - listed == set()
    assert all(item["reason"] for name in differing for item in CASES[name].differs.values())
