"""An engine whose disk is full: what it refuses, what goes on, and what it makes up for when there is space again."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine_process import EngineProcess

pytestmark = [pytest.mark.root, pytest.mark.e2e]

SIZE = "24m"


@contextlib.contextmanager
def filled(engine: EngineProcess, *, reserve: bool = True) -> Iterator[None]:
    """No byte is free below the data root, and, without ``reserve``, none is kept for removals."""
    if not reserve:
        (engine.data_root / "tare.db.reserve").unlink()
    filler = engine.data_root / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    assert os.statvfs(engine.data_root).f_bavail == 0
    try:
        yield
    finally:
        filler.unlink()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, busybox_tar: bytes) -> Iterator[EngineProcess]:
    """An engine on a small file system of its own."""
    engine = EngineProcess(Path(tmp_path_factory.mktemp("small")))
    (engine.root / "config").mkdir()
    engine.data_root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", engine.data_root], check=True)
    try:
        engine.start()
        engine.import_busybox(busybox_tar)
        yield engine
        engine.remove_containers()
    finally:
        engine.end()
        subprocess.run(["umount", engine.data_root], check=True)
        engine.stop()


def test_an_end_that_cannot_be_stored_is_told_and_stored_later(small: EngineProcess) -> None:
    small.docker("run", "-di", "--name", "ends", "busybox", "sh", "-c", "read go; exit 7")
    short = small.text("ps", "-q")
    feed = small.start_docker("attach", "ends")
    waiting = small.start_docker("wait", "ends")
    events = small.start_docker("events", "--filter", "container=ends", "--filter", "event=die")
    assert events.stdout is not None
    with filled(small, reserve=False):
        feed.communicate(b"go\n")
        small.wait_for_log(f"container {short} has ended, which cannot be stored")
        assert json.loads(small.text("inspect", "ends"))[0]["State"]["Status"] == "running"
        assert waiting.communicate()[0] == b"7\n"
        assert small.text("wait", "ends") == "7"
        for refused in (("restart", "ends"), ("rm", "ends"), ("rm", "-f", "ends")):
            answer = small.docker(*refused, check=False)
            assert (answer.returncode, "no space left" in answer.stderr.decode()) == (1, True), answer
    assert b"exitCode=7" in events.stdout.readline()
    assert json.loads(small.text("inspect", "ends"))[0]["State"]["ExitCode"] == 7
    events.terminate()
    events.communicate()
    small.docker("rm", "ends")


def test_what_makes_space_works_on_a_full_disk(small: EngineProcess) -> None:
    for name in ("stopped", "forced", "killed"):
        small.docker("run", "-d", "--name", name, "busybox", "sleep", "1000")
    small.docker("volume", "create", "unused")
    with filled(small):
        small.docker("stop", "-t", "0", "stopped")
        assert small.text("wait", "stopped") == "137"
        small.docker("kill", "killed")
        assert small.text("wait", "killed") == "137"
        small.docker("rm", "-f", "forced")
        small.docker("rm", "stopped", "killed")
        small.docker("volume", "rm", "unused")
        assert small.text("ps", "-aq") == ""
        assert "kept for removals is in use now" in small.log
    small.docker("volume", "create", "unused")  # the first change with space again takes the reserve back
    assert (small.data_root / "tare.db.reserve").stat().st_blocks * 512 >= 1 << 20
    small.docker("volume", "rm", "unused")


def test_a_pause_that_cannot_be_stored_is_undone(small: EngineProcess) -> None:
    small.docker("run", "-d", "--name", "awake", "busybox", "sleep", "1000")
    with filled(small):
        refused = small.docker("pause", "awake", check=False)
        assert (refused.returncode, "no space left" in refused.stderr.decode()) == (1, True)
        assert small.text("exec", "awake", "echo", "awake") == "awake"
    small.docker("rm", "-f", "awake")
