"""Steps that must not be left half-way: cancellation waits for their end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def to_end(step: Coroutine[Any, Any, T]) -> T:
    """The result of ``step``. When the caller is cancelled the step still ends first, so that it can be undone."""
    task = asyncio.ensure_future(step)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.done():
            await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # retrieved: the cancellation is what the caller hears of
        raise
