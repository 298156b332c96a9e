"""Where the control groups of this host are: v1, v2, or both at once (hybrid)."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

V1_CONTROLLERS = frozenset(
    {"cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "net_cls", "net_prio", "perf_event",
     "hugetlb", "rdma", "misc"}
)  # fmt: skip

_KILL_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupLayout:
    """The cgroup mounts of this host.

    ``kind`` is ``hybrid`` when v1 controllers exist beside a v2 tree; containers' limits live in v1 then. ``v1`` maps a
    controller (or ``name=systemd``) to its mount point. ``swap`` tells whether memory and swap can be limited together.
    """

    kind: Literal["v1", "hybrid", "v2", "none"]
    v1: dict[str, Path]
    unified: Path | None
    controllers: frozenset[str]
    swap: bool

    def directories(self, path: str) -> list[Path]:
        """The directory of cgroup ``path`` (absolute, as in a runtime spec) in every hierarchy."""
        relative = path.strip("/")
        mounts = list(dict.fromkeys(self.v1.values()))
        if self.unified is not None:
            mounts.append(self.unified)
        return [mount / relative for mount in mounts]

    def controller_directory(self, controller: str, path: str) -> Path | None:
        """The directory that holds ``controller``'s files of cgroup ``path``; None where the controller is absent."""
        relative = path.strip("/")
        if controller in self.v1:
            return self.v1[controller] / relative
        if self.unified is not None and controller in self.controllers:
            return self.unified / relative
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSupport:
    """Which limits this host's kernel can keep; ``cpus`` and ``mems`` are those there are (``0-3``, empty: unknown)."""

    memory: bool = True
    swap: bool = True
    reservation: bool = True
    swappiness: bool = True
    oom_kill_disable: bool = True
    pids: bool = True
    cpu_shares: bool = True
    cpu_quota: bool = True
    cpu_realtime: bool = True
    cpuset: bool = True
    blkio_weight: bool = True
    blkio_weight_device: bool = True
    blkio_throttle: frozenset[str] = frozenset({"read_bps", "write_bps", "read_iops", "write_iops"})
    cgroup_namespaces: bool = True
    cpus: str = ""
    mems: str = ""


def limit_support(layout: CgroupLayout, proc: Path = Path("/proc")) -> LimitSupport:
    """What the control groups of ``layout`` offer; reads a few directories. Controllers may be split over v1 and v2."""

    def offers(controller: str, v1_file: str, on_v2: bool) -> bool:
        directory = layout.v1.get(controller)
        return (directory / v1_file).exists() if directory is not None else on_v2 and controller in layout.controllers

    def block(v1_file: str) -> bool:
        directory = layout.v1.get("blkio")
        return (directory / v1_file).exists() if directory is not None else "io" in layout.controllers

    def available(name: str) -> str:
        directory = layout.controller_directory("cpuset", "/")
        names = (f"cpuset.{name}",) if "cpuset" in layout.v1 else (f"cpuset.{name}.effective", f"cpuset.{name}")
        for candidate in names if directory is not None else ():
            try:
                return (directory / candidate).read_text().strip()  # type: ignore[operator]
            except OSError:
                continue
        return ""

    kinds = ("read_bps", "write_bps", "read_iops", "write_iops")
    return LimitSupport(
        memory=offers("memory", "memory.limit_in_bytes", True),
        swap=layout.swap,
        reservation=offers("memory", "memory.soft_limit_in_bytes", True),
        swappiness=offers("memory", "memory.swappiness", False),
        oom_kill_disable=offers("memory", "memory.oom_control", False),
        pids="pids" in layout.controllers,
        cpu_shares=offers("cpu", "cpu.shares", True),
        cpu_quota=offers("cpu", "cpu.cfs_quota_us", True),
        cpu_realtime=offers("cpu", "cpu.rt_period_us", False),
        cpuset="cpuset" in layout.controllers,
        blkio_weight=block("blkio.weight"),
        blkio_weight_device=block("blkio.weight_device"),
        blkio_throttle=frozenset(kind for kind in kinds if block(f"blkio.throttle.{kind}_device")),
        cgroup_namespaces=(proc / "self/ns/cgroup").exists(),
        cpus=available("cpus"),
        mems=available("mems"),
    )


def parse_mountinfo(text: str) -> tuple[dict[str, Path], Path | None]:
    """v1 controllers with their mount points, and the v2 mount point, from ``/proc/self/mountinfo`` (proc(5))."""
    v1: dict[str, Path] = {}
    unified: Path | None = None
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        fields, kind = left.split(), right.split()
        if len(fields) < 5 or len(kind) < 3:
            continue
        mount = Path(fields[4].replace("\\040", " "))
        if kind[0] == "cgroup2":
            unified = unified or mount
        elif kind[0] == "cgroup":
            for option in kind[2].split(","):
                if option in V1_CONTROLLERS or option.startswith("name="):
                    v1.setdefault(option, mount)
    return v1, unified


def detect(proc: Path = Path("/proc")) -> CgroupLayout:
    """Look at this host's mounts. Never fails: without any cgroup mount, ``kind`` is ``none``."""
    v1, unified = parse_mountinfo((proc / "self/mountinfo").read_text())
    controllers = {name for name in v1 if not name.startswith("name=")}
    on_v2: set[str] = set()
    if unified is not None:
        try:
            on_v2 = set((unified / "cgroup.controllers").read_text().split())
        except OSError:
            on_v2 = set()
    kind: Literal["v1", "hybrid", "v2", "none"]
    match bool(controllers), unified is not None:
        case True, True:
            kind = "hybrid"
        case True, False:
            kind = "v1"
        case False, True:
            kind = "v2"
        case _:
            kind = "none"
    if "memory" in v1:
        swap = (v1["memory"] / "memory.memsw.limit_in_bytes").exists()
    else:
        swap = "memory" in on_v2 and (proc / "swaps").exists()
    return CgroupLayout(kind=kind, v1=v1, unified=unified, controllers=frozenset(controllers | on_v2), swap=swap)


def remove_cgroup(layout: CgroupLayout, path: str) -> bool:
    """Remove cgroup ``path`` with its children in every hierarchy; True when nothing of it is left.

    Only empty cgroups can be removed; one with processes in it stays (the kernel answers EBUSY).
    """
    if not path.strip("/"):
        return False
    return all(list(map(_remove_tree, layout.directories(path))))


def _remove_tree(directory: Path) -> bool:
    try:
        children = [child for child in directory.iterdir() if child.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return True
    for child in children:
        _remove_tree(child)
    try:
        directory.rmdir()
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno in (errno.EBUSY, errno.ENOTEMPTY):
            return False
        raise
    return True


def is_frozen(layout: CgroupLayout, path: str) -> bool:
    """Whether cgroup ``path`` is frozen, as ``pause`` does it (cgroup v1 freezer, or v2 ``cgroup.freeze``)."""
    if "freezer" in layout.v1:
        state = layout.v1["freezer"] / path.strip("/") / "freezer.state"
        frozen = {"FROZEN", "FREEZING"}
    elif layout.unified is not None:
        state, frozen = layout.unified / path.strip("/") / "cgroup.freeze", {"1"}
    else:
        return False
    try:
        return state.read_text().strip() in frozen
    except OSError:
        return False


def kill_cgroup(layout: CgroupLayout, path: str) -> bool:
    """Kill every process in cgroup ``path``, wait for their ends, and remove it; True when nothing is left of it.

    What is frozen is thawed first. Blocks for at most a few seconds.
    """
    thaw = [(layout.v1["freezer"] / path.strip("/") / "freezer.state", "THAWED")] if "freezer" in layout.v1 else []
    if layout.unified is not None:
        thaw.append((layout.unified / path.strip("/") / "cgroup.freeze", "0"))
    for file, word in thaw:
        with contextlib.suppress(OSError):
            file.write_text(word)
    for directory in layout.directories(path):
        for child in (directory, *(item for item in directory.rglob("*") if item.is_dir())):
            with contextlib.suppress(OSError):
                _kill_all([int(line) for line in (child / "cgroup.procs").read_text().split()])
    return remove_cgroup(layout, path)


def _kill_all(pids: list[int]) -> None:
    handles = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            handles.append(os.pidfd_open(pid))
    try:
        for handle in handles:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        for handle in handles:
            select.select([handle], [], [], _KILL_SECONDS)
    finally:
        for handle in handles:
            os.close(handle)
