"""Files from http(s) servers: fetched once, asked for again with what the server said about them (RFC 9110, 13)."""

from __future__ import annotations

import asyncio
import hashlib
import posixpath
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import unquote, urlsplit

from tare.build.sources.addresses import HttpAddress
from tare.build.sources.limits import SourceLimits
from tare.build.sources.store import Facts, SourceStore
from tare.errors import (
    Conflict,
    DataCorrupt,
    Exhausted,
    Forbidden,
    InvalidArgument,
    NotFound,
    TareError,
    Unauthorized,
    Unavailable,
)

if TYPE_CHECKING:
    from aiohttp import ClientResponse

_CHUNK = 1 << 20
_CONNECT_SECONDS, _READ_SECONDS = 30, 120
_UNNAMED = "__unnamed__"  # BuildKit's name for what a URL does not name
_ALGORITHMS = {"sha256": 64, "sha384": 96, "sha512": 128}  # hex digits
_ETAG, _MODIFIED, _DIGEST = "etag", "modified", "digest"

Secrets = Mapping[str, bytes]
_NO_SECRETS: Secrets = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpFile:
    """A file as the server has it now: ``digest`` of its content, ``modified`` as the server says (may be empty)."""

    address: HttpAddress
    digest: str
    modified: str = ""

    @property
    def name(self) -> str:
        """The last component of the URL's path."""
        return posixpath.basename(unquote(urlsplit(self.address.url).path)) or _UNNAMED

    @property
    def mtime(self) -> int:
        """When it was changed last, in seconds; 0 where the server does not tell."""
        try:
            return int(parsedate_to_datetime(self.modified).timestamp())
        except (TypeError, ValueError):
            return 0


class HttpFiles:
    """Fetches files into ``store``."""

    def __init__(self, store: SourceStore, limits: SourceLimits) -> None:
        self._store = store
        self._limits = limits

    async def resolve(self, address: HttpAddress, secrets: Secrets, checksum: str = "") -> HttpFile:
        """Find out what the URL holds now; a file that the server calls unchanged is not sent again.

        With ``checksum`` (``sha256:<hex>``) nothing is asked: the content must be that. Raises NotFound, Unauthorized,
        Forbidden, Unavailable naming the URL and the answer, Exhausted for a file that is too large.
        """
        if checksum:
            return HttpFile(address=address, digest=check_digest(checksum))
        key = f"url:{address.url}"
        known = await self._store.recall(key)
        fetched = await self._fetch(address, secrets, known or {})
        if fetched is None:
            assert known is not None
            return HttpFile(address=address, digest=known[_DIGEST], modified=known[_MODIFIED])
        await self._store.remember(key, fetched)
        return HttpFile(address=address, digest=fetched[_DIGEST], modified=fetched[_MODIFIED])

    @asynccontextmanager
    async def open(self, file: HttpFile, secrets: Secrets) -> AsyncIterator[tuple[Path, HttpFile]]:
        """The content as a file that nobody may change, and what is known about it once it is here.

        Raises as :meth:`resolve`, DataCorrupt where the content has another digest.
        """

        async def make(place: Path) -> Facts:
            algorithm = file.digest.partition(":")[0]
            target = place / "content"
            digest, facts = await download(file.address, target, self._limits, secrets=secrets, algorithm=algorithm)
            if digest != file.digest:
                raise _mismatch(file, digest)
            return facts

        async with self._store.get(f"http:{file.digest}", make) as stored:
            modified = file.modified or stored.facts.get(_MODIFIED, "")
            yield stored.content, HttpFile(address=file.address, digest=file.digest, modified=modified)

    async def _fetch(self, address: HttpAddress, secrets: Secrets, known: Facts) -> Facts | None:
        """Facts about the file, which is in the store then; None when it is still the known one."""
        async with self._store.scratch() as scratch:
            target = scratch / "content"
            digest, facts = await download(address, target, self._limits, secrets=secrets, known=known)
            if not digest:
                return None

            async def make(place: Path) -> Facts:
                await asyncio.to_thread((scratch / "content").rename, place / "content")
                return facts

            async with self._store.get(f"http:{digest}", make):
                return facts


async def download(
    address: HttpAddress,
    target: Path,
    limits: SourceLimits,
    *,
    secrets: Secrets = _NO_SECRETS,
    known: Facts | None = None,
    algorithm: str = "sha256",
    begun: Callable[[], None] = lambda: None,
) -> tuple[str, Facts]:
    """Fetch a file into ``target``; returns its digest by ``algorithm`` and what the server said about it.

    Both are empty when the server calls it unchanged against ``known``. ``begun`` is called when the content comes.
    Raises NotFound, Unauthorized, Forbidden, Unavailable naming the URL and the answer, Exhausted.
    """
    import aiohttp

    known = known or {}
    timeout = aiohttp.ClientTimeout(total=limits.seconds, sock_connect=_CONNECT_SECONDS, sock_read=_READ_SECONDS)
    headers = {**_authorization(address, secrets), **_conditions(known)}
    try:
        async with (
            aiohttp.ClientSession(trust_env=True, timeout=timeout) as session,
            session.get(address.url, headers=headers) as response,
        ):
            if _is_known(response, known):
                return "", {}
            if response.status != 200:
                raise _refused(address, response)
            begun()
            found = await _save(address, response, target, algorithm, limits)
            facts = {
                _ETAG: response.headers.get("ETag", ""),
                _MODIFIED: response.headers.get("Last-Modified", ""),
                _DIGEST: found,
            }
            return found, facts
    except (aiohttp.ClientError, TimeoutError) as error:
        cause = str(error) or f"no answer within {limits.seconds} seconds"
        raise Unavailable(
            f"{address.shown}: {cause}", hint="check the address and the network", code="http-failed"
        ) from error


async def _save(
    address: HttpAddress, response: ClientResponse, target: Path, algorithm: str, limits: SourceLimits
) -> str:
    hashed, size = hashlib.new(algorithm), 0
    sink = await asyncio.to_thread(target.open, "wb")
    try:
        async for chunk in response.content.iter_chunked(_CHUNK):
            size += len(chunk)
            if size > limits.download:
                raise Exhausted(
                    f"{address.shown}: larger than {limits.download} bytes",
                    hint="raise max_download_bytes in the section build of the configuration",
                    code="download-too-large",
                )
            await asyncio.to_thread(_write, sink, hashed, chunk)
    finally:
        await asyncio.to_thread(sink.close)
    return f"{algorithm}:{hashed.hexdigest()}"


def check_digest(text: str) -> str:
    """``text`` if it is ``sha256:<hex>`` (or sha384, sha512). Raises InvalidArgument."""
    algorithm, _, digits = text.partition(":")
    if _ALGORITHMS.get(algorithm) != len(digits) or digits.strip("0123456789abcdef"):
        raise InvalidArgument(f"invalid checksum digest format: {text!r}", hint="write sha256:<64 hex digits>")
    return text


def _write(sink: BinaryIO, hashed: hashlib._Hash, chunk: bytes) -> None:
    sink.write(chunk)
    hashed.update(chunk)


def _conditions(known: Facts) -> dict[str, str]:
    """The headers that ask only for something newer."""
    found = {}
    if known.get(_ETAG):
        found["If-None-Match"] = known[_ETAG]
    if known.get(_MODIFIED):
        found["If-Modified-Since"] = known[_MODIFIED]
    return found


def _is_known(response: ClientResponse, known: Facts) -> bool:
    """Whether the answer stands for the known file; some servers send it all though its ETag is the one named."""
    if response.status == 304:
        return bool(known)
    etag = response.headers.get("ETag", "")
    return response.status == 200 and bool(etag) and etag == known.get(_ETAG)


def _refused(address: HttpAddress, response: ClientResponse) -> TareError:
    message = f"{address.shown}: the server answered {response.status} {response.reason}"
    if response.status in (404, 410):
        return NotFound(message, hint="check the address", code="http-404")
    if response.status == 401:
        hint = f"give --secret id=HTTP_AUTH_TOKEN_{urlsplit(address.url).hostname},src=FILE"
        return Unauthorized(message, hint=hint, code="http-401")
    if response.status == 403:
        return Forbidden(message, hint="the server does not let you", code="http-403")
    return Unavailable(message, hint="try again later" if response.status >= 500 else "", code="http-status")


def _mismatch(file: HttpFile, digest: str) -> TareError:
    """The content is another one than was asked for, or than the server had a moment ago."""
    if not file.modified:
        return DataCorrupt(
            f"digest mismatch for {file.address.shown}: {digest} (expected: {file.digest})",
            hint="the file at that address is another one: check it, and the checksum",
            code="checksum-mismatch",
        )
    return Conflict(
        f"{file.address.shown}: changed while it was being fetched", hint="build again", code="http-changed"
    )


def _authorization(address: HttpAddress, secrets: Secrets) -> dict[str, str]:
    """BuildKit's secrets for http sources: ``HTTP_AUTH_HEADER_<host>`` or ``HTTP_AUTH_TOKEN_<host>``."""
    parts = urlsplit(address.url)
    host = parts.hostname or ""
    if parts.username is not None:
        return {}  # the URL has its own
    if (header := secrets.get(f"HTTP_AUTH_HEADER_{host}")) is not None:
        return {"Authorization": header.decode("latin-1").strip()}
    if (token := secrets.get(f"HTTP_AUTH_TOKEN_{host}")) is not None:
        return {"Authorization": f"Bearer {token.decode('latin-1').strip()}"}
    return {}
