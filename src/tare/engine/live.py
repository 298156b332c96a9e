"""What exists only while the engine runs: who waits for a container, who is attached to one that has not started."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from tare.engine.requests import AttachRequest, Exit
from tare.runtime.attach import AttachSession

WAIT_CONDITIONS = ("not-running", "next-exit", "removed")


class ContainerAttachment:
    """An attachment that may be made before its container starts.

    Output is asked for from the moment the process exists, so not a byte is lost. When the container never starts, the
    iteration ends without output.
    """

    def __init__(self, request: AttachRequest) -> None:
        self._request = request
        self._session: asyncio.Future[AttachSession | None] = asyncio.get_running_loop().create_future()
        self._closed = False

    def begin(self, session: AttachSession) -> None:
        """The container's streams exist now."""
        if not self._session.done():
            self._session.set_result(session)

    def give_up(self) -> None:
        """The container did not start."""
        if not self._session.done():
            self._session.set_result(None)

    @property
    def is_closed(self) -> bool:
        """Whether the client has gone."""
        return self._closed

    async def __aiter__(self) -> AsyncIterator[tuple[int, bytes]]:
        """Output of the streams that were asked for."""
        session = await asyncio.shield(self._session)
        if session is None:
            return
        wanted = {number for number, asked in ((1, self._request.stdout), (2, self._request.stderr)) if asked}
        async for stream, data in session:
            if stream in wanted:
                yield stream, data

    async def write(self, data: bytes) -> None:
        """Send to standard input; waits until the container has started."""
        session = await asyncio.shield(self._session)
        if session is not None and self._request.stdin:
            await session.write(data)

    async def close_stdin(self) -> None:
        """Send end of file, once the container has started."""
        session = await asyncio.shield(self._session)
        if session is not None and self._request.stdin:
            await session.close_stdin()

    def close(self) -> None:
        """Detach; idempotent."""
        self._closed = True
        if not self._session.done():
            self._session.set_result(None)
            return
        session = self._session.result()
        if session is not None:
            session.close()


@dataclass(slots=True)
class Live:
    """The engine's memory of one container."""

    attachments: list[ContainerAttachment] = field(default_factory=list)
    waiters: list[tuple[str, asyncio.Future[Exit]]] = field(default_factory=list)
    monitor: asyncio.Task[None] | None = None
    exited: asyncio.Event = field(default_factory=asyncio.Event)
    restarting: asyncio.TimerHandle | None = None
    restart_asked: bool = False
    end_announced: bool = False
    out_of_memory: bool = False  # in this run
    unstored_end: Exit | None = None  # it has ended, and the disk is too full to store that


class LiveContainers:
    """The memory of all containers, by id."""

    def __init__(self) -> None:
        self._entries: dict[str, Live] = {}

    def of(self, container_id: str) -> Live:
        """The entry of a container, made when there is none."""
        return self._entries.setdefault(container_id, Live())

    def forget(self, container_id: str) -> None:
        """Drop a removed container's entry."""
        self._entries.pop(container_id, None)

    def all(self) -> list[Live]:
        """Every entry."""
        return list(self._entries.values())

    def add_waiter(self, container_id: str, condition: str) -> asyncio.Future[Exit]:
        """A future that ends when ``condition`` comes true."""
        future: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self.of(container_id).waiters.append((condition, future))
        return future

    def wake(self, container_id: str, conditions: set[str], outcome: Exit) -> None:
        """End the waits for ``conditions``."""
        live = self._entries.get(container_id)
        if live is None:
            return
        for condition, future in live.waiters:
            if condition in conditions and not future.done():
                future.set_result(outcome)
        live.waiters = [(condition, future) for condition, future in live.waiters if not future.done()]
