"""Operations that end with the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from tare.errors import Unavailable

T = TypeVar("T")


class Running:
    """What runs for clients and must have ended before the store is closed."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing = False

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Its result. A caller that is cancelled waits for its end. Raises Unavailable when the engine stops."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.exception()  # that nobody waits any more is what counts
            if self._closing:
                raise Unavailable("the engine is stopping", hint="try again when it runs") from None
            raise

    async def close(self) -> None:
        """Cancel everything and wait for its end."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
