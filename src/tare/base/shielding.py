"""Work that cancellation does not cut short: steps that would leave something half-way, and clean-up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import TypeVar

from tare.errors import Exhausted

logger = logging.getLogger(__name__)

T = TypeVar("T")

CLEANUP_SECONDS = 30.0


async def to_end(work: Awaitable[T]) -> T:
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


async def finish(cleanup: Awaitable[object], *, what: str, seconds: float = CLEANUP_SECONDS) -> None:
    """Run ``cleanup`` to its end even when the caller is cancelled, for at most ``seconds``.

    Errors of the clean-up are logged, not raised: the error that led here is the one to report.
    """
    task = asyncio.ensure_future(asyncio.wait_for(_awaited(cleanup), seconds))
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as interruption:
            cancelled = interruption
        except Exhausted as full:  # a full disk is no fault of ours
            logger.warning("clean-up failed: %s: %s", what, full)
        except Exception:
            logger.exception("clean-up failed: %s", what)
    if not task.cancelled() and (error := task.exception()) is not None and cancelled is not None:
        logger.error("clean-up failed: %s", what, exc_info=error)
    if cancelled is not None:
        raise cancelled


async def _awaited(cleanup: Awaitable[object]) -> None:
    await cleanup
