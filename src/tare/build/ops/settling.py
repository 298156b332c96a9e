"""Work on threads that cancellation must not leave behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def settled(work: Awaitable[T]) -> T:
    """Await ``work`` to its end even when the caller is cancelled, which then is cancelled all the same.

    A thread cannot be stopped: what it mounts or writes after its caller has cleaned up would stay behind.
    """
    task = asyncio.ensure_future(work)
    interruption: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as cancelled:
            interruption = cancelled
    if interruption is not None:
        if not task.cancelled():
            task.exception()  # the cancellation is what counts
        raise interruption
    return task.result()
