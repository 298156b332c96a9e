"""Run an operation once however many callers ask for it at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Callers with one key share one running operation and its result or error.

    A caller that is cancelled leaves the operation running for the others; when the last one has left, the operation
    is cancelled too, and has ended when that caller goes on: nothing is under way behind its back.
    """

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[T]] = {}
        self._waiters: dict[str, int] = {}

    async def do(self, key: str, operation: Callable[[], Awaitable[T]]) -> T:
        """The result of ``operation()``, started only if none for ``key`` is running."""
        task = self._tasks.get(key)
        if task is None:
            task = asyncio.ensure_future(operation())
            assert task is not None
            self._tasks[key] = task
            self._waiters[key] = 0
            task.add_done_callback(lambda done: self._forget(key, done))
        self._waiters[key] += 1
        try:
            return await asyncio.shield(task)
        finally:
            if self._tasks.get(key) is task:
                self._waiters[key] -= 1
                if not self._waiters[key] and not task.done():
                    # Forgotten at once: whoever asks while it is dying starts a new one.
                    del self._tasks[key], self._waiters[key]
                    task.cancel()
                    await asyncio.wait([task])

    def _forget(self, key: str, task: asyncio.Task[T]) -> None:
        if self._tasks.get(key) is task:
            del self._tasks[key], self._waiters[key]
        if not task.cancelled():
            task.exception()  # retrieved here, so that an operation whose callers all left warns nobody
