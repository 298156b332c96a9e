"""What a control group has used: the kernel's counters, of v1 and v2, in the same terms.

Sources: Documentation/admin-guide/cgroup-v1 (cpuacct, memory, blkio-controller, pids) and cgroup-v2.rst; proc(5).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tare.kernel.cgroups import CgroupLayout

_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")  # nanoseconds of one unit in cpuacct.stat and /proc/stat
_MICROSECOND = 1000
_BLKIO = {
    "io_service_bytes": ("io_service_bytes_recursive", "throttle.io_service_bytes_recursive"),
    "io_serviced": ("io_serviced_recursive", "throttle.io_serviced_recursive"),
    "io_queue": ("io_queued_recursive",),
    "io_service_time": ("io_service_time_recursive",),
    "io_wait_time": ("io_wait_time_recursive",),
    "io_merged": ("io_merged_recursive",),
    "io_time": ("time_recursive",),
    "sectors": ("sectors_recursive",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuUsage:
    """CPU time in nanoseconds; ``per_cpu`` only where the kernel tells it (v1). ``system`` is all CPUs' time."""

    total: int = 0
    kernel: int = 0
    user: int = 0
    per_cpu: tuple[int, ...] = ()
    system: int = 0
    online: int = 0
    periods: int = 0
    throttled_periods: int = 0
    throttled_time: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUsage:
    """Bytes; ``limit`` is the machine's memory without one. ``stats`` are the counters of memory.stat by name."""

    usage: int = 0
    max_usage: int = 0
    failures: int = 0
    limit: int = 0
    stats: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IoEntry:
    """A counter of one block device: ``operation`` is Read, Write, … (v1) or read, write (v2)."""

    major: int
    minor: int
    operation: str
    value: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupUsage:
    """All that a cgroup has used; ``pids_limit`` 0 is none. ``io`` is empty per kind where nothing is known."""

    version: int
    cpu: CpuUsage
    memory: MemoryUsage
    pids: int
    pids_limit: int
    io: dict[str, list[IoEntry]]


def read_usage(layout: CgroupLayout, path: str) -> CgroupUsage:
    """The counters of cgroup ``path``; what the host does not count is 0. Blocks for some file reads."""
    if "cpuacct" in layout.v1 or "memory" in layout.v1:
        return _read_v1(layout, path)
    return _read_v2((layout.unified or Path("/nonexistent")) / path.strip("/"))


def _read_v1(layout: CgroupLayout, path: str) -> CgroupUsage:
    def place(controller: str) -> Path:
        return layout.controller_directory(controller, path) or Path("/nonexistent")

    accounting, memory, pids, blkio = place("cpuacct"), place("memory"), place("pids"), place("blkio")
    times = _table(accounting / "cpuacct.stat")
    throttling = _table(place("cpu") / "cpu.stat")
    return CgroupUsage(
        version=1,
        cpu=CpuUsage(
            total=_number(accounting / "cpuacct.usage"),
            kernel=times.get("system", 0) * _TICK,
            user=times.get("user", 0) * _TICK,
            per_cpu=tuple(int(word) for word in _text(accounting / "cpuacct.usage_percpu").split()),
            system=_system_time(),
            online=os.cpu_count() or 1,
            periods=throttling.get("nr_periods", 0),
            throttled_periods=throttling.get("nr_throttled", 0),
            throttled_time=throttling.get("throttled_time", 0),
        ),
        memory=MemoryUsage(
            usage=_number(memory / "memory.usage_in_bytes"),
            max_usage=_number(memory / "memory.max_usage_in_bytes"),
            failures=_number(memory / "memory.failcnt"),
            limit=_limit(_number(memory / "memory.limit_in_bytes")),
            stats=_table(memory / "memory.stat"),
        ),
        pids=_number(pids / "pids.current"),
        pids_limit=_number(pids / "pids.max"),
        io={name: _blkio(blkio, files) for name, files in _BLKIO.items()},
    )


def _read_v2(directory: Path) -> CgroupUsage:
    cpu = _table(directory / "cpu.stat")
    return CgroupUsage(
        version=2,
        cpu=CpuUsage(
            total=cpu.get("usage_usec", 0) * _MICROSECOND,
            kernel=cpu.get("system_usec", 0) * _MICROSECOND,
            user=cpu.get("user_usec", 0) * _MICROSECOND,
            system=_system_time(),
            online=os.cpu_count() or 1,
            periods=cpu.get("nr_periods", 0),
            throttled_periods=cpu.get("nr_throttled", 0),
            throttled_time=cpu.get("throttled_usec", 0) * _MICROSECOND,
        ),
        memory=MemoryUsage(
            usage=_number(directory / "memory.current"),
            failures=_table(directory / "memory.events").get("oom", 0),
            limit=_limit(_number(directory / "memory.max")),
            stats=_table(directory / "memory.stat"),
        ),
        pids=_number(directory / "pids.current"),
        pids_limit=_number(directory / "pids.max"),
        io={"io_service_bytes": list(_io_stat(_text(directory / "io.stat")))},
    )


def read_interfaces(pid: int) -> dict[str, tuple[int, ...]]:
    """Counters of the network interfaces that process ``pid`` sees, without the loopback; empty when it has ended.

    Each has received bytes, packets, errors, drops, then sent ones (proc(5), /proc/net/dev).
    """
    found = {}
    for line in _text(Path(f"/proc/{pid}/net/dev")).splitlines()[2:]:
        name, _, counters = line.partition(":")
        numbers = [int(word) for word in counters.split()]
        if name.strip() != "lo" and len(numbers) >= 12:
            found[name.strip()] = (*numbers[:4], *numbers[8:12])
    return found


def memory_total() -> int:
    """The machine's memory in bytes (proc(5), MemTotal)."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _limit(value: int) -> int:
    total = memory_total()
    return value if 0 < value < total else total


def _system_time() -> int:
    words = _text(Path("/proc/stat")).partition("\n")[0].split()
    return sum(int(word) for word in words[1:9]) * _TICK


def _blkio(directory: Path, files: tuple[str, ...]) -> list[IoEntry]:
    for name in files:
        entries = list(_blkio_entries(_text(directory / f"blkio.{name}")))
        if entries:
            return entries
    return []


def _blkio_entries(text: str) -> Iterator[IoEntry]:
    for line in text.splitlines():
        words = line.split()
        if ":" not in words[0]:
            continue  # the total of all devices
        major, _, minor = words[0].partition(":")
        operation = words[1] if len(words) == 3 else ""
        yield IoEntry(int(major), int(minor), operation, int(words[-1]))


def _io_stat(text: str) -> Iterator[IoEntry]:
    for line in text.splitlines():
        device, *pairs = line.split()
        major, _, minor = device.partition(":")
        values = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
        if not minor.isdigit():
            continue
        for key, operation in (("rbytes", "read"), ("wbytes", "write")):
            if key in values:
                yield IoEntry(int(major), int(minor), operation, int(values[key]))


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _number(path: Path) -> int:
    text = _text(path).strip()
    return int(text) if text.isdigit() else 0  # "max" is no limit


def _table(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in _text(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}
