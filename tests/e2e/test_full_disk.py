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
def filled(engine: EngineProcess) -> Iterator[None]:
    """No byte is free below the data root."""
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


def test_the_end_of_a_container_is_stored_when_there_is_space(small: EngineProcess) -> None:
    small.docker("run", "-di", "--name", "ends", "busybox", "sh", "-c", "read go; exit 7")
    feed = small.start_docker("attach", "ends")
    waiting = small.start_docker("wait", "ends")
    events = small.start_docker("events", "--filter", "container=ends", "--filter", "event=die")
    assert feed.stdin is not None
    with filled(small):
        feed.stdin.write(b"go\n")
        feed.stdin.flush()
        small.wait_for_log("has ended, which cannot be stored")
        assert json.loads(small.text("inspect", "ends"))[0]["State"]["Status"] == "running"
    assert waiting.communicate()[0] == b"7\n"
    feed.communicate()
    assert json.loads(small.text("inspect", "ends"))[0]["State"]["ExitCode"] == 7
    events.terminate()
    events.communicate()
    small.docker("rm", "ends")
