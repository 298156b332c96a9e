"""Which file is written so that moves between cgroups do not wait, and that nothing depends on it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tare.kernel.cgroup_moves import hasten_moves

MOUNTS = """\
31 24 0:27 / {root}/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
32 24 0:28 / {root}/systemd rw - cgroup cgroup rw,xattr,name=systemd
33 24 0:29 / {root}/unified rw - cgroup2 cgroup2 rw,nsdelegate
"""


@pytest.mark.parametrize(
    ("lines", "place"),
    [
        ("3:cpu,cpuacct:/a/b\n1:name=systemd:/s\n0::/u\n", "cpu,cpuacct/a/b"),
        ("3:pids:/a/b\n1:name=systemd:/s\n0::/u\n", "systemd/s"),
        ("0::/u\n", "unified/u"),
        ("3:cpu,cpuacct:/../other\n0::/\n", "unified"),
    ],
)
def test_the_own_cgroup_of_the_first_hierarchy_that_is_mounted(tmp_path: Path, lines: str, place: str) -> None:
    own = tmp_path / "proc/self"
    own.mkdir(parents=True)
    (own / "mountinfo").write_text(MOUNTS.format(root=tmp_path))
    (own / "cgroup").write_text(lines)
    (tmp_path / place).mkdir(parents=True)
    assert hasten_moves(tmp_path / "proc")
    assert (tmp_path / place / "cgroup.procs").read_text() == str(os.getpid())


@pytest.mark.parametrize("lines", ["3:memory:/a\n", "0::/../b\n", "", "0::/gone\n"])
def test_where_there_is_no_such_file_nothing_happens(tmp_path: Path, lines: str) -> None:
    own = tmp_path / "proc/self"
    own.mkdir(parents=True)
    (own / "mountinfo").write_text(MOUNTS.format(root=tmp_path))
    (own / "cgroup").write_text(lines)
    assert not hasten_moves(tmp_path / "proc")
