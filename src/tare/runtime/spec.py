"""OCI runtime specs: from what a container is asked to be, to the ``config.json`` that Docker 28 would write."""

from __future__ import annotations

from typing import Any

from tare.errors import InvalidArgument, Unsupported
from tare.runtime import capabilities
from tare.runtime.host import HostFacts
from tare.runtime.spec_linux import make_linux
from tare.runtime.spec_mounts import make_mounts
from tare.runtime.spec_request import INIT_PATH, SpecRequest, SpecUlimit

OCI_VERSION = "1.0.2"
DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def make_spec(request: SpecRequest, facts: HostFacts) -> dict[str, Any]:
    """The OCI runtime configuration (runtime-spec 1.0.2) of ``request`` on a host with ``facts``.

    Pure: the same arguments give the same document. Raises InvalidArgument and Unsupported.
    """
    spec: dict[str, Any] = {
        "ociVersion": OCI_VERSION,
        "process": make_process(request, facts),
        "root": {"path": str(request.rootfs), "readonly": request.readonly_rootfs},
        "mounts": make_mounts(request, facts),
        "linux": make_linux(request, facts),
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
    # As in Docker also for other users than root: execve(2) asks for permission with them, and then takes them away.
    user: dict[str, Any] = {"uid": request.uid, "gid": request.gid}
    if request.groups:
        user["additionalGids"] = list(request.groups)
    process: dict[str, Any] = {
        "terminal": request.terminal,
        "user": user,
        "args": _args(request, facts),
        "env": make_environment(request),
        "cwd": request.cwd,
        "capabilities": {"bounding": caps, "effective": caps, "permitted": caps, "inheritable": []},
        "noNewPrivileges": request.no_new_privileges,
        "oomScoreAdj": _oom_score_adj(request.oom_score_adj, facts),
    }
    if request.terminal and request.console_size is not None and all(request.console_size):
        process["consoleSize"] = {"height": request.console_size[0], "width": request.console_size[1]}
    if request.apparmor and "apparmor" in facts.security_modules:
        process["apparmorProfile"] = request.apparmor
    if limits := make_rlimits(request.ulimits, facts):
        process["rlimits"] = limits
    return process


def make_environment(request: SpecRequest) -> list[str]:
    """Docker's environment: PATH, HOSTNAME, HOME and (with a terminal) TERM, overridden by the request's own."""
    defaults = [DEFAULT_PATH]
    if request.hostname:
        defaults.append(f"HOSTNAME={request.hostname}")
    if request.terminal:
        defaults.append("TERM=xterm")
    if request.home is not None:
        defaults.append(f"HOME={request.home}")
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
