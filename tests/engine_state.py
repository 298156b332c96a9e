"""What an engine has in kernel, database and files, compared with what it says that it has."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from pathlib import Path

import leftovers
from engine_process import EngineProcess


def container_processes(container_id: str) -> list[int]:
    """Host process ids of a container, found by their cgroup: the engine is not asked."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdecimal():
            try:
                if f"/{container_id}" in (path / "cgroup").read_text() and (path / "cmdline").read_bytes():
                    found.append(int(path.name))
            except OSError:
                continue
    return found


def conmons(engine: EngineProcess) -> list[leftovers.Leftover]:
    """The supervisors of an engine's containers."""
    mark = f"{engine.run_root}/containers/"
    return [item for item in leftovers.processes() if "conmon" in item.detail.split()[0] and mark in item.detail]


def assert_consistent(engine: EngineProcess) -> dict[str, str]:
    """Rows, files, processes, mounts, namespaces, cgroups and links agree; returns the containers' states by name."""
    listed = json.loads(
        b"[" + b",".join(engine.docker("ps", "-a", "--no-trunc", "--format", "json").stdout.splitlines()) + b"]"
    )
    ids = {item["ID"] for item in listed}
    running = {item["ID"] for item in listed if item["State"] in ("running", "paused")}
    states = {item["Names"]: item["State"] for item in listed}
    assert set(states.values()) <= {"created", "running", "exited", "paused"}, states
    for item in listed:
        processes = container_processes(item["ID"])
        assert len(processes) == (1 if item["ID"] in running else 0), (item["Names"], states, processes)
    assert len(conmons(engine)) == len(running), (states, conmons(engine))

    instance = hashlib.sha256(str(engine.data_root).encode()).hexdigest()[:6]
    mounted = [item for item in leftovers.mounts() if item.name.startswith(f"{engine.root}/")]
    roots = {Path(item.name).name for item in mounted if "/rootfs/" in item.name}
    spaces = {Path(item.name).name for item in mounted if item.kind == "network namespace"}
    assert roots == running, (states, roots)
    assert spaces == running, (states, spaces)
    groups = {Path(item.name).name for item in leftovers.cgroups() if f"/tare-{instance}/" in item.name}
    assert groups == running, (states, groups)
    assert names(engine.run_root / "containers") == running
    assert names(engine.data_root / "containers") == ids

    bridge = f"tr{instance}-0"
    deadline = time.monotonic() + 10  # the kernel takes a link away some time after the namespace of its other end
    while len(links := links_of(bridge)) != len(running) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(links) == len(running), links
    with sqlite3.connect(f"file:{engine.data_root}/tare.db?mode=ro", uri=True) as database:
        rows = {row[0] for row in database.execute("SELECT key FROM snapshots WHERE kind = 'active'")}
        endpoints = {row[0] for row in database.execute("SELECT container FROM endpoints")}
    database.close()
    assert rows == ids
    assert endpoints == running
    return states


def links_of(bridge: str) -> list[leftovers.Leftover]:
    return [item for item in leftovers.links() if item.detail.endswith(bridge)]


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()} if directory.is_dir() else set()
