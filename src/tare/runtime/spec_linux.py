"""The ``linux`` part of a container's spec: namespaces, limits, devices, filters, hidden paths."""

from __future__ import annotations

from typing import Any

from tare.errors import InvalidArgument
from tare.runtime import capabilities, seccomp
from tare.runtime.host import HostFacts, SpecDevice
from tare.runtime.spec_request import Resources, SpecRequest

MASKED_PATHS = (
    "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
    "/sys/devices/virtual/powercap",
)  # fmt: skip
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
CPU_PERIOD = 100_000
"""Microseconds, the period over which ``nano_cpus`` is shared out (Docker's)."""

_DEVICE_RULES: tuple[tuple[bool, str, int, int], ...] = (
    (True, "c", 1, 5),  # zero
    (True, "c", 1, 3),  # null
    (True, "c", 1, 9),  # urandom
    (True, "c", 1, 8),  # random
    (True, "c", 5, 0),  # tty
    (True, "c", 5, 1),  # console
    (False, "c", 10, 229),  # fuse
)


def make_linux(request: SpecRequest, facts: HostFacts) -> dict[str, Any]:
    """The runtime-spec ``linux`` object."""
    hidden = () if request.privileged else MASKED_PATHS
    fixed = () if request.privileged else READONLY_PATHS
    devices = facts.devices + request.devices if request.privileged else request.devices
    linux: dict[str, Any] = {
        "namespaces": _namespaces(request, facts),
        "maskedPaths": list(hidden if request.masked_paths is None else request.masked_paths),
        "readonlyPaths": list(fixed if request.readonly_paths is None else request.readonly_paths),
        "resources": make_resources(request, facts),
        "devices": [_device(device) for device in {device.path: device for device in devices}.values()],
    }
    if request.ids is not None:
        first, size = request.ids
        mapping = {"containerID": 0, "hostID": first, "size": size}
        linux["uidMappings"], linux["gidMappings"] = [mapping], [dict(mapping)]
    if request.cgroup_path:
        linux["cgroupsPath"] = request.cgroup_path
    if sysctls := _sysctls(request, facts):
        linux["sysctl"] = sysctls
    if profile := _seccomp(request, facts):
        linux["seccomp"] = profile
    if propagation := _propagation(request):
        linux["rootfsPropagation"] = propagation
    return linux


def _namespaces(request: SpecRequest, facts: HostFacts) -> list[dict[str, str]]:
    namespaces = [{"type": "mount"}]
    if request.user_namespace is not None:
        namespaces.append({"type": "user", "path": str(request.user_namespace)})
    if request.network_namespace is not None:
        namespaces.append({"type": "network", "path": str(request.network_namespace)})
    cgroup = request.cgroupns_mode or ("private" if facts.cgroups.kind == "v2" and not request.privileged else "host")
    modes = {"uts": request.uts_mode, "pid": request.pid_mode, "ipc": request.ipc_mode, "cgroup": cgroup}
    for kind, mode in modes.items():
        if mode == "host":
            continue
        if mode in ("", "private"):
            namespaces.append({"type": kind})
        elif mode.startswith("/"):
            namespaces.append({"type": kind, "path": mode})
        else:
            raise InvalidArgument(f"invalid {kind} mode: {mode}")
    return namespaces


def _sysctls(request: SpecRequest, facts: HostFacts) -> dict[str, str]:
    values: dict[str, str] = {}
    if request.network_namespace is not None and not request.network_shared:
        if "net.ipv4.ip_unprivileged_port_start" in facts.sysctls:
            values["net.ipv4.ip_unprivileged_port_start"] = "0"
        if "net.ipv4.ping_group_range" in facts.sysctls and not (facts.userns or request.ids):
            values["net.ipv4.ping_group_range"] = "0 2147483647"
    if request.domainname and request.uts_mode == "":
        values["kernel.domainname"] = request.domainname  # runtime-spec 1.0 has no field for it
    return values | request.sysctls


def _seccomp(request: SpecRequest, facts: HostFacts) -> dict[str, Any] | None:
    if request.seccomp == "unconfined" or (request.privileged and request.seccomp == "default"):
        return None
    caps = frozenset(
        capabilities.effective(
            request.cap_add, request.cap_drop, privileged=request.privileged, available=facts.capabilities
        )
    )
    if request.seccomp == "default":
        return dict(seccomp.default_profile(caps, facts.architecture, facts.kernel))
    return seccomp.compile_profile(request.seccomp, caps, facts.architecture, facts.kernel)


def _propagation(request: SpecRequest) -> str:
    wanted = {option for mount in request.mounts for option in mount.options}
    if wanted & {"shared", "rshared"}:
        return "shared"
    return "rslave" if wanted & {"slave", "rslave"} else ""


def _device(device: SpecDevice) -> dict[str, Any]:
    return {
        "path": device.path,
        "type": device.kind,
        "major": device.major,
        "minor": device.minor,
        "fileMode": device.mode,
        "uid": device.uid,
        "gid": device.gid,
    }


def make_resources(request: SpecRequest, facts: HostFacts) -> dict[str, Any]:
    """Limits in the runtime's terms. A limit that this host's kernel cannot keep is left out, as Docker does."""
    wanted, has = request.resources, facts.cgroups.controllers
    resources: dict[str, Any] = {"devices": _device_rules(request)}
    if "memory" in has and (memory := _memory(wanted, facts)):
        resources["memory"] = memory
    if cpu := _cpu(wanted, facts):
        resources["cpu"] = cpu
    if wanted.pids_limit is not None and wanted.pids_limit > 0 and "pids" in has:
        resources["pids"] = {"limit": wanted.pids_limit}  # a new control group has none, and crun takes no -1
    if {"blkio", "io"} & has and (block_io := _block_io(wanted)):
        resources["blockIO"] = block_io
    return resources


def _block_io(wanted: Resources) -> dict[str, Any]:
    block_io: dict[str, Any] = {}
    if wanted.blkio_weight:
        if not 10 <= wanted.blkio_weight <= 1000:
            raise InvalidArgument("range of blkio weight is from 10 to 1000")
        block_io["weight"] = wanted.blkio_weight
    if wanted.blkio_weight_device:
        block_io["weightDevice"] = [
            {"major": major, "minor": minor, "weight": weight} for major, minor, weight in wanted.blkio_weight_device
        ]
    for member, devices in wanted.blkio_throttle.items():
        if devices:
            block_io[member] = [{"major": major, "minor": minor, "rate": rate} for major, minor, rate in devices]
    return block_io


def _device_rules(request: SpecRequest) -> list[dict[str, Any]]:
    if request.privileged:
        return [{"allow": True, "access": "rwm"}]
    rules: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
    rules += [
        {"allow": allow, "type": kind, "major": major, "minor": minor, "access": "rwm"}
        for allow, kind, major, minor in _DEVICE_RULES
    ]
    rules += [
        {"allow": True, "type": device.kind, "major": device.major, "minor": device.minor, "access": device.permissions}
        for device in request.devices
    ]
    return rules + [_cgroup_rule(rule) for rule in request.device_cgroup_rules]


def _cgroup_rule(rule: str) -> dict[str, Any]:
    """``c 1:3 rwm`` of ``--device-cgroup-rule``; ``*`` stands for every number."""
    try:
        kind, numbers, access = rule.split()
        major, _, minor = numbers.partition(":")
        if kind not in ("a", "b", "c") or set(access) - set("rwm"):
            raise InvalidArgument(f"invalid device cgroup rule format: '{rule}'")
        parsed: dict[str, Any] = {"allow": True, "type": kind, "access": access}
        for key, number in (("major", major), ("minor", minor)):
            if number != "*":
                parsed[key] = int(number)
    except ValueError as error:
        raise InvalidArgument(f"invalid device cgroup rule format: '{rule}'", hint="example: 'c 1:3 mr'") from error
    return parsed


def _memory(wanted: Resources, facts: HostFacts) -> dict[str, Any]:
    memory: dict[str, Any] = {}
    if wanted.memory > 0:
        if wanted.memory < 6 << 20:
            raise InvalidArgument("minimum memory limit allowed is 6MB")
        memory["limit"] = wanted.memory
    if wanted.memory_reservation > 0:
        if 0 < wanted.memory < wanted.memory_reservation:
            raise InvalidArgument("minimum memory limit can not be less than memory reservation limit")
        memory["reservation"] = wanted.memory_reservation
    if wanted.memory_swap and wanted.memory <= 0:
        raise InvalidArgument("you should always set the memory limit when using the memoryswap limit")
    if 0 < wanted.memory_swap < wanted.memory:
        raise InvalidArgument("minimum memoryswap limit should be larger than memory limit")
    if wanted.memory > 0 and facts.cgroups.swap:
        memory["swap"] = wanted.memory_swap or 2 * wanted.memory  # Docker: as much swap as memory
    on_v1 = "memory" in facts.cgroups.v1
    if wanted.memory_swappiness is not None and wanted.memory_swappiness >= 0 and on_v1:
        memory["swappiness"] = wanted.memory_swappiness
    if wanted.oom_kill_disable and on_v1:
        memory["disableOOMKiller"] = True
    return memory


def _cpu(wanted: Resources, facts: HostFacts) -> dict[str, Any]:
    if wanted.nano_cpus and (wanted.cpu_period or wanted.cpu_quota):
        raise InvalidArgument("conflicting options: nano CPUs and CPU period or quota cannot both be set")
    cpu: dict[str, Any] = {}
    if "cpu" in facts.cgroups.controllers:
        if wanted.cpu_shares > 0:
            cpu["shares"] = wanted.cpu_shares
        if wanted.nano_cpus > 0:
            cpu["period"] = CPU_PERIOD
            cpu["quota"] = wanted.nano_cpus * CPU_PERIOD // 1_000_000_000
        if wanted.cpu_period:
            cpu["period"] = wanted.cpu_period
        if wanted.cpu_quota:
            cpu["quota"] = wanted.cpu_quota
        if wanted.cpu_realtime_period and "cpu" in facts.cgroups.v1:
            cpu["realtimePeriod"] = wanted.cpu_realtime_period
        if wanted.cpu_realtime_runtime and "cpu" in facts.cgroups.v1:
            cpu["realtimeRuntime"] = wanted.cpu_realtime_runtime
    if "cpuset" in facts.cgroups.controllers:
        if wanted.cpuset_cpus:
            cpu["cpus"] = wanted.cpuset_cpus
        if wanted.cpuset_mems:
            cpu["mems"] = wanted.cpuset_mems
    return cpu
