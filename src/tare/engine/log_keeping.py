"""Which containers' logs are rotated, and how: the log driver's options meet the run-time room's keeper."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from tare.engine.paths import EnginePaths
from tare.errors import InvalidArgument
from tare.model.container import Container
from tare.runtime.journal import read_journal
from tare.runtime.log_options import FILE_DRIVERS, rotation_of
from tare.runtime.log_rotation import LogKeeper
from tare.runtime.logs import LogBatch, LogQuery, read_logs
from tare.runtime.supervisor import Supervisor

logger = logging.getLogger(__name__)


class LogKeeping:
    """The logs of this engine's containers."""

    def __init__(self, keeper: LogKeeper, supervisor: Supervisor, paths: EnginePaths) -> None:
        self._keeper = keeper
        self._supervisor = supervisor
        self._paths = paths

    def begin(self, container: Container) -> None:
        """The container runs (or is found running): keep its log within its options from now on."""
        config = container.host_config.log_config
        if config.type not in FILE_DRIVERS:
            return
        try:
            rotation = rotation_of(config.type, config.config or {})
        except InvalidArgument as error:  # stored by an engine that did not look at the options
            logger.warning("the log of container %s is not rotated: %s", container.name, error)
            return
        self._keeper.watch(self._paths.log(container.id), self._supervisor.directory(container.id), rotation)

    async def end(self, container_id: str) -> None:
        """The container's supervisor has ended."""
        await self._keeper.unwatch(self._paths.log(container_id))

    async def read(
        self, container: Container, query: LogQuery, done: asyncio.Event | None = None
    ) -> AsyncGenerator[LogBatch, None]:
        """The container's log from where its driver keeps it; with ``done``, it is followed until that is set."""
        if container.host_config.log_config.type == "journald":
            async with aclosing(read_journal(container.id, query, done)) as batches:
                async for lines in batches:
                    yield lines
            return
        with await self._keeper.open(self._paths.log(container.id), follow=done is not None) as reading:
            async for lines in read_logs(reading, query, done):
                yield lines

    async def close(self) -> None:
        """Let go of all logs."""
        await self._keeper.close()
