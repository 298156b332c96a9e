"""What a container is asked to be, in the runtime's terms: users are numbers, paths exist, images are mounted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tare.runtime.host import SpecDevice

DEFAULT_SHM_SIZE = 64 << 20
INIT_PATH = "/sbin/docker-init"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecMount:
    """A mount that the user or the engine asks for. It replaces a default mount at the same destination."""

    type: Literal["bind", "tmpfs"] = "bind"
    source: str
    destination: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecUlimit:
    """A resource limit by Docker's name (``nofile``); -1 is unlimited."""

    name: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Limits, in bytes, microseconds and 10⁻⁹ CPUs; 0, empty or None means none (as in the Engine API).

    Devices of block I/O are (major, minor, weight or rate); ``blkio_throttle`` goes by runtime-spec's member names.
    """

    memory: int = 0
    memory_swap: int = 0
    memory_reservation: int = 0
    memory_swappiness: int | None = None
    cpu_shares: int = 0
    nano_cpus: int = 0
    cpu_period: int = 0
    cpu_quota: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids_limit: int | None = None
    blkio_weight: int = 0
    blkio_weight_device: tuple[tuple[int, int, int], ...] = ()
    blkio_throttle: Mapping[str, tuple[tuple[int, int, int], ...]] = field(default_factory=dict)
    cpu_realtime_period: int = 0
    cpu_realtime_runtime: int = 0
    oom_kill_disable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecRequest:
    """A container, fully resolved: users are numbers, paths exist, images are mounted.

    ``network_namespace`` None is the host's network; ``network_shared`` tells that the namespace belongs to another
    container, so that its settings are left alone. ``pid_mode``, ``ipc_mode``, ``uts_mode``: ``""`` (private), ``host``
    or the path of a namespace; ``cgroupns_mode`` likewise, where ``""`` is Docker's default (private on v2, else host).
    ``seccomp`` is ``default``, ``unconfined`` or a profile's JSON text. For ``masked_paths`` and
    ``readonly_paths`` None is Docker's list. ``env`` wins over the defaults (PATH, HOSTNAME, HOME, TERM).
    ``ids`` (first, size) are those of ``user_namespace`` on the host. ``shared_memory`` is a directory of the host for
    /dev/shm, which there is not with ``no_shared_memory``.
    """

    rootfs: Path
    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    home: str | None = None
    terminal: bool = False
    console_size: tuple[int, int] | None = None
    hostname: str = ""
    domainname: str = ""
    mounts: tuple[SpecMount, ...] = ()
    network_namespace: Path | None = None
    network_shared: bool = False
    cgroup_path: str = ""
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    privileged: bool = False
    readonly_rootfs: bool = False
    no_new_privileges: bool = False
    seccomp: str = "default"
    resources: Resources = field(default_factory=Resources)
    ulimits: tuple[SpecUlimit, ...] = ()
    sysctls: dict[str, str] = field(default_factory=dict)
    devices: tuple[SpecDevice, ...] = ()
    device_cgroup_rules: tuple[str, ...] = ()
    shm_size: int = DEFAULT_SHM_SIZE
    masked_paths: tuple[str, ...] | None = None
    readonly_paths: tuple[str, ...] | None = None
    pid_mode: str = ""
    ipc_mode: str = ""
    uts_mode: str = ""
    cgroupns_mode: str = ""
    init: bool = False
    oom_score_adj: int = 0
    user_namespace: Path | None = None
    ids: tuple[int, int] | None = None
    shared_memory: Path | None = None
    no_shared_memory: bool = False
    apparmor: str = ""
    writable_cgroups: bool = False
    annotations: dict[str, str] = field(default_factory=dict)
