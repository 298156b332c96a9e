"""Downloads: bounded, verified, atomic, several at a time."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, TypeVar

import aiohttp

from tare.base.atomic import atomic_writer
from tare.base.readers import CHUNK
from tare.errors import DataCorrupt, NotFound, Unavailable

T = TypeVar("T")

PARALLEL = 8
ARCHIVE_404 = "archive-404"  # code of the NotFound for what the archive does not have
_CONNECT_SECONDS = 20.0
_READ_SECONDS = 60.0
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Page:
    """A small document with the validators that the server gave for it; ``None`` data means not modified."""

    data: bytes | None
    etag: str = ""
    last_modified: str = ""


class Downloader:
    """HTTP downloads through the proxy that the environment names; an async context manager."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(PARALLEL)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Downloader:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_READ_SECONDS)
        self._session = aiohttp.ClientSession(trust_env=True, timeout=timeout, auto_decompress=False)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        assert self._session is not None
        await self._session.close()

    async def page(self, url: str, *, limit: int, etag: str = "", last_modified: str = "") -> Page:
        """A document of at most ``limit`` bytes, asked for conditionally when validators are given.

        Raises NotFound, Unavailable, DataCorrupt when it is larger.
        """
        headers = {"If-None-Match": etag} if etag else {"If-Modified-Since": last_modified} if last_modified else {}
        return await self._retrying(url, lambda: self._page(url, headers, limit))

    async def file(self, url: str, target: Path, *, sha256: str, size: int) -> None:
        """Download to ``target``, which appears only when size and digest are right.

        Raises NotFound, Unavailable, DataCorrupt naming both values.
        """
        await self._retrying(url, lambda: self._file(url, target, sha256, size))

    async def _page(self, url: str, headers: dict[str, str], limit: int) -> Page:
        async with self._get(url, headers) as response:
            if response.status == 304:
                return Page(None, headers.get("If-None-Match", ""), headers.get("If-Modified-Since", ""))
            _check_status(url, response.status)
            data = bytearray()
            async for chunk in response.content.iter_chunked(CHUNK):
                data += chunk
                if len(data) > limit:
                    raise DataCorrupt(f"{url}: more than {limit} bytes")
            known = response.headers
            return Page(bytes(data), known.get("ETag", ""), known.get("Last-Modified", ""))

    async def _file(self, url: str, target: Path, sha256: str, size: int) -> None:
        async with self._get(url, {}) as response:
            _check_status(url, response.status)
            digest = hashlib.sha256()
            received = 0
            with atomic_writer(target, durable=False) as stream:
                async for chunk in response.content.iter_chunked(CHUNK):
                    received += len(chunk)
                    if received > size:
                        raise DataCorrupt(f"{url}: more than the expected {size} bytes")
                    await asyncio.to_thread(_write, stream, digest, chunk)
                if received != size or digest.hexdigest() != sha256:
                    raise DataCorrupt(
                        f"{url}: {received} bytes with sha256 {digest.hexdigest()}, expected {size} and {sha256}"
                    )

    def _get(self, url: str, headers: dict[str, str]) -> aiohttp.client._RequestContextManager:
        assert self._session is not None, "the downloader is not open"
        return self._session.get(url, headers=headers)

    async def _retrying(self, url: str, attempt: Callable[[], Awaitable[T]]) -> T:
        last: Exception | None = None
        for _ in range(_ATTEMPTS):
            try:
                async with self._slots:
                    return await attempt()
            except (aiohttp.ClientError, TimeoutError) as error:
                last = error
        raise Unavailable(
            f"{url}: {last or type(last).__name__}", hint="check the network, the proxy and the apt sources"
        ) from last


def _write(stream: BinaryIO, digest: hashlib._Hash, chunk: bytes) -> None:
    digest.update(chunk)
    stream.write(chunk)


def _check_status(url: str, status: int) -> None:
    if status == 200:
        return
    if status in (404, 410):
        raise NotFound(f"{url}: not found ({status})", code=ARCHIVE_404)
    raise Unavailable(f"{url}: the server answered {status}", hint="try again later or choose another mirror")
