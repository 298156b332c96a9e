"""Blobs as answers: whole or in part, straight from the file."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from tare.errors import DataCorrupt
from tare.model import Digest

CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True)
class Blob:
    """A file to be sent."""

    path: Path
    digest: Digest


async def file_response(request: web.BaseRequest, blob: Blob) -> web.StreamResponse:
    """The answer to a request for ``blob``: to be prepared, which sends it. Raises DataCorrupt for one that is gone."""
    try:
        size = (await asyncio.to_thread(blob.path.stat)).st_size
    except FileNotFoundError as error:
        hint = "get the image again at the engine; tare fsck tells what is damaged"
        raise DataCorrupt(f"{blob.digest}: its file is missing", hint=hint) from error
    headers = {"Docker-Content-Digest": str(blob.digest), "Content-Type": "application/octet-stream"}
    return _Streamed(blob.path, size, headers) if request.secure else _Sent(blob.path, headers=headers)


class _Sent(web.FileResponse):
    """By sendfile(2), once: aiohttp prepares every response again, and this one would start over."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None if self.prepared else await super().prepare(request)


class _Streamed(web.StreamResponse):
    """Piece by piece, for TLS: asyncio's sendfile does not notice there that a connection is lost.

    It writes the rest of the file into nothing then, with a warning for each piece.
    """

    def __init__(self, path: Path, size: int, headers: dict[str, str]) -> None:
        super().__init__(headers={**headers, "Accept-Ranges": "bytes"})
        self._path = path
        self._size = size

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        if self.prepared:
            return None
        start, stop = 0, self._size
        if "Range" in request.headers:
            start, stop = _range(request, self._size)
            if start >= stop:
                self.set_status(416)
                self.headers["Content-Range"] = f"bytes */{self._size}"
                self.content_length = 0
                return await super().prepare(request)
            self.set_status(206)
            self.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{self._size}"
        self.content_length = stop - start
        writer = await super().prepare(request)
        if request.method != "HEAD":
            await self._send(start, stop)
        return writer

    async def _send(self, start: int, stop: int) -> None:
        fd = await asyncio.to_thread(os.open, self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while start < stop:
                data = await asyncio.to_thread(os.pread, fd, min(CHUNK, stop - start), start)
                if not data:
                    raise OSError(f"{self._path} has become shorter")
                await self.write(data)
                start += len(data)
        finally:
            os.close(fd)


def _range(request: web.BaseRequest, size: int) -> tuple[int, int]:
    """First byte and the one behind the last; the same for what cannot be satisfied (RFC 9110, 14.1.2)."""
    try:
        wanted = request.http_range
    except ValueError:
        return 0, 0
    start, stop, _ = wanted.indices(size)
    return start, stop
