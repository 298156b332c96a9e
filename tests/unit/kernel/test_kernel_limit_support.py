"""Which limits a host keeps, from the files of its control groups: version 1, version 2, and both."""

from __future__ import annotations

from pathlib import Path

import pytest

from tare.kernel.cgroups import LimitSupport, detect, limit_support

V1_FILES = {
    "memory": "limit_in_bytes memsw.limit_in_bytes soft_limit_in_bytes swappiness oom_control",
    "cpu": "shares cfs_quota_us rt_period_us",
    "cpuset": "cpus mems",
    "pids": "",
    "blkio": (
        "weight weight_device throttle.read_bps_device throttle.write_bps_device throttle.read_iops_device "
        "throttle.write_iops_device"
    ),
}


def _proc(tmp_path: Path, mountinfo: str, *, namespaces: bool = True) -> Path:
    proc = tmp_path / "proc"
    (proc / "self/ns").mkdir(parents=True)
    (proc / "self/mountinfo").write_text(mountinfo)
    (proc / "swaps").touch()
    if namespaces:
        (proc / "self/ns/cgroup").touch()
    return proc


def _v1(tmp_path: Path, files: dict[str, str]) -> str:
    """Hierarchies of version 1 with these files; returns their lines of mountinfo."""
    lines = []
    for controller, names in files.items():
        directory = tmp_path / "cg" / controller
        directory.mkdir(parents=True)
        for name in names.split():
            (directory / f"{controller}.{name}").write_text("0-3\n" if controller == "cpuset" else "")
        lines.append(f"30 24 0:26 / {directory} rw - cgroup cgroup rw,{controller}\n")
    return "".join(lines)


def _support(tmp_path: Path, mountinfo: str, *, namespaces: bool = True) -> LimitSupport:
    proc = _proc(tmp_path, mountinfo, namespaces=namespaces)
    return limit_support(detect(proc), proc)


def test_version_1_with_everything(tmp_path: Path) -> None:
    assert _support(tmp_path, _v1(tmp_path, V1_FILES)) == LimitSupport(cpus="0-3", mems="0-3")


@pytest.mark.parametrize(
    ("controller", "files", "missing"),
    [
        ("memory", "limit_in_bytes soft_limit_in_bytes swappiness oom_control", {"swap"}),
        ("memory", "limit_in_bytes memsw.limit_in_bytes", {"reservation", "swappiness", "oom_kill_disable"}),
        ("cpu", "shares", {"cpu_quota", "cpu_realtime"}),
        ("blkio", "throttle.read_bps_device", {"blkio_weight", "blkio_weight_device"}),
    ],
)
def test_version_1_of_a_kernel_that_lacks_something(
    tmp_path: Path, controller: str, files: str, missing: set[str]
) -> None:
    support = _support(tmp_path, _v1(tmp_path, {**V1_FILES, controller: files}), namespaces=False)
    lacking = {name for name in LimitSupport.__dataclass_fields__ if getattr(support, name) is False}
    assert lacking == missing | {"cgroup_namespaces"}
    if controller == "blkio":
        assert support.blkio_throttle == {"read_bps"}


def test_version_1_without_a_controller(tmp_path: Path) -> None:
    support = _support(tmp_path, _v1(tmp_path, {"cpu": V1_FILES["cpu"]}))
    assert not any((support.memory, support.swap, support.pids, support.cpuset, support.blkio_weight))
    assert support.blkio_throttle == frozenset()
    assert support.cpu_shares


def test_version_2(tmp_path: Path) -> None:
    root = tmp_path / "cg"
    root.mkdir()
    (root / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    (root / "cpuset.cpus.effective").write_text("0-1\n")
    (root / "cpuset.mems.effective").write_text("0\n")
    support = _support(tmp_path, f"30 24 0:26 / {root} rw - cgroup2 cgroup2 rw\n")
    assert support == LimitSupport(swappiness=False, oom_kill_disable=False, cpu_realtime=False, cpus="0-1", mems="0")


def test_version_2_that_was_given_few_controllers(tmp_path: Path) -> None:
    root = tmp_path / "cg"
    root.mkdir()
    (root / "cgroup.controllers").write_text("memory pids\n")
    support = _support(tmp_path, f"30 24 0:26 / {root} rw - cgroup2 cgroup2 rw\n")
    assert (support.memory, support.pids) == (True, True)
    assert not any((support.cpu_shares, support.cpu_quota, support.cpuset, support.blkio_weight))


def test_a_controller_counts_where_it_is_on_a_host_with_both(tmp_path: Path) -> None:
    mountinfo = _v1(tmp_path, {"memory": V1_FILES["memory"]})
    unified = tmp_path / "cg/unified"
    unified.mkdir()
    (unified / "cgroup.controllers").write_text("io hugetlb\n")
    support = _support(tmp_path, mountinfo + f"33 24 0:29 / {unified} rw - cgroup2 cgroup2 rw\n")
    assert (support.memory, support.oom_kill_disable, support.blkio_weight) == (True, True, True)
    assert not support.cpu_shares


def test_no_control_groups(tmp_path: Path) -> None:
    support = _support(tmp_path, "")
    assert not any((support.memory, support.swap, support.pids, support.cpu_quota, support.blkio_weight))
