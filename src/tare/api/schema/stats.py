"""Resource usage as the API gives it: ContainerStatsResponse."""

from __future__ import annotations

from typing import Any

from tare.api.wording import ZERO_TIME
from tare.engine.stats import Sample
from tare.kernel.cgroup_stats import CgroupUsage, CpuUsage
from tare.runtime.supervisor import rfc3339

_IO = (
    "io_service_bytes", "io_serviced", "io_queue", "io_service_time", "io_wait_time", "io_merged", "io_time", "sectors",
)  # fmt: skip
_INTERFACE = (
    "rx_bytes", "rx_packets", "rx_errors", "rx_dropped", "tx_bytes", "tx_packets", "tx_errors", "tx_dropped",
)  # fmt: skip


def render_stats(sample: Sample, before: Sample | None = None) -> dict[str, Any]:
    """The document of ``sample``; ``before`` is the one that CPU use is reckoned from."""
    usage = sample.usage
    document: dict[str, Any] = {
        "name": f"/{sample.name}",
        "id": sample.id,
        "read": _moment(sample),
        "preread": _moment(before),
        "pids_stats": _pids(usage),
        "blkio_stats": {f"{kind}_recursive": _io(usage, kind) for kind in _IO},
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": _cpu(usage.cpu if usage else None),
        "precpu_stats": _cpu(before.usage.cpu if before and before.usage else None),
        "memory_stats": _memory(usage),
    }
    if usage is not None and sample.interfaces is not None:
        networks = {name: dict(zip(_INTERFACE, numbers, strict=True)) for name, numbers in sample.interfaces.items()}
        if networks:
            document["networks"] = networks
    return document


def _moment(sample: Sample | None) -> str:
    return rfc3339(sample.read_ns) if sample is not None and sample.read_ns else ZERO_TIME


def _pids(usage: CgroupUsage | None) -> dict[str, int]:
    pairs = (("current", usage.pids), ("limit", usage.pids_limit)) if usage else ()
    return {name: value for name, value in pairs if value}


def _io(usage: CgroupUsage | None, kind: str) -> list[dict[str, Any]] | None:
    if usage is None or kind not in usage.io:
        return None
    return [
        {"major": entry.major, "minor": entry.minor, "op": entry.operation, "value": entry.value}
        for entry in usage.io[kind]
    ]


def _cpu(cpu: CpuUsage | None) -> dict[str, Any]:
    used = cpu or CpuUsage()
    usage: dict[str, Any] = {"total_usage": used.total}
    if used.per_cpu:
        usage["percpu_usage"] = list(used.per_cpu)
    usage |= {"usage_in_kernelmode": used.kernel, "usage_in_usermode": used.user}
    document: dict[str, Any] = {"cpu_usage": usage}
    if cpu is not None:
        document |= {"system_cpu_usage": cpu.system, "online_cpus": cpu.online}
    document["throttling_data"] = {
        "periods": used.periods,
        "throttled_periods": used.throttled_periods,
        "throttled_time": used.throttled_time,
    }
    return document


def _memory(usage: CgroupUsage | None) -> dict[str, Any]:
    if usage is None:
        return {}
    memory = usage.memory
    document: dict[str, Any] = {"usage": memory.usage}
    if memory.max_usage:
        document["max_usage"] = memory.max_usage
    document["stats"] = memory.stats
    if memory.failures:
        document["failcnt"] = memory.failures
    document["limit"] = memory.limit
    return document
