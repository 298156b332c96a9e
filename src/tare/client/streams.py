"""The streams of a process: the API's multiplexed frames and connections taken over."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType

from tare.client.http import Response
from tare.client.transport import CHUNK
from tare.errors import InternalError, Unavailable

STDOUT = 1
STDERR = 2
_ENGINE_ERROR = 3
_HEADER = 8  # bytes: stream, three zeros, length as big endian


async def demultiplex(chunks: AsyncIterator[bytes]) -> AsyncIterator[tuple[int, bytes]]:
    """``(stream, data)`` from the API's frames; pieces come as they arrive, not whole frames.

    Raises InternalError for an error that the engine reports within the stream.
    """
    pending = b""
    stream, left = 0, 0
    failure = b""
    async for chunk in chunks:
        pending += chunk
        while pending:
            if left == 0:
                if len(pending) < _HEADER:
                    break
                stream, left = pending[0], int.from_bytes(pending[4:_HEADER], "big")
                pending = pending[_HEADER:]
                continue
            data, pending = pending[:left], pending[left:]
            left -= len(data)
            if stream == _ENGINE_ERROR:
                failure += data
            else:
                yield stream, data
    if failure:
        raise InternalError(f"error from the engine in stream: {failure.decode(errors='replace')}")


class Attached:
    """A connection to a process's streams; iterate for ``(stream, data)``, with a terminal all of it is STDOUT."""

    def __init__(self, response: Response) -> None:
        self._response = response

    async def __aenter__(self) -> Attached:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.close()

    async def output(self, *, tty: bool) -> AsyncIterator[tuple[int, bytes]]:
        """The output until the process has closed both streams; ``tty`` says whether the process has a terminal."""
        if tty:
            async for data in self._chunks():
                yield STDOUT, data
        else:
            async for piece in demultiplex(self._chunks()):
                yield piece

    async def _chunks(self) -> AsyncIterator[bytes]:
        while True:
            try:
                data = await self._response.reader.read(CHUNK)
            except ConnectionError as error:
                raise Unavailable("the connection to the engine was lost") from error
            if not data:
                return
            yield data

    async def write(self, data: bytes) -> None:
        """Send to standard input; waits while the process does not read."""
        self._response.writer.write(data)
        await self._response.writer.drain()

    def close_stdin(self) -> None:
        """End standard input; output goes on."""
        writer = self._response.writer
        if writer.can_write_eof() and not writer.is_closing():
            writer.write_eof()

    def close(self) -> None:
        """Detach; the process goes on."""
        self._response.close()
