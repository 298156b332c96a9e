"""Request bodies for code that reads in a thread."""

from __future__ import annotations

import asyncio

from aiohttp import StreamReader


class UploadReader:
    """A request's body as a blocking reader; only for threads other than the event loop's.

    Nothing is stored in between: while the reader does not read, the client waits. Raises the connection's error when
    the client goes away in the middle.
    """

    def __init__(self, content: StreamReader) -> None:
        self._content = content
        self._loop = asyncio.get_running_loop()

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes, all that follow for -1; empty at the end."""
        return asyncio.run_coroutine_threadsafe(self._content.read(size), self._loop).result()

    def readable(self) -> bool:
        """Part of the raw-stream protocol that decompressors ask for."""
        return True
