"""The leak check itself: it must see what it is there to see."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

import leftovers
from engine_process import EngineProcess

pytestmark = [pytest.mark.root, pytest.mark.e2e]


@contextmanager
def made(command: str, undo: str) -> Iterator[None]:
    subprocess.run(command.split(), check=True)
    try:
        yield
    finally:
        subprocess.run(undo.split(), check=True)


def test_every_kind_of_leftover_is_named(tmp_path: Path) -> None:
    mark = f"{os.getpid():x}"[-6:]
    point = tmp_path / f"tare-{mark}"
    point.mkdir()
    parent = next(path for path in (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup")) if path.is_dir())
    cgroup = parent / f"tare-{mark}"
    before = leftovers.survey()
    with ExitStack() as stack:
        stack.enter_context(made(f"mount -t tmpfs none {point}", f"umount {point}"))
        stack.enter_context(made(f"ip link add tr{mark}-0 type bridge", f"ip link del tr{mark}-0"))
        stack.enter_context(made(f"nft add table inet tare-{mark}", f"nft delete table inet tare-{mark}"))
        stack.enter_context(made(f"mkdir {cgroup}", f"rmdir {cgroup}"))
        found = {(item.kind, item.name) for item in leftovers.difference(before, leftovers.survey())}
        text = leftovers.report(leftovers.difference(before, leftovers.survey()))
    expected = {
        ("mount", str(point)),
        ("bridge", f"tr{mark}-0"),
        ("nftables table", f"inet tare-{mark}"),
        ("cgroup", str(cgroup)),
    }
    assert expected <= found
    assert f"  bridge: tr{mark}-0" in text
    after = {(item.kind, item.name) for item in leftovers.difference(before, leftovers.survey())}
    assert not expected & after


def test_a_running_engine_and_its_container_are_seen(host: EngineProcess) -> None:
    identifier = host.text("run", "-d", "busybox", "sleep", "1000")
    seen = leftovers.survey()
    kinds = {item.kind for item in seen if identifier in f"{item.name} {item.detail}"}
    assert kinds >= {"mount", "network namespace", "cgroup", "process"}
    assert any(item.kind == "process" and item.name == str(host.pid) for item in seen)
    host.remove_containers()
    left = [item for item in leftovers.survey() if identifier in item.name]
    assert left == []
