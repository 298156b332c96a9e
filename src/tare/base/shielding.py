"""Clean-up that cancellation does not cut short."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable

logger = logging.getLogger(__name__)

CLEANUP_SECONDS = 30.0


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
        except Exception:
            logger.exception("clean-up failed: %s", what)
    if not task.cancelled() and (error := task.exception()) is not None and cancelled is not None:
        logger.error("clean-up failed: %s", what, exc_info=error)
    if cancelled is not None:
        raise cancelled


async def _awaited(cleanup: Awaitable[object]) -> None:
    await cleanup
