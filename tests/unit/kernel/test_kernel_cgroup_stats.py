from __future__ import annotations

import os
from pathlib import Path

from tare.kernel.cgroup_stats import IoEntry, memory_total, read_interfaces, read_usage
from tare.kernel.cgroups import CgroupLayout


def write(directory: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_version_1(tmp_path: Path) -> None:
    names = ("cpu", "cpuacct", "memory", "pids", "blkio")
    v1 = {name: tmp_path / name for name in names}
    write(
        tmp_path,
        {
            "cpuacct/t/c/cpuacct.usage": "5000\n",
            "cpuacct/t/c/cpuacct.usage_percpu": "2000 3000 \n",
            "cpuacct/t/c/cpuacct.stat": "user 3\nsystem 2\n",
            "cpu/t/c/cpu.stat": "nr_periods 9\nnr_throttled 1\nthrottled_time 77\n",
            "memory/t/c/memory.usage_in_bytes": "4096\n",
            "memory/t/c/memory.max_usage_in_bytes": "8192\n",
            "memory/t/c/memory.limit_in_bytes": "9223372036854771712\n",
            "memory/t/c/memory.failcnt": "2\n",
            "memory/t/c/memory.stat": "cache 1\ntotal_inactive_file 2\n",
            "pids/t/c/pids.current": "3\n",
            "pids/t/c/pids.max": "max\n",
            "blkio/t/c/blkio.throttle.io_service_bytes_recursive": "8:0 Read 10\n8:0 Write 20\nTotal 30\n",
        },
    )
    layout = CgroupLayout(kind="v1", v1=v1, unified=None, controllers=frozenset(names), swap=True)
    found = read_usage(layout, "/t/c")
    tick = 10**9 // os.sysconf("SC_CLK_TCK")
    assert (found.cpu.total, found.cpu.per_cpu, found.cpu.user, found.cpu.kernel) == (
        5000,
        (2000, 3000),
        3 * tick,
        2 * tick,
    )
    assert (found.cpu.periods, found.cpu.throttled_periods, found.cpu.throttled_time) == (9, 1, 77)
    assert (found.memory.usage, found.memory.max_usage, found.memory.failures) == (4096, 8192, 2)
    assert found.memory.limit == memory_total()
    assert (found.pids, found.pids_limit) == (3, 0)
    assert found.io["io_service_bytes"] == [IoEntry(8, 0, "Read", 10), IoEntry(8, 0, "Write", 20)]


def test_version_2(tmp_path: Path) -> None:
    write(
        tmp_path / "t/c",
        {
            "cpu.stat": "usage_usec 7\nuser_usec 4\nsystem_usec 3\nnr_periods 1\nnr_throttled 0\nthrottled_usec 5\n",
            "memory.current": "4096\n",
            "memory.max": "65536\n",
            "memory.stat": "anon 5\ninactive_file 6\n",
            "memory.events": "low 0\noom 4\n",
            "pids.current": "1\n",
            "pids.max": "50\n",
            "io.stat": "8:0 rbytes=1 wbytes=2 rios=3\n9:1 rbytes=4\nbroken\n",
        },
    )
    layout = CgroupLayout(kind="v2", v1={}, unified=tmp_path, controllers=frozenset({"memory"}), swap=True)
    found = read_usage(layout, "/t/c")
    assert (found.version, found.cpu.total, found.cpu.throttled_time, found.cpu.per_cpu) == (2, 7000, 5000, ())
    assert (found.memory.usage, found.memory.limit, found.memory.failures) == (4096, 65536, 4)
    assert (found.pids, found.pids_limit) == (1, 50)
    assert found.io["io_service_bytes"] == [
        IoEntry(8, 0, "read", 1),
        IoEntry(8, 0, "write", 2),
        IoEntry(9, 1, "read", 4),
    ]


def test_what_is_gone_has_used_nothing(tmp_path: Path) -> None:
    layout = CgroupLayout(kind="v2", v1={}, unified=tmp_path, controllers=frozenset(), swap=False)
    found = read_usage(layout, "/nope")
    assert (found.cpu.total, found.memory.usage, found.pids) == (0, 0, 0)
    assert read_interfaces(2**22 + 1) == {}
