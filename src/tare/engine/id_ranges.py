"""Which ids of the host a container of ``--userns auto`` has to itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from tare.engine.option_checks import userns_size
from tare.engine.records import ContainerRecords
from tare.errors import Exhausted
from tare.model.container import HostConfig, IdRange

DEFAULT_FIRST = 0x7000_0000
DEFAULT_COUNT = 0x0FFE_0000
"""Ids below 2³¹ that neither systemd's dynamic users and containers nor /etc/subuid take by default: 4094 of 65536."""


class IdRanges:
    """Gives ranges out of a pool; what is given is in the containers' documents, and nowhere else."""

    def __init__(self, records: ContainerRecords, *, first: int = DEFAULT_FIRST, count: int = DEFAULT_COUNT) -> None:
        self._records = records
        self._first = first
        self._count = count
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def reserve(self, host: HostConfig) -> AsyncIterator[IdRange | None]:
        """A range that no container has, None without ``--userns auto``; store it before the block ends.

        Raises Exhausted when the pool has no gap that is large enough.
        """
        if host.userns_mode in ("", "host"):
            yield None
            return
        size = userns_size(host.userns_mode)
        async with self._lock:
            taken = [container.ids for container in await self._records.list() if container.ids is not None]
            yield find_gap(taken, size, first=self._first, count=self._count)


def find_gap(taken: Iterable[IdRange], size: int, *, first: int, count: int) -> IdRange:
    """The lowest ``size`` ids of the pool that none of ``taken`` has. Raises Exhausted. Pure."""
    candidate = first
    for given in sorted(taken, key=lambda ids: ids.first):
        if candidate + size <= given.first:
            break
        candidate = max(candidate, given.first + given.size)
    if candidate + size > first + count:
        raise Exhausted(
            f"no {size} ids in a row are free for --userns auto: the pool is {first} to {first + count - 1}",
            hint="remove containers, ask for fewer with auto:size=N, or enlarge [userns] in the configuration",
            code="no-ids",
        )
    return IdRange(first=candidate, size=size)
