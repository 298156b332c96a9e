"""Work in threads that leaves nothing behind when its caller is cancelled."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

from tare.errors import TareError

T = TypeVar("T")


class Aborted(TareError):
    """The caller of the work is gone; never seen outside this package."""


class Abort:
    """Tells a thread that its result is no longer wanted."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Ask the work to end."""
        self._event.set()

    def check(self) -> None:
        """Raise Aborted when the work shall end; call it between chunks."""
        if self._event.is_set():
            raise Aborted("the caller was cancelled")


async def run_undoable(work: Callable[[Abort], T], undo: Callable[[T], object]) -> T:
    """Run ``work`` in a thread. When the caller is cancelled meanwhile, wait until it has ended and undo its result.

    ``work`` should call :meth:`Abort.check` often enough that this wait is short.
    """
    abort = Abort()
    task = asyncio.ensure_future(asyncio.to_thread(work, abort))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        abort.set()
        await _settle(task)
        if not task.cancelled() and task.exception() is None:
            await _settle(asyncio.ensure_future(asyncio.to_thread(undo, task.result())))
        raise


async def _settle(task: asyncio.Future[T]) -> None:
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            continue  # the first cancellation is raised in the end
