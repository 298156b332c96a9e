"""One blob to one endpoint: in chunks, resumed where the registry remembers them, else from the start again.

Source: distribution-spec 1.1, "Pushing blobs". Up to :data:`CHUNK` bytes go in one PATCH, as Docker sends a blob of any
size: all registries take that. Larger blobs go in several, so that a break costs one; a registry that refuses chunks
gets the whole at once.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, BinaryIO, Protocol
from urllib.parse import quote, urljoin, urlsplit

from tare.errors import DataCorrupt
from tare.model import Digest
from tare.registry.downloads import Progress
from tare.registry.refusals import Refusal
from tare.registry.retrying import Attempts, Interrupted
from tare.registry.session import EndpointSession

if TYPE_CHECKING:
    from aiohttp import ClientResponse

CHUNK = 64 << 20
_READ = 1 << 20
_RANGE = re.compile(r"(?:bytes=)?0-(\d+)")
_CHUNKS_REFUSED = frozenset({400, 405, 411, 413, 416, 501})


class BlobSource(Protocol):
    """A blob that can be read from any place, several times."""

    @property
    def digest(self) -> Digest:
        """The digest of its bytes."""

    @property
    def size(self) -> int:
        """How many bytes it has."""

    def open(self) -> BinaryIO:
        """A seekable stream of them; called and read in threads, closed by whoever opened it."""


class Uploader:
    """Sends ``source`` through ``session``; ``path`` is that of the repository's uploads."""

    def __init__(
        self,
        session: EndpointSession,
        repository: str,
        scope: str,
        source: BlobSource,
        *,
        attempts: Attempts,
        progress: Progress,
        chunk: int = CHUNK,
    ) -> None:
        self._session = session
        self._repository = repository
        self._scope = scope
        self._source = source
        self._attempts = attempts
        self._progress = progress
        self._chunk = chunk
        self._location = ""
        self._offset = 0
        self._best = 0
        self._finishing = False
        self._file: _Positioned | None = None

    async def run(self) -> None:
        """Return when the registry has the blob under its digest.

        Raises Unauthorized, Forbidden and the like in the registry's words, Unavailable when the connection breaks
        again and again, DataCorrupt when the source ends before its size.
        """
        self._file = _Positioned(await asyncio.to_thread(self._source.open))
        try:
            await self._attempts.run(self._once)
        except Refusal as refusal:
            raise refusal.error() from refusal
        finally:
            await asyncio.to_thread(self._file.close)

    async def _once(self) -> None:
        assert self._file is not None
        try:
            if self._location:
                await self._resume()
            if not self._location:
                if self._finishing and await self._is_there():
                    return
                await self._begin()
            while self._offset < self._source.size:
                await self._send_chunk()
            await self._finish()
        except Interrupted:
            if self._file.ended:
                raise DataCorrupt(
                    f"{self._source.digest}: ends before its {self._source.size} bytes", code="blob-truncated"
                ) from None
            raise

    async def _begin(self) -> None:
        self._finishing = False
        path = f"{self._repository}/blobs/uploads/"
        async with self._ask("POST", path, {"Content-Length": "0"}) as response:
            self._location = next_location(response)
            least = response.headers.get("OCI-Chunk-Min-Length", "")
            if least.isascii() and least.isdigit() and self._chunk:
                self._chunk = max(self._chunk, int(least))
        self._move(0)

    async def _resume(self) -> None:
        """Ask what the registry has of the upload; one that it does not know any more begins anew."""
        try:
            async with self._ask("GET", self._location, {}) as response:
                self._location = next_location(response, self._location)
                self._move(_received(response, 0))
        except Refusal as refusal:
            if refusal.status not in (400, 404, 405, 416):
                raise
            self._location = ""

    async def _send_chunk(self) -> None:
        begin = self._offset
        length = min(self._source.size - begin, self._chunk or self._source.size)
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(length)}
        chunked = length < self._source.size
        if chunked:
            headers["Content-Range"] = f"{begin}-{begin + length - 1}"
        try:
            async with self._ask("PATCH", self._location, headers, lambda: self._read(begin, length)) as response:
                self._location = next_location(response, self._location)
                reached = _received(response, begin + length)
        except Refusal as refusal:
            if not chunked or refusal.status not in _CHUNKS_REFUSED:
                raise
            self._chunk, self._location = 0, ""
            raise Interrupted(refusal.error()) from refusal
        end = begin + length
        self._move(reached if begin < reached < end else end)  # what makes no sense is ignored: the digest decides
        if self._offset > self._best:
            self._best = self._offset
            self._attempts.progressed()
        if self._offset < end:
            raise Interrupted(
                DataCorrupt(f"{self._source.digest}: the registry takes less than it is sent", code="upload-short")
            )

    async def _finish(self) -> None:
        self._finishing = True
        separator = "&" if urlsplit(self._location).query else "?"
        url = f"{self._location}{separator}digest={quote(str(self._source.digest))}"
        async with self._ask("PUT", url, {"Content-Length": "0", "Content-Type": "application/octet-stream"}):
            pass

    async def _is_there(self) -> bool:
        """Whether the blob arrived though its last answer did not."""
        try:
            async with self._ask("HEAD", f"{self._repository}/blobs/{self._source.digest}", {}):
                return True
        except Refusal:
            return False

    def _ask(
        self, method: str, path: str, headers: dict[str, str], body: Callable[[], AsyncIterator[bytes]] | None = None
    ) -> AbstractAsyncContextManager[ClientResponse]:
        return self._session.ask(method, path, scopes=(self._scope,), headers=headers, body=body)

    async def _read(self, begin: int, length: int) -> AsyncIterator[bytes]:
        assert self._file is not None
        position, end = begin, begin + length
        while position < end:
            data = await asyncio.to_thread(self._file.read_at, position, min(_READ, end - position))
            yield data
            position += len(data)
            self._progress(position)

    def _move(self, offset: int) -> None:
        self._offset = offset
        self._progress(offset)


def next_location(response: ClientResponse, otherwise: str = "") -> str:
    """Where an upload goes on: the answer's Location, or ``otherwise``. Raises Interrupted without either.

    Registries behind a proxy that ends TLS sometimes call themselves http: what began encrypted stays so.
    """
    location = response.headers.get("Location", "")
    if not location:
        if otherwise:
            return otherwise
        raise Interrupted(
            DataCorrupt(
                f"{response.url.host}: the registry does not say where the upload goes", code="upload-location"
            ),
            lasting=True,
        )
    asked = str(response.url)
    url = urljoin(asked, location)
    if asked.startswith("https:") and url.startswith("http:") and urlsplit(url).hostname == response.url.host:
        url = "https:" + url.removeprefix("http:")
    return url


def _received(response: ClientResponse, otherwise: int) -> int:
    """The bytes that the header ``Range`` (``0-<last>``) says are there; ``0-0`` says nothing: lazy servers send it."""
    match = _RANGE.fullmatch(response.headers.get("Range", "").strip())
    if match is None:
        return otherwise
    last = int(match[1])
    return last + 1 if last else otherwise


class _Positioned:
    """Reads of one stream at given places, from several threads."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self.ended = False

    def read_at(self, position: int, count: int) -> bytes:
        """``count`` bytes or fewer, at least one. Raises EOFError behind the end."""
        with self._lock:
            self._stream.seek(position)
            data = self._stream.read(count)
        if not data:
            self.ended = True
            raise EOFError
        return data

    def close(self) -> None:
        """Close the stream once nobody reads."""
        with self._lock:
            self._stream.close()
