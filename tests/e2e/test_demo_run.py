"""The demo from beginning to end, cold, on an engine of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.root, pytest.mark.network, pytest.mark.timeout(600)]

DEMO = Path(__file__).parents[2] / "examples" / "three-tier" / "demo.py"
COLD_SECONDS = 360
WARM_SECONDS = 30


@dataclass(frozen=True)
class Outcome:
    """How a run of the demo ended."""

    status: int
    output: str
    seconds: float
    data_root: Path
    run_root: Path


def play(data_root: Path, run_root: Path) -> Outcome:
    before = time.monotonic()
    options = ["--data-root", str(data_root), "--run-root", str(run_root), "--port", "0", "--quick"]
    done = subprocess.run(
        [sys.executable, str(DEMO), *options],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "120"},
        check=False,
    )
    return Outcome(done.returncode, done.stdout + done.stderr, time.monotonic() - before, data_root, run_root)


@pytest.fixture(scope="module")
def cold(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    """One run without any cache; its data stays for the warm run and goes at the end."""
    data_root = tmp_path_factory.mktemp("demo") / "data"
    run_root = Path(f"/run/tare-demo-test-{os.getpid()}")
    try:
        yield play(data_root, run_root)
    finally:
        shutil.rmtree(data_root, ignore_errors=True)


def test_demo_succeeds_within_the_time_limit(cold: Outcome) -> None:
    assert cold.status == 0, cold.output
    assert cold.seconds < COLD_SECONDS


def test_distroless_images_have_no_shell_no_package_manager_no_setuid_file(cold: Outcome) -> None:
    rows = re.findall(r"│ (\w+) distroless +│ +([\d,]+) MB │ .*?│ +(\d+) │ +(\d+) │ +(\d+) │", cold.output)
    assert [row[0] for row in rows] == ["frontend", "backend", "database", "together"], cold.output
    assert [row[2:] for row in rows] == [("0", "0", "0")] * 4
    assert "no program outside the entrypoint's closure, by content" in cold.output


def test_note_survives_and_file_outside_the_volume_does_not(cold: Outcome) -> None:
    assert re.search(r"note \d+ \(in volume three-tier-data\): still there", cold.output)
    assert "/tmp/outside-the-volume (in the container): gone" in cold.output


def test_payment_is_isolated(cold: Outcome) -> None:
    assert "each network reaches itself only, by address and by name" in cold.output


def test_nothing_is_left(cold: Outcome) -> None:
    assert "no container, network, mount, firewall table, cgroup or process is left" in cold.output
    assert not cold.run_root.exists()
    assert str(cold.data_root) not in Path("/proc/self/mountinfo").read_text()


def test_warm_run_is_fast(cold: Outcome) -> None:
    warm = play(cold.data_root, cold.run_root)
    assert warm.status == 0, warm.output
    assert warm.seconds < WARM_SECONDS
