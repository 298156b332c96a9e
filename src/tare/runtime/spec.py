"""OCI runtime specs: from what a container is asked to be, to the ``config.json`` that Docker 28 would write."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tare.errors import InvalidArgument, Unsupported
from tare.runtime import capabilities
from tare.runtime.host import HostFacts, SpecDevice

OCI_VERSION = "1.0.2"
DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
INIT_PATH = "/sbin/docker-init"
DEFAULT_SHM_SIZE = 64 << 20


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
    """Limits, in bytes, microseconds and 10⁻⁹ CPUs; 0, empty or None means none (as in the Engine API)."""

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
    oom_kill_disable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecRequest:
    """A container, fully resolved: users are numbers, paths exist, images are mounted.

    ``network_namespace`` None is the host's network; ``network_shared`` tells that the namespace belongs to another
    container, so that its settings are left alone. ``pid_mode``, ``ipc_mode``, ``uts_mode``: ``""`` (private), ``host``
    or the path of a namespace; ``cgroupns_mode`` likewise, where ``""`` is Docker's default (private on v2, else host).
    ``seccomp`` is ``default``, ``unconfined`` or a profile's JSON text. For ``masked_paths`` and
    ``readonly_paths`` None is Docker's list. ``env`` wins over the defaults (``PATH``, ``HOSTNAME``, ``TERM``).
    """

    rootfs: Path
    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
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
    annotations: dict[str, str] = field(default_factory=dict)


def make_spec(request: SpecRequest, facts: HostFacts) -> dict[str, Any]:
    """The OCI runtime configuration (runtime-spec 1.0.2) of ``request`` on a host with ``facts``.

    Pure: the same arguments give the same document. Raises InvalidArgument and Unsupported.
    """
    from tare.runtime import spec_linux, spec_mounts

    spec: dict[str, Any] = {
        "ociVersion": OCI_VERSION,
        "process": make_process(request, facts),
        "root": {"path": str(request.rootfs), "readonly": request.readonly_rootfs},
        "mounts": spec_mounts.make_mounts(request, facts),
        "linux": spec_linux.make_linux(request, facts),
    }
    if request.uts_mode == "":
        spec["hostname"] = request.hostname
    if request.annotations:
        spec["annotations"] = dict(request.annotations)
    return spec


def make_process(request: SpecRequest, facts: HostFacts) -> dict[str, Any]:
    """The runtime-spec ``process`` of ``request``; also what an exec passes to the runtime."""
    if not request.args:
        raise InvalidArgument("no command specified", hint="give the container a command")
    if not request.cwd.startswith("/"):
        raise InvalidArgument(f"the working directory '{request.cwd}' is invalid, it needs to be an absolute path")
    caps = capabilities.effective(
        request.cap_add, request.cap_drop, privileged=request.privileged, available=facts.capabilities
    )
    # A user other than root has no effective capabilities, as execve(2) would leave it.
    granted = caps if request.uid == 0 else []
    user: dict[str, Any] = {"uid": request.uid, "gid": request.gid}
    if request.groups:
        user["additionalGids"] = list(request.groups)
    process: dict[str, Any] = {
        "terminal": request.terminal,
        "user": user,
        "args": _args(request, facts),
        "env": make_environment(request),
        "cwd": request.cwd,
        "capabilities": {"bounding": caps, "effective": granted, "permitted": granted, "inheritable": []},
        "noNewPrivileges": request.no_new_privileges,
        "oomScoreAdj": _oom_score_adj(request.oom_score_adj, facts),
    }
    if request.terminal and request.console_size is not None and all(request.console_size):
        process["consoleSize"] = {"height": request.console_size[0], "width": request.console_size[1]}
    if limits := make_rlimits(request.ulimits, facts):
        process["rlimits"] = limits
    return process


def make_environment(request: SpecRequest) -> list[str]:
    """Docker's environment: ``PATH``, ``HOSTNAME`` and (with a terminal) ``TERM``, overridden by the request's own."""
    defaults = [DEFAULT_PATH]
    if request.hostname:
        defaults.append(f"HOSTNAME={request.hostname}")
    if request.terminal:
        defaults.append("TERM=xterm")
    values: dict[str, str] = {}
    for entry in [*defaults, *request.env]:
        name, equals, value = entry.partition("=")
        if equals:
            values[name] = value
        else:
            values.pop(name, None)  # a bare name removes the variable
    return [f"{name}={value}" for name, value in values.items()]


def make_rlimits(ulimits: tuple[SpecUlimit, ...], facts: HostFacts) -> list[dict[str, Any]]:
    """Resource limits, never above what the engine itself may set (without CAP_SYS_RESOURCE the runtime would fail)."""
    may_raise = "CAP_SYS_RESOURCE" in facts.capabilities
    limits: list[dict[str, Any]] = []
    for limit in ulimits:
        if limit.name not in facts.hard_limits:
            raise InvalidArgument(f"invalid ulimit type: {limit.name}")
        if limit.hard >= 0 and (limit.soft > limit.hard or limit.soft < 0):
            raise InvalidArgument(
                f"ulimit soft limit must be less than or equal to hard limit: {limit.soft} > {limit.hard}"
            )
        ceiling = -1 if may_raise else facts.hard_limits[limit.name]
        hard = _clamp(limit.hard, ceiling)
        limits.append(
            {
                "type": f"RLIMIT_{limit.name.upper()}",
                "hard": _unsigned(hard),
                "soft": _unsigned(_clamp(limit.soft, hard)),
            }
        )
    return limits


def _clamp(value: int, ceiling: int) -> int:
    if ceiling < 0:
        return value
    return ceiling if value < 0 else min(value, ceiling)


def _unsigned(value: int) -> int:
    return value if value >= 0 else (1 << 64) - 1


def _oom_score_adj(wanted: int, facts: HostFacts) -> int:
    if not -1000 <= wanted <= 1000:
        raise InvalidArgument(f"invalid value {wanted}, range for oom score adj is [-1000, 1000]")
    return wanted if "CAP_SYS_RESOURCE" in facts.capabilities else max(wanted, facts.oom_score_adj)


def _args(request: SpecRequest, facts: HostFacts) -> list[str]:
    if not request.init:
        return list(request.args)
    if facts.init is None:
        raise Unsupported(
            "no init program for --init was found on this host", hint="install the package tini or catatonit"
        )
    return [INIT_PATH, "--", *request.args]
