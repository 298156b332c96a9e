"""The streams of a process: the API's multiplexed frames and connections taken over."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from types import TracebackType

from tare.client.http import Response
from tare.client.transport import CHUNK
from tare.errors import InternalError, Unavailable

STDOUT = 1
STDERR = 2
_ENGINE_ERROR = 3
_HEADER = struct.Struct(">BxxxL")  # stream, three zeros, length


class _Frames:
    """Takes the API's frames apart. Pure: feed bytes, take pieces."""

    def __init__(self) -> None:
        self._head = b""  # of a frame, not complete yet
        self._stream = 0
        self._left = 0  # bytes of the frame that are still to come

    def feed(self, chunk: bytes) -> list[tuple[int, bytes]]:
        """What ``chunk`` has brought, in order; frames of one stream that follow each other are one piece.

        A log has a frame per line: of a gigabyte that is millions.
        """
        data = self._head + chunk if self._head else chunk
        stream, left, place, end = self._stream, self._left, 0, len(data)
        pieces: list[tuple[int, bytes]] = []
        parts: list[bytes] = []
        while place < end:
            if left:
                stop = min(place + left, end)
                parts.append(data[place:stop])
                left -= stop - place
                place = stop
                continue
            if end - place < _HEADER.size:
                break
            before = stream
            stream, left = _HEADER.unpack_from(data, place)
            place += _HEADER.size
            if stream != before and parts:
                pieces.append((before, b"".join(parts)))
                parts = []
        if parts:
            pieces.append((stream, b"".join(parts)))
        self._head, self._stream, self._left = data[place:], stream, left
        return pieces


async def demultiplex(chunks: AsyncIterator[bytes]) -> AsyncIterator[tuple[int, bytes]]:
    """``(stream, data)`` from the API's frames; pieces come as they arrive, not whole frames.

    Raises InternalError for an error that the engine reports within the stream.
    """
    frames = _Frames()
    failure = b""
    async for chunk in chunks:
        for stream, data in frames.feed(chunk):
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
