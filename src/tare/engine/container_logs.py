"""The output of containers: what they have written, and connections to their streams."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing

from tare.base.locks import KeyedLocks
from tare.engine.clock import to_nanoseconds
from tare.engine.live import ContainerAttachment, LiveContainers
from tare.engine.log_keeping import LogKeeping
from tare.engine.records import ContainerRecords
from tare.engine.requests import AttachRequest, Exit, LogRequest
from tare.errors import Conflict, InvalidArgument, NotFound, Unsupported
from tare.model import ContainerStatus
from tare.model.container import Container
from tare.runtime.logs import LogBatch, LogQuery, log_time
from tare.runtime.supervisor import Supervisor


class ContainerLogs:
    """Reads logs and attaches to streams."""

    def __init__(
        self,
        *,
        records: ContainerRecords,
        live: LiveContainers,
        supervisor: Supervisor,
        keeping: LogKeeping,
        locks: KeyedLocks,
        wait: Callable[[str, str], Awaitable[Exit]],
        emit: Callable[[Container, str], None],
    ) -> None:
        self._records = records
        self._live = live
        self._supervisor = supervisor
        self._keeping = keeping
        self._locks = locks
        self._wait = wait
        self._emit = emit

    async def attach(self, reference: str, request: AttachRequest) -> ContainerAttachment:
        """Connect to the streams; a container that has not started may be attached to in advance.

        Raises Conflict when it is paused or restarting.
        """
        container = await self._records.get(reference)
        status = ContainerStatus(container.state.status)
        if status is ContainerStatus.PAUSED:
            raise Conflict(f"container {container.id} is paused, unpause the container before attach")
        if status is ContainerStatus.RESTARTING:
            raise Conflict(f"container {container.id} is restarting, wait until the container is running")
        attachment = ContainerAttachment(request)
        async with self._locks.hold(container.id):
            container = await self._records.get(container.id)
            if not (request.stream and (request.stdin or request.stdout or request.stderr)):
                attachment.give_up()
            elif ContainerStatus(container.state.status).is_live:
                attachment.begin(await self._supervisor.attach(container.id))
            else:
                self._live.of(container.id).attachments.append(attachment)
            self._emit(container, "attach")
        return attachment

    def detached(self, container: Container) -> None:
        """A client has left by its detach keys."""
        self._emit(container, "detach")

    async def logs(self, reference: str, request: LogRequest) -> AsyncIterator[LogBatch]:
        """The container's log, line by line. Raises NotFound, Unsupported for the log driver ``none``."""
        container = await self._records.get(reference)
        if container.host_config.log_config.type == "none":
            raise Unsupported("configured logging driver does not support reading")
        query = LogQuery(
            streams=frozenset(number for number, wanted in ((1, request.stdout), (2, request.stderr)) if wanted),
            since=_moment(request.since),
            until=_moment(request.until),
            tail=request.tail if request.tail >= 0 else None,
        )
        done = asyncio.Event()
        follow = request.follow and ContainerStatus(container.state.status).is_live
        watcher = asyncio.create_task(self._set_when_ended(container.id, done)) if follow else None
        try:
            async with aclosing(self._keeping.read(container, query, done if follow else None)) as batches:
                async for lines in batches:
                    yield lines
        finally:
            if watcher is not None:
                watcher.cancel()

    async def _set_when_ended(self, container_id: str, done: asyncio.Event) -> None:
        with contextlib.suppress(NotFound):
            await self._wait(container_id, "not-running")
        done.set()


def _moment(text: str) -> bytes:
    if not text or text == "0":
        return b""
    try:
        return log_time(to_nanoseconds(text))
    except ValueError as error:
        raise InvalidArgument(f"invalid time {text!r}", hint="use RFC 3339 or seconds since the epoch") from error
