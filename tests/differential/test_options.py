"""Every option of the table shows what Docker showed (``options/recorded.json``)."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from base_image import BASE, CHANGES, base_rootfs

from engine_process import EngineProcess, docker_program

HERE = Path(__file__).with_name("options")
sys.path.append(str(HERE))

from option_cases import CASES, OptionCase, Result  # noqa: E402
from option_runner import Client, differences, run_case  # noqa: E402

pytestmark = [
    pytest.mark.root,
    pytest.mark.e2e,
    pytest.mark.skipif(
        platform.machine() != "x86_64" or not Path("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists(),
        reason="the results were recorded on amd64 with version 1 of the control groups",
    ),
]
RECORDED = {name: Result(**fields) for name, fields in json.loads((HERE / "recorded.json").read_text()).items()}
_AT_ONCE = 2
_DISK = Path("/dev/vda")


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest) -> Iterator[dict[tuple[str, str], Future[Result]]]:
    """What each client shows for each case that is asked for, several at the same time, in an engine for this alone."""
    engine = EngineProcess.make()
    try:
        changes = [word for change in CHANGES for word in ("-c", change)]
        engine.docker("import", *changes, "-", BASE, stdin=base_rootfs())
        commands = {"tare": engine.tare_command(), "docker": [docker_program()]}
        clients = {
            name: Client.make(command, engine.environment(), engine.socket) for name, command in commands.items()
        }
        wanted = [
            item.callspec.params  # type: ignore[attr-defined]
            for item in request.session.items
            if item.module is request.module and hasattr(item, "callspec")
        ]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            yield {
                (each["case"].name, each["client"]): pool.submit(run_case, clients[each["client"]], each["case"])
                for each in wanted
            }
            pool.shutdown(cancel_futures=True)
    finally:
        engine.stop()


@pytest.mark.parametrize("client", ["tare", "docker"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_option(case: OptionCase, client: str, results: dict[tuple[str, str], Future[Result]]) -> None:
    """With Docker's own command line the engine alone counts; with Tare's both."""
    if not _DISK.exists() and any("/dev/vda" in option for option in case.options):
        pytest.skip("the results were recorded with a disk /dev/vda")
    found = results[case.name, client].result()
    recorded = RECORDED[case.name]
    if client == "docker" and case.expected is not None and not differences(case, recorded, found):
        return  # the difference is in Tare's command line
    assert not differences(case, case.expected or recorded, found)
    assert (case.expected is None) == (not case.differs), "a deliberate difference has a reason"


def test_the_table_is_recorded() -> None:
    assert {case.name for case in CASES} == set(RECORDED)
    assert len(CASES) >= 120
