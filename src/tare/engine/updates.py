"""``update``: other limits and another restart policy for a container that exists, with Docker's checks."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from tare.base.locks import KeyedLocks
from tare.engine.lifecycle import Lifecycle
from tare.engine.records import ContainerRecords
from tare.engine.resource_limits import MIN_MEMORY
from tare.engine.restarts import check_policy
from tare.errors import Conflict, InvalidArgument, TareError
from tare.kernel.cgroups import CgroupLayout
from tare.model import ContainerStatus
from tare.model.container import Container, HostConfig
from tare.runtime.oci_runtime import OciRuntime

CPU_PERIOD = 100_000  # microseconds; what a number of CPUs is given in
_SPAN = re.compile(r"(\d+)(?:-(\d+))?", re.ASCII)
_FIELDS = (
    "cpu_shares", "nano_cpus", "cpu_period", "cpu_quota", "cpuset_cpus", "cpuset_mems", "cpu_realtime_period",
    "cpu_realtime_runtime", "memory", "memory_swap", "memory_reservation", "blkio_weight",
)  # fmt: skip


class Updates:
    """Changes containers' limits, of running ones at once."""

    def __init__(
        self,
        *,
        records: ContainerRecords,
        runtime: OciRuntime,
        lifecycle: Lifecycle,
        locks: KeyedLocks,
        cgroups: CgroupLayout,
    ) -> None:
        self._records = records
        self._runtime = runtime
        self._lifecycle = lifecycle
        self._locks = locks
        self._cgroups = cgroups

    async def update(self, reference: str, asked: HostConfig) -> list[str]:
        """Apply the limits of ``asked`` that are set, and its restart policy; returns warnings.

        All or nothing: what the kernel refuses is not stored. Raises NotFound, InvalidArgument, Conflict.
        """
        container = await self._records.get(reference)
        asked = msgspec.structs.replace(asked)
        warnings = await asyncio.to_thread(check_limits, asked, self._cgroups)
        check_policy(asked.restart_policy)
        async with self._locks.hold(container.id):
            container = await self._records.get(container.id)
            _refuse_conflicts(container, asked)
            resources = runtime_resources(asked)
            if resources and ContainerStatus(container.state.status).is_live:
                try:
                    await self._runtime.update(container.id, resources)
                except TareError as error:
                    cause = error.message.rpartition(f"{container.id}: ")[2]
                    text = f"{self._runtime.name} did not terminate successfully: exit status 1: {cause}"
                    raise InvalidArgument(_cannot(container, text), code="update-refused") from error

            def changed(document: Container) -> None:
                _apply(document.host_config, asked)

            updated = await self._records.update(container.id, changed, durable=True)
        self._lifecycle.emit(updated, "update")
        return warnings


def check_limits(asked: HostConfig, cgroups: CgroupLayout) -> list[str]:
    """Check limits by themselves, as Docker does; what the host cannot do is taken out, with a warning returned.

    Raises InvalidArgument.
    """
    warnings = []
    if 0 < asked.memory < MIN_MEMORY:
        raise InvalidArgument("Minimum memory limit allowed is 6MB")
    if asked.memory > 0 and 0 < asked.memory_swap < asked.memory:
        raise InvalidArgument("Minimum memoryswap limit should be larger than memory limit, see usage")
    if 0 < asked.memory_reservation < MIN_MEMORY:
        raise InvalidArgument("Minimum memory reservation allowed is 6MB")
    if asked.memory > 0 and asked.memory < asked.memory_reservation:
        raise InvalidArgument("Minimum memory limit can not be less than memory reservation limit, see usage")
    _check_cpu(asked)
    for name, what in (("cpus", "CPUs"), ("mems", "memory nodes")):
        _check_set(getattr(asked, f"cpuset_{name}"), name, what, cgroups)
    if asked.blkio_weight and not _has_weight(cgroups):
        warnings.append("Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.")
        asked.blkio_weight = 0
    if asked.blkio_weight and not 10 <= asked.blkio_weight <= 1000:
        raise InvalidArgument("Range of blkio weight is from 10 to 1000")
    return warnings


def _check_cpu(asked: HostConfig) -> None:
    if asked.nano_cpus and asked.cpu_period:
        raise InvalidArgument("Conflicting options: Nano CPUs and CPU Period cannot both be set")
    if asked.nano_cpus and asked.cpu_quota:
        raise InvalidArgument("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
    there = os.cpu_count() or 1
    if asked.nano_cpus and not 10_000_000 <= asked.nano_cpus <= there * 1_000_000_000:
        raise InvalidArgument(f"range of CPUs is from 0.01 to {there}.00, as there are only {there} CPUs available")
    if asked.cpu_period and not 1000 <= asked.cpu_period <= 1_000_000:
        raise InvalidArgument("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if 0 < asked.cpu_quota < 1000:
        raise InvalidArgument("CPU cfs quota can not be less than 1ms (i.e. 1000)")


def _check_set(wanted: str, name: str, what: str, cgroups: CgroupLayout) -> None:
    if not wanted:
        return
    numbers = parse_set(wanted)
    if numbers is None:
        raise InvalidArgument(f"Invalid value {wanted} for cpuset {name}: invalid format: {wanted}")
    directory = cgroups.controller_directory("cpuset", "/")
    for file in (f"cpuset.{name}", f"cpuset.{name}.effective"):
        place = directory / file if directory is not None else None
        if place is None or not place.exists():
            continue
        available = place.read_text().strip()
        if numbers - (parse_set(available) or numbers):
            raise InvalidArgument(f"Requested {what} are not available - requested {wanted}, available: {available}")


def parse_set(text: str) -> set[int] | None:
    """``0-2,7`` as numbers (cpuset(7), list format); None for what is none."""
    numbers: set[int] = set()
    for part in text.split(","):
        match = _SPAN.fullmatch(part.strip())
        if match is None or int(match[2] or match[1]) < int(match[1]) or int(match[2] or match[1]) > 1 << 16:
            return None
        numbers.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return numbers


def _has_weight(cgroups: CgroupLayout) -> bool:
    if "blkio" in cgroups.v1:
        return any((cgroups.v1["blkio"] / f"blkio.{name}").exists() for name in ("weight", "bfq.weight"))
    return "io" in cgroups.controllers


def _refuse_conflicts(container: Container, asked: HostConfig) -> None:
    has = container.host_config
    pairs = (
        (asked.nano_cpus > 0 and has.cpu_period > 0, "Nano CPUs cannot be updated as CPU Period has already been set"),
        (asked.nano_cpus > 0 and has.cpu_quota > 0, "Nano CPUs cannot be updated as CPU Quota has already been set"),
        (asked.cpu_period > 0 and has.nano_cpus > 0, "CPU Period cannot be updated as NanoCPUs has already been set"),
        (asked.cpu_quota > 0 and has.nano_cpus > 0, "CPU Quota cannot be updated as NanoCPUs has already been set"),
    )
    for wrong, text in pairs:
        if wrong:
            raise Conflict(_cannot(container, f"Conflicting options: {text}"), code="options-conflict")
    swap = has.memory_swap or has.memory * 2  # what Docker takes where only memory is limited
    if asked.memory and asked.memory > swap >= 0 and not asked.memory_swap:
        raise Conflict(
            _cannot(
                container,
                "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the "
                "same time",
            ),
            code="options-conflict",
        )
    if has.auto_remove and asked.restart_policy.name not in ("", "no"):
        raise Conflict(
            _cannot(container, "Restart policy cannot be updated because AutoRemove is enabled for the container"),
            code="options-conflict",
        )


def _cannot(container: Container, cause: str) -> str:
    return f"Cannot update container {container.id}: {cause}"


def runtime_resources(asked: HostConfig) -> dict[str, Any]:
    """The runtime-spec ``resources`` for what is set in ``asked``; empty when there is nothing to apply."""
    period, quota = asked.cpu_period, asked.cpu_quota
    if asked.nano_cpus:
        period, quota = CPU_PERIOD, asked.nano_cpus * CPU_PERIOD // 1_000_000_000
    pids = asked.pids_limit
    sections: Sequence[tuple[str, dict[str, Any]]] = (
        (
            "memory",
            {"limit": asked.memory, "reservation": asked.memory_reservation, "swap": asked.memory_swap},
        ),
        (
            "cpu",
            {
                "shares": asked.cpu_shares,
                "period": period,
                "quota": quota,
                "cpus": asked.cpuset_cpus,
                "mems": asked.cpuset_mems,
                "realtimePeriod": asked.cpu_realtime_period,
                "realtimeRuntime": asked.cpu_realtime_runtime,
            },
        ),
        ("blockIO", {"weight": asked.blkio_weight}),
        ("pids", {"limit": (pids if pids > 0 else -1) if pids is not None else 0}),
    )
    found = {name: {key: value for key, value in values.items() if value} for name, values in sections}
    return {name: values for name, values in found.items() if values}


def _apply(host: HostConfig, asked: HostConfig) -> None:
    for name in _FIELDS:
        if value := getattr(asked, name):
            setattr(host, name, value)
    if asked.pids_limit is not None:
        host.pids_limit = max(asked.pids_limit, 0)
    if asked.restart_policy.name:
        host.restart_policy = asked.restart_policy
