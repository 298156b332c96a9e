"""The client for programs without an event loop: a loop in a thread of its own runs the same coroutines."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, TypeVar

from tare.client.client import Client

T = TypeVar("T")


class Connection:
    """A client and the loop that it runs on.

    ``connection.run(lambda client: client.containers.list())`` returns the result of a coroutine,
    ``connection.stream(lambda client: client.system.events())`` iterates over what an asynchronous iterator gives.
    """

    def __init__(self, host: str | None = None) -> None:
        self.client = Client(host)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tare-client", daemon=True)
        self._thread.start()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.close()

    def run(self, call: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
        """Run one call to its end and return its result; raises what it raises."""
        return asyncio.run_coroutine_threadsafe(call(self.client), self._loop).result()

    def stream(self, call: Callable[[Client], AsyncIterator[T]]) -> Iterator[T]:
        """Iterate over what ``call`` yields."""
        iterator = call(self.client)

        async def step() -> tuple[bool, T | None]:
            async for value in iterator:
                return True, value
            return False, None

        while True:
            more, value = asyncio.run_coroutine_threadsafe(step(), self._loop).result()
            if not more:
                return
            yield value  # type: ignore[misc]  # a value is there whenever more is true

    def close(self) -> None:
        """End the loop and its thread; idempotent."""
        if self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def connect(host: str | None = None) -> Connection:
    """A connection to the engine at ``host``, see :class:`tare.client.client.Client`."""
    return Connection(host)
