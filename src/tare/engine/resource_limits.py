"""Limits that containers are asked to keep: checked by Docker's rules, and dropped where this kernel has none. Pure.

The order of checks and the words are those of Docker 28's ``verifyPlatformContainerResources``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from tare.errors import InvalidArgument
from tare.kernel.cgroups import LimitSupport
from tare.model.container import HostConfig

MIN_MEMORY = 6 << 20
"""Bytes; Docker refuses less."""
_LAST_NUMBER = 8192
_NOT_MOUNTED = "or the cgroup is not mounted"
_THROTTLES = (
    ("blkio_device_read_bps", "read_bps", "BPS Block I/O read", "BPS read"),
    ("blkio_device_write_bps", "write_bps", "BPS Block I/O write", "BPS write"),
    ("blkio_device_read_iops", "read_iops", "IOPS Block read", "IOPS read"),
    ("blkio_device_write_iops", "write_iops", "IOPS Block write", "IOPS write"),
)


def check_limits(
    host: HostConfig, support: LimitSupport, *, cpu_count: int | None = None, update: bool = False
) -> list[str]:
    """Check the limits in ``host`` and drop those that ``support`` lacks; returns a warning for each dropped one.

    ``cpu_count`` is that of the host by default. ``update`` tells that a container's limits are changed, where a swap
    limit may come alone. Raises InvalidArgument.
    """
    warnings = _memory(host, support, update=update)
    warnings += _memory_extras(host, support)
    if host.pids_limit is not None and not support.pids:
        if host.pids_limit > 0:
            warnings.append(
                f"Your kernel does not support PIDs limit capabilities {_NOT_MOUNTED}. PIDs limit discarded."
            )
        host.pids_limit = None
    warnings += _cpu(host, support, cpu_count or os.cpu_count() or 1)
    warnings += _realtime(host, support)
    warnings += _cpuset(host, support)
    return warnings + _block_io(host, support)


def _memory(host: HostConfig, support: LimitSupport, *, update: bool) -> list[str]:
    warnings = []
    if host.memory and host.memory < MIN_MEMORY:
        raise InvalidArgument("Minimum memory limit allowed is 6MB", code="memory-too-small")
    if host.memory > 0 and not support.memory:
        warnings.append(f"Your kernel does not support memory limit capabilities {_NOT_MOUNTED}. Limitation discarded.")
        host.memory, host.memory_swap = 0, -1
    if host.memory > 0 and host.memory_swap != -1 and not support.swap:
        warnings.append(
            f"Your kernel does not support swap limit capabilities {_NOT_MOUNTED}. Memory limited without swap."
        )
        host.memory_swap = -1
    if 0 < host.memory_swap < host.memory:
        raise InvalidArgument("Minimum memoryswap limit should be larger than memory limit, see usage")
    if host.memory == 0 and host.memory_swap > 0 and not update:
        raise InvalidArgument("You should always set the Memory limit when using Memoryswap limit, see usage")
    return warnings


def _memory_extras(host: HostConfig, support: LimitSupport) -> list[str]:
    warnings = []
    if host.memory_swappiness == -1:
        host.memory_swappiness = None
    if host.memory_swappiness is not None and not support.swappiness:
        warnings.append(
            f"Your kernel does not support memory swappiness capabilities {_NOT_MOUNTED}. Memory swappiness discarded."
        )
        host.memory_swappiness = None
    if host.memory_swappiness is not None and not 0 <= host.memory_swappiness <= 100:
        raise InvalidArgument(f"Invalid value: {host.memory_swappiness}, valid memory swappiness range is 0-100")
    if host.memory_reservation > 0 and not support.reservation:
        warnings.append(
            f"Your kernel does not support memory soft limit capabilities {_NOT_MOUNTED}. Limitation discarded."
        )
        host.memory_reservation = 0
    if 0 < host.memory_reservation < MIN_MEMORY:
        raise InvalidArgument("Minimum memory reservation allowed is 6MB")
    if 0 < host.memory < host.memory_reservation:
        raise InvalidArgument("Minimum memory limit can not be less than memory reservation limit, see usage")
    if host.oom_kill_disable is not None and not support.oom_kill_disable:
        if host.oom_kill_disable:
            warnings.append("Your kernel does not support OomKillDisable. OomKillDisable discarded.")
        host.oom_kill_disable = None
    if host.oom_kill_disable and host.memory == 0:
        warnings.append(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system "
            "running out of resources."
        )
    return warnings


def _cpu(host: HostConfig, support: LimitSupport, cpu_count: int) -> list[str]:
    warnings = []
    if host.nano_cpus > 0 and host.cpu_period > 0:
        raise InvalidArgument("Conflicting options: Nano CPUs and CPU Period cannot both be set")
    if host.nano_cpus > 0 and host.cpu_quota > 0:
        raise InvalidArgument("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
    if host.nano_cpus > 0 and not support.cpu_quota:
        raise InvalidArgument(
            "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted"
        )
    if not 0 <= host.nano_cpus <= cpu_count * 1_000_000_000:
        raise InvalidArgument(
            f"range of CPUs is from 0.01 to {cpu_count}.00, as there are only {cpu_count} CPUs available"
        )
    if host.cpu_shares < 0:
        raise InvalidArgument(f"invalid CPU shares ({host.cpu_shares}): value must be a positive integer")
    if host.cpu_shares > 0 and not support.cpu_shares:
        warnings.append(f"Your kernel does not support CPU shares {_NOT_MOUNTED}. Shares discarded.")
        host.cpu_shares = 0
    if (host.cpu_period or host.cpu_quota) and not support.cpu_quota:
        warnings.append("Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.")
        host.cpu_period = host.cpu_quota = 0
    if host.cpu_period and not 1000 <= host.cpu_period <= 1_000_000:
        raise InvalidArgument("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if 0 < host.cpu_quota < 1000:
        raise InvalidArgument("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    return warnings


def _realtime(host: HostConfig, support: LimitSupport) -> list[str]:
    wanted = host.cpu_realtime_period or host.cpu_realtime_runtime
    if wanted and not support.cpu_realtime:
        raise InvalidArgument("kernel does not support CPU real-time scheduler")
    if host.cpu_realtime_period and host.cpu_realtime_runtime > host.cpu_realtime_period:
        raise InvalidArgument("cpu real-time runtime cannot be higher than cpu real-time period")
    return []


def _cpuset(host: HostConfig, support: LimitSupport) -> list[str]:
    if (host.cpuset_cpus or host.cpuset_mems) and not support.cpuset:
        host.cpuset_cpus = host.cpuset_mems = ""
        return [f"Your kernel does not support cpuset {_NOT_MOUNTED}. Cpuset discarded."]
    for wanted, known, name, what in (
        (host.cpuset_cpus, support.cpus, "cpus", "CPUs"),
        (host.cpuset_mems, support.mems, "mems", "memory nodes"),
    ):
        numbers = parse_number_list(wanted, f"cpuset {name}")
        if known and not numbers <= parse_number_list(known, name):
            raise InvalidArgument(f"Requested {what} are not available - requested {wanted}, available: {known}")
    return []


def parse_number_list(text: str, subject: str) -> set[int]:
    """``0-3,7`` as numbers. Raises InvalidArgument naming ``subject``."""
    numbers: set[int] = set()
    for part in text.split(",") if text else ():
        match = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part, re.ASCII)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise InvalidArgument(f"Invalid value {text} for {subject}: invalid format: {part}")
        if int(match[2] or match[1]) > _LAST_NUMBER:
            raise InvalidArgument(f"Invalid value {text} for {subject}: value of out range, maximum is {_LAST_NUMBER}")
        numbers |= set(range(int(match[1]), int(match[2] or match[1]) + 1))
    return numbers


def _block_io(host: HostConfig, support: LimitSupport) -> list[str]:
    warnings = []
    if host.blkio_weight > 0 and not support.blkio_weight:
        warnings.append(f"Your kernel does not support Block I/O weight {_NOT_MOUNTED}. Weight discarded.")
        host.blkio_weight = 0
    if host.blkio_weight and not 10 <= host.blkio_weight <= 1000:
        raise InvalidArgument("Range of blkio weight is from 10 to 1000")
    if host.blkio_weight_device and not support.blkio_weight_device:
        warnings.append(
            f"Your kernel does not support Block I/O weight_device {_NOT_MOUNTED}. Weight-device discarded."
        )
        host.blkio_weight_device = []
    for member, kind, what, short in _THROTTLES:
        if getattr(host, member) and kind not in support.blkio_throttle:
            warnings.append(
                f"Your kernel does not support {what} limit {_NOT_MOUNTED}. Block I/O {short} limit discarded."
            )
            setattr(host, member, [])
    return warnings


def limited_devices(host: HostConfig) -> Iterable[str]:
    """The paths of all devices that block I/O limits name."""
    for item in host.blkio_weight_device or ():
        yield item.path
    for member, _, _, _ in _THROTTLES:
        for throttle in getattr(host, member) or ():
            yield throttle.path
