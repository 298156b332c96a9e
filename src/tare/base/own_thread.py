"""Work on a thread of its own: it takes no place among the threads that others share, however long it waits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

from tare.base.shielding import to_end

T = TypeVar("T")


async def in_own_thread(function: Callable[[], T], *, name: str) -> T:
    """The result of ``function()``, run on a thread called ``name`` that ends with it.

    Waits for its end even when cancelled. Raises what ``function`` raises.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if error is not None:
            ended.set_exception(error)
        else:
            ended.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        try:
            result = function()
        except BaseException as error:
            loop.call_soon_threadsafe(settle, None, error)
        else:
            loop.call_soon_threadsafe(settle, result, None)

    threading.Thread(target=work, name=name, daemon=True).start()
    return await to_end(ended)
