"""A real engine, images from what the host has, and the proof that nothing stays behind."""

from __future__ import annotations

import gc
import os
import select
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import leftovers
from engine_process import EngineProcess, busybox_rootfs, program_rootfs

PROBE_SOURCE = Path(__file__).with_name("probe.c")
SETTLE_SECONDS = 5.0

_before = pytest.StashKey[frozenset[leftovers.Leftover]]()
_found = pytest.StashKey[list[leftovers.Leftover]]()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Note what is there before the first test; of several processes (pytest-xdist) the one that begins first."""
    if os.geteuid() == 0 and not hasattr(session.config, "workerinput"):
        session.config.stash[_before] = leftovers.survey()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail the run when something is there afterwards that was not there before."""
    before = session.config.stash.get(_before, None)
    if before is None or session.config.option.collectonly:
        return
    found = _settled(before)
    session.config.stash[_found] = found
    if found and exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name every leftover."""
    if found := config.stash.get(_found, None):
        terminalreporter.section("left behind by the tests", red=True, bold=True)
        terminalreporter.write_line(leftovers.report(found))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests marked ``root`` are skipped only for want of root."""
    if item.get_closest_marker("root") is not None and os.geteuid() != 0:
        pytest.skip("needs root")


def pytest_collection_finish() -> None:
    """Thousands of collected tests stay to the end: the collector need not look at them after each module."""
    gc.collect()
    gc.freeze()


def _settled(before: frozenset[leftovers.Leftover]) -> list[leftovers.Leftover]:
    """The difference once processes that are about to end have ended."""
    deadline = time.monotonic() + SETTLE_SECONDS
    found = leftovers.difference(before, leftovers.survey())
    for item in found:
        if item.kind != "process":
            continue
        try:
            fd = os.pidfd_open(int(item.name))
        except ProcessLookupError:
            continue
        try:
            select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
        finally:
            os.close(fd)
    return leftovers.difference(before, leftovers.survey()) if found else []


@pytest.fixture(scope="module", autouse=True)
def _nothing_left_open() -> Iterator[None]:
    """A socket or file that a module leaves open is that module's failure, not that of whoever meets the collector."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def engine() -> Iterator[EngineProcess]:
    """An engine for all tests that leave it running."""
    running = EngineProcess.make()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def busybox_tar() -> bytes:
    """The root file system of the image ``busybox``."""
    return busybox_rootfs()


@pytest.fixture(scope="session")
def busybox(engine: EngineProcess, busybox_tar: bytes) -> str:
    """The image ``busybox`` in the session's engine."""
    return engine.import_busybox(busybox_tar)


@pytest.fixture(scope="session")
def probe_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The probe, compiled without libraries of the host."""
    program = tmp_path_factory.mktemp("probe") / "probe"
    subprocess.run(["gcc", "-static", "-O1", "-Wall", "-Werror", "-o", program, PROBE_SOURCE], check=True)
    return program


@pytest.fixture(scope="session")
def probe(engine: EngineProcess, probe_program: Path) -> str:
    """An image with nothing but the probe as its entry point."""
    engine.docker(
        "import", "-c", 'ENTRYPOINT ["/probe"]', "-", "probe:latest", stdin=program_rootfs(probe_program, "probe")
    )
    return "probe"
