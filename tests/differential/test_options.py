"""Every option of the table shows what Docker showed (``options/recorded.json``)."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Run:
    """A client, an engine with the image of all cases, and that engine's runtime."""

    client: Client
    runtime: str
    engine: EngineProcess

    @classmethod
    def make(cls, name: str) -> Run:
        """Docker's command line on an engine with runc, as Docker has it; Tare's on one as it is by default."""
        engine = EngineProcess.make(*(["--runtime", "runc"] if name == "docker" else []))
        changes = [word for change in CHANGES for word in ("-c", change)]
        engine.docker("import", *changes, "-", BASE, stdin=base_rootfs())
        command = [docker_program()] if name == "docker" else engine.tare_command()
        client = Client.make(command, engine.environment(), engine.socket)
        return cls(client, engine.text("info", "-f", "{{.DefaultRuntime}}"), engine)


Results = dict[tuple[str, str], tuple[Run, Future[Result]]]


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest) -> Iterator[Results]:
    """What each client shows for each case that is asked for, several at the same time."""
    wanted = [
        item.callspec.params  # type: ignore[attr-defined]
        for item in request.session.items
        if item.module is request.module and hasattr(item, "callspec")
    ]
    runs = {name: Run.make(name) for name in sorted({each["client"] for each in wanted})}
    try:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            yield {
                (each["case"].name, each["client"]): (
                    runs[each["client"]],
                    pool.submit(run_case, runs[each["client"]].client, each["case"]),
                )
                for each in wanted
            }
            pool.shutdown(cancel_futures=True)
    finally:
        for run in runs.values():
            run.engine.stop()


@pytest.mark.parametrize("client", ["tare", "docker"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_option(case: OptionCase, client: str, results: Results) -> None:
    if not _DISK.exists() and any("/dev/vda" in option for option in case.options):
        pytest.skip("the results were recorded with a disk /dev/vda")
    run, future = results[case.name, client]
    found, recorded = future.result(), RECORDED[case.name]
    if client == "docker" and found == recorded:
        return  # what differs on purpose is in Tare's command line
    assert not differences(case, recorded, found, runtime=run.runtime)
    assert (case.expected is None) == (not case.differs), "a deliberate difference has a reason"


def test_the_table_is_recorded() -> None:
    assert {case.name for case in CASES} == set(RECORDED)
    assert len(CASES) >= 120
