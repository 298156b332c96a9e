"""What container specs depend on in this host."""

from __future__ import annotations

import os
import platform
import re
import resource
import shutil
import stat
from dataclasses import dataclass, field
from pathlib import Path

from tare.errors import InvalidArgument, NotFound
from tare.kernel import cgroups
from tare.kernel.cgroups import LimitSupport
from tare.runtime import capabilities

_GO_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386", "loongarch64": "loong64"}
_INIT_PROGRAMS = ("docker-init", "tini-static", "catatonit", "tini")

RLIMITS = {
    "core": resource.RLIMIT_CORE, "cpu": resource.RLIMIT_CPU, "data": resource.RLIMIT_DATA,
    "fsize": resource.RLIMIT_FSIZE, "memlock": resource.RLIMIT_MEMLOCK, "msgqueue": resource.RLIMIT_MSGQUEUE,
    "nice": resource.RLIMIT_NICE, "nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC,
    "rss": resource.RLIMIT_RSS, "rtprio": resource.RLIMIT_RTPRIO, "rttime": resource.RLIMIT_RTTIME,
    "sigpending": resource.RLIMIT_SIGPENDING, "stack": resource.RLIMIT_STACK, "locks": 10, "as": resource.RLIMIT_AS,
}  # fmt: skip
"""Docker's names of resource limits (setrlimit(2)); Python has no name for RLIMIT_LOCKS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecDevice:
    """A device node in the container. ``kind`` is c, b or p; ``permissions`` a subset of ``rwm``."""

    path: str
    kind: str
    major: int
    minor: int
    mode: int = 0o666
    uid: int = 0
    gid: int = 0
    permissions: str = "rwm"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """Everything about the host that ``make_spec`` looks at, so that specs are a pure function.

    ``hard_limits``: the engine's own hard rlimits by Docker's names (-1: unlimited); a container cannot have more where
    the engine lacks CAP_SYS_RESOURCE. ``sysctls``: which of the namespaced settings that Tare sets by itself exist.
    ``init`` is the host's static init program for ``--init``. ``security_modules``: apparmor and selinux where they
    are on.
    """

    cgroups: cgroups.CgroupLayout
    capabilities: frozenset[str]
    kernel: tuple[int, int]
    architecture: str
    hard_limits: dict[str, int]
    oom_score_adj: int = 0
    sysctls: frozenset[str] = frozenset()
    init: Path | None = None
    devices: tuple[SpecDevice, ...] = ()
    userns: bool = False
    limits: LimitSupport = field(default_factory=LimitSupport)
    security_modules: frozenset[str] = frozenset()


def probe_host() -> HostFacts:
    """Read the facts from ``/proc``, ``/sys`` and ``/dev``; blocks for about a millisecond."""
    status = Path("/proc/self/status").read_text()
    match = re.search(r"^CapBnd:\s*([0-9a-f]+)$", status, re.MULTILINE)
    release = re.match(r"(\d+)\.(\d+)", platform.release())
    machine = platform.machine()
    init = next((found for name in _INIT_PROGRAMS if (found := shutil.which(name))), None)
    candidates = ("net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range")
    layout = cgroups.detect()
    return HostFacts(
        cgroups=layout,
        limits=cgroups.limit_support(layout),
        security_modules=_security_modules(),
        capabilities=capabilities.from_mask(int(match[1], 16) if match else 0),
        kernel=(int(release[1]), int(release[2])) if release else (0, 0),
        architecture=_GO_ARCHITECTURES.get(machine, machine),
        hard_limits={name: resource.getrlimit(number)[1] for name, number in RLIMITS.items()},
        oom_score_adj=int(Path("/proc/self/oom_score_adj").read_text()),
        sysctls=frozenset(name for name in candidates if Path("/proc/sys", name.replace(".", "/")).exists()),
        init=Path(init) if init else None,
        devices=host_devices(),
        userns=Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"],
    )


def _security_modules() -> frozenset[str]:
    """``apparmor`` and ``selinux`` where the kernel has them switched on."""
    found = set()
    enabled = Path("/sys/module/apparmor/parameters/enabled")
    if enabled.exists() and enabled.read_text().strip() == "Y":
        found.add("apparmor")
    if Path("/sys/fs/selinux/enforce").exists():
        found.add("selinux")
    return frozenset(found)


def host_devices() -> tuple[SpecDevice, ...]:
    """The host's device nodes for privileged containers, less terminals and what each container has of its own."""
    found: list[SpecDevice] = []
    skipped = {"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console"}
    for directory, names, files in os.walk("/dev"):
        names[:] = [name for name in names if name not in skipped]
        for name in files:
            if name not in skipped:
                try:
                    found.append(_device(Path(directory, name), f"{directory}/{name}", "rwm"))
                except (InvalidArgument, OSError):
                    continue
    return tuple(sorted(found, key=lambda device: device.path))


def host_device(path_on_host: str, path_in_container: str = "", permissions: str = "rwm") -> list[SpecDevice]:
    """The nodes for one ``--device``: one, or all below a directory.

    Raises NotFound when the path does not exist and InvalidArgument when it holds no device.
    """
    if not permissions or set(permissions) - set("rwm"):
        raise InvalidArgument(f"invalid device mode: {permissions}", hint="use a combination of r, w and m")
    source, target = Path(path_on_host).resolve(), path_in_container or path_on_host
    if not source.exists():
        raise NotFound(
            f'error gathering device information while adding custom device "{path_on_host}": '
            "no such file or directory",
            code="no-such-device",
        )
    if not source.is_dir():
        return [_device(source, target, permissions)]
    found = [
        _device(child, f"{target}/{child.relative_to(source)}", permissions)
        for child in sorted(source.rglob("*"))
        if child.is_block_device() or child.is_char_device()
    ]
    if not found:
        raise InvalidArgument(
            f'error gathering device information while adding custom device "{path_on_host}": not a device node'
        )
    return found


def _device(source: Path, target: str, permissions: str) -> SpecDevice:
    status = source.lstat()
    if stat.S_ISCHR(status.st_mode):
        kind = "c"
    elif stat.S_ISBLK(status.st_mode):
        kind = "b"
    else:
        raise InvalidArgument(
            f'error gathering device information while adding custom device "{source}": not a device node'
        )
    return SpecDevice(
        path=target,
        kind=kind,
        major=os.major(status.st_rdev),
        minor=os.minor(status.st_rdev),
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        permissions=permissions,
    )
