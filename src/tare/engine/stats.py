"""What containers use: CPU, memory, network, disk, processes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from tare.engine.paths import EnginePaths
from tare.engine.records import ContainerRecords
from tare.errors import NotFound
from tare.kernel.cgroup_stats import CgroupUsage, read_interfaces, read_usage
from tare.kernel.cgroups import CgroupLayout
from tare.model import ContainerStatus
from tare.model.container import Container

INTERVAL = 1.0  # seconds between two samples, Docker's


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One look at a container; ``read_ns`` in nanoseconds since the epoch, 0 and no ``usage`` while it does not run.

    ``interfaces``: see :func:`tare.kernel.cgroup_stats.read_interfaces`; None with the host's network.
    """

    id: str
    name: str
    read_ns: int = 0
    usage: CgroupUsage | None = None
    interfaces: dict[str, tuple[int, ...]] | None = field(default=None)


class Stats:
    """Samples of containers."""

    def __init__(self, *, records: ContainerRecords, cgroups: CgroupLayout, paths: EnginePaths) -> None:
        self._records = records
        self._cgroups = cgroups
        self._paths = paths

    async def once(self, reference: str) -> Sample:
        """A sample of now. Raises NotFound."""
        container = await self._records.get(reference)
        if not ContainerStatus(container.state.status).is_live:
            return Sample(id=container.id, name=container.name)
        return await asyncio.to_thread(self._look, container)

    async def stream(self, reference: str) -> AsyncGenerator[Sample, None]:
        """A sample at once and then one each second until the container is removed. Raises NotFound."""
        sample = await self.once(reference)
        while True:
            yield sample
            await asyncio.sleep(INTERVAL)
            try:
                sample = await self.once(sample.id)
            except NotFound:
                return

    def _look(self, container: Container) -> Sample:
        host = container.host_config
        path = f"{host.cgroup_parent or self._paths.cgroup_parent}/{container.id}"
        shared = host.network_mode == "host"
        return Sample(
            id=container.id,
            name=container.name,
            read_ns=time.time_ns(),
            usage=read_usage(self._cgroups, path),
            interfaces=None if shared else read_interfaces(container.state.pid),
        )
