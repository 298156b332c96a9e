"""Cgroup layouts as mountinfo shows them, and removing what is empty."""

from __future__ import annotations

from pathlib import Path

import pytest

from tare.kernel.cgroups import CgroupLayout, detect, parse_mountinfo, remove_cgroup

HYBRID = """\
24 1 0:21 / /proc rw - proc proc rw
30 24 0:26 / {root}/memory rw,relatime shared:9 - cgroup cgroup rw,memory
31 24 0:27 / {root}/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
32 24 0:28 / {root}/systemd rw - cgroup cgroup rw,xattr,name=systemd
33 24 0:29 / {root}/unified rw - cgroup2 cgroup2 rw,nsdelegate
"""


def _proc(tmp_path: Path, mountinfo: str) -> Path:
    proc = tmp_path / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "self/mountinfo").write_text(mountinfo)
    (proc / "swaps").touch()
    return proc


def test_hybrid(tmp_path: Path) -> None:
    root = tmp_path / "cg"
    (root / "memory").mkdir(parents=True)
    (root / "memory/memory.memsw.limit_in_bytes").touch()
    (root / "unified").mkdir()
    (root / "unified/cgroup.controllers").write_text("hugetlb\n")
    layout = detect(_proc(tmp_path, HYBRID.format(root=root)))
    assert layout.kind == "hybrid"
    assert layout.swap
    assert layout.controllers == {"memory", "cpu", "cpuacct", "hugetlb"}
    assert layout.directories("/tare/x") == [
        root / "memory/tare/x", root / "cpu,cpuacct/tare/x", root / "systemd/tare/x", root / "unified/tare/x",
    ]  # fmt: skip
    assert layout.controller_directory("cpu", "/a") == root / "cpu,cpuacct/a"
    assert layout.controller_directory("hugetlb", "/a") == root / "unified/a"
    assert layout.controller_directory("io", "/a") is None


def test_v2(tmp_path: Path) -> None:
    root = tmp_path / "cg"
    root.mkdir()
    (root / "cgroup.controllers").write_text("cpu io memory pids\n")
    layout = detect(_proc(tmp_path, f"30 24 0:26 / {root} rw - cgroup2 cgroup2 rw\n"))
    assert (layout.kind, layout.swap, layout.unified) == ("v2", True, root)
    assert layout.controllers == {"cpu", "io", "memory", "pids"}


def test_v1_without_swap_accounting(tmp_path: Path) -> None:
    layout = detect(_proc(tmp_path, f"30 24 0:26 / {tmp_path}/memory rw - cgroup cgroup rw,memory\n"))
    assert (layout.kind, layout.swap) == ("v1", False)


@pytest.mark.parametrize("text", ["", "rubbish\n", "1 2 3\n - \n", "30 24 0:26 / /x rw - ext4 /dev/sda rw\n"])
def test_none(tmp_path: Path, text: str) -> None:
    assert detect(_proc(tmp_path, text)).kind == "none"
    assert parse_mountinfo(text) == ({}, None)


def test_removal_takes_children_and_reports_what_stays(tmp_path: Path) -> None:
    layout = CgroupLayout(kind="v2", v1={}, unified=tmp_path, controllers=frozenset(), swap=False)
    (tmp_path / "tare/a/child").mkdir(parents=True)
    assert remove_cgroup(layout, "/tare/a")
    assert not (tmp_path / "tare/a").exists()
    assert remove_cgroup(layout, "/tare/a")
    (tmp_path / "tare/b").mkdir()
    (tmp_path / "tare/b/busy").touch()
    assert not remove_cgroup(layout, "/tare/b")
    assert not remove_cgroup(layout, "/")
