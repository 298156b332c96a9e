"""Whether an engine's database, disk and kernel agree about what builds have left."""

from __future__ import annotations

import hashlib
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from engine_process import STOP_SECONDS, EngineProcess


def query(engine: EngineProcess, statement: str) -> list[Any]:
    """The first column of what the database says; the engine may run."""
    with closing(sqlite3.connect(f"file:{engine.data_root / 'tare.db'}?mode=ro", uri=True)) as connection:
        return [row[0] for row in connection.execute(statement)]


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()} if directory.is_dir() else set()


def hexes(digests: list[str], suffix: str = "") -> set[str]:
    return {digest.partition(":")[2] + suffix for digest in digests}


def assert_database_and_disk_agree(engine: EngineProcess) -> None:
    """Every row has its file and every file its row."""
    data = engine.data_root
    rows = {str(number) for number in query(engine, "SELECT id FROM snapshots")}
    assert names(data / "snapshots") - {"empty"} == rows, (names(data / "snapshots"), rows, engine.log)
    assert names(data / "layers") == hexes(query(engine, "SELECT diff_id FROM layers"), ".tar")
    assert names(data / "blobs" / "sha256") == hexes(query(engine, "SELECT digest FROM blobs"))
    assert names(data / "cache" / "mounts") == set(query(engine, "SELECT name FROM cache_mounts"))


def assert_no_build_left(engine: EngineProcess, *words: str) -> None:
    """No mount, process, cgroup, namespace, writable layer or half-written file of a build; ``words`` name commands."""
    data, run = engine.data_root, engine.run_root
    of_steps = "SELECT key FROM snapshots WHERE kind = 'active' AND key NOT IN (SELECT id FROM containers)"
    assert query(engine, of_steps) == []
    assert query(engine, "SELECT id FROM leases") == []
    of_builds = (data / "staging", data / "cache" / "views", data / "cache" / "ssh", run / "steps", run / "scratch")
    for directory in of_builds:
        assert names(directory) == set(), directory
    assert not [path for path in names(data / "cache") if path.startswith(".context-hashes")]
    assert not [name for name in names(run / "netns") if name.startswith("build-")]
    table = Path("/proc/self/mountinfo").read_text()
    assert not [line for line in table.splitlines() if f"{run}/steps" in line or f"{data}/" in line]
    parent = f"tare-{hashlib.sha256(str(data).encode()).hexdigest()[:6]}"
    assert list(Path("/sys/fs/cgroup").glob(f"{parent}/step-*")) == []
    assert list(Path("/sys/fs/cgroup").glob(f"*/{parent}/step-*")) == []
    running = [path for path in Path("/proc").glob("[0-9]*/cmdline") if any(word in _read(path) for word in words)]
    assert running == []
    assert [path for path in Path("/proc").glob("[0-9]*/cwd") if _target(path).startswith(f"{data}/")] == []
    assert_database_and_disk_agree(engine)


def stop_without_cleaning(engine: EngineProcess) -> None:
    """End the engine in order; what it leaves is what its builds have left."""
    assert engine.process is not None
    engine.process.send_signal(signal.SIGTERM)
    engine.process.wait(STOP_SECONDS)


def _target(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace").replace("\0", " ")
    except OSError:
        return ""
