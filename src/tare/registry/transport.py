"""HTTP to registries and to what they redirect to: TLS, proxies, redirects; failures in the words of Go's programs.

Docker's clients know those words (``dial tcp …: connect: connection refused``, ``x509: …``), so they are kept.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urljoin, urlsplit

from tare.errors import DataCorrupt, InvalidArgument, Unavailable
from tare.registry.connection_words import dial_failure, dial_fix, lasts, shown_url
from tare.registry.retrying import Interrupted
from tare.registry.settings import Endpoint, Trust

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

logger = logging.getLogger(__name__)

Body = Callable[[], "bytes | AsyncIterable[bytes]"]

UNREACHABLE = "registry-unreachable"
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_REDIRECT_LIMIT = 10
_READ_BUFFER = 1 << 20
_URL_CHARACTERS = "%!#$&'()*+,/:;=?@[]~"  # RFC 3986, 2.2, the percent sign and the tilde
_POOL = 16  # connections to one host


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: until a connection stands, and without a byte from the other side."""

    connect: float = 30.0
    silence: float = 120.0


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked. ``authorization`` goes to the origin of ``url`` alone; ``body`` is made anew for each attempt."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    authorization: str = field(default="", repr=False)
    body: Body | None = None


class Transport:
    """The connections of all registries; :meth:`close` ends them."""

    def __init__(self, *, user_agent: str, timeouts: Timeouts | None = None) -> None:
        self._user_agent = user_agent
        self._timeouts = timeouts or Timeouts()
        self._session: ClientSession | None = None
        self._contexts: dict[tuple[Trust, tuple[int, ...]], ssl.SSLContext] = {}
        self._making = threading.Lock()

    async def close(self) -> None:
        """End all connections; idempotent, and what is asked afterwards opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    @asynccontextmanager
    async def open(self, request: Request, endpoint: Endpoint) -> AsyncIterator[ClientResponse]:
        """The answer to ``request``, of whatever status, its body unread; redirects are followed.

        Raises Interrupted when no connection comes about, when it breaks, or when nothing is heard for too long, in the
        block as well; InvalidArgument for certificates that cannot be read.
        """
        import aiohttp

        try:
            async with AsyncExitStack() as stack:
                yield await self._follow(request, endpoint, stack)
        except (aiohttp.ClientError, TimeoutError, ssl.SSLError, ConnectionError) as error:
            place = shown_url(request.url)
            cause = dial_failure(error, place)
            message = f'{request.method.title()} "{place}": {cause}'
            raise Interrupted(
                Unavailable(message, hint=dial_fix(error, endpoint.domain), code=UNREACHABLE),
                lasting=lasts(error),
                connected=not isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError),
            ) from error

    async def _follow(self, request: Request, endpoint: Endpoint, stack: AsyncExitStack) -> ClientResponse:
        trust = endpoint.trust
        for _ in range(_REDIRECT_LIMIT):
            response: ClientResponse = await stack.enter_async_context(await self._send(request, endpoint, trust))
            location = response.headers.get("Location", "")
            if response.status not in _REDIRECTS or not location:
                return response
            response.release()
            target = urljoin(request.url, location)
            if urlsplit(target).scheme not in ("http", "https"):
                raise Interrupted(
                    Unavailable(f"{shown_url(request.url)}: redirected to {shown_url(target)}", code=UNREACHABLE),
                    lasting=True,
                )
            if origin(target) != origin(request.url):
                trust = await asyncio.to_thread(self._foreign_trust, endpoint, target)
                request = replace(request, authorization="")
            request = _redirected(request, response.status, target)
        raise Interrupted(
            Unavailable(f"{shown_url(request.url)}: stopped after {_REDIRECT_LIMIT} redirects", code=UNREACHABLE),
            lasting=True,
        )

    def _foreign_trust(self, endpoint: Endpoint, target: str) -> Trust:
        host = urlsplit(target).netloc.rpartition("@")[2]
        if any(urlsplit(base).netloc == host for base in endpoint.bases):
            return endpoint.trust
        return replace(endpoint.trust, identities=())

    async def _send(self, request: Request, endpoint: Endpoint, trust: Trust) -> Any:
        from yarl import URL

        headers = {"User-Agent": self._user_agent, "Accept-Encoding": "identity", **request.headers}
        if request.authorization:
            headers["Authorization"] = request.authorization
        context: ssl.SSLContext | bool = True
        if request.url.startswith("https:"):
            context = await asyncio.to_thread(self._context, trust)
        # Signed URLs of storages are right in the form in which they came; only what no URL may hold is quoted.
        url = URL(quote(request.url, safe=_URL_CHARACTERS), encoded=True)
        return self._open_session().request(
            request.method,
            url,
            headers=headers,
            data=None if request.body is None else request.body(),
            ssl=context,
            proxy=endpoint.proxies.proxy_for(request.url) or None,
            allow_redirects=False,
        )

    def _open_session(self) -> ClientSession:
        import aiohttp

        if self._session is None:
            timeout = aiohttp.ClientTimeout(
                total=None, sock_connect=self._timeouts.connect, sock_read=self._timeouts.silence
            )
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, limit_per_host=_POOL),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=timeout,
                auto_decompress=False,
                read_bufsize=_READ_BUFFER,
                requote_redirect_url=False,
            )
        return self._session

    def _context(self, trust: Trust) -> ssl.SSLContext:
        """The TLS context for ``trust``, made anew when one of its files has changed."""
        files = (*trust.authorities, *(path for pair in trust.identities for path in pair))
        key = (trust, tuple(_changed(path) for path in files))
        with self._making:
            if key not in self._contexts:
                self._contexts = {known: context for known, context in self._contexts.items() if known[0] != trust}
                self._contexts[key] = _make_context(trust)
            return self._contexts[key]


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port (RFC 6454): what credentials stay within."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


async def read_bounded(response: ClientResponse, limit: int, what: str) -> bytes:
    """The body of an answer. Raises DataCorrupt when it is larger than ``limit`` bytes."""
    data = bytearray()
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) > limit:
            raise DataCorrupt(f"{what}: more than {limit} bytes", code="registry-answer-too-large")
    return bytes(data)


def _redirected(request: Request, status: int, target: str) -> Request:
    if status in (307, 308) or request.method in ("GET", "HEAD"):
        return replace(request, url=target)
    return replace(request, url=target, method="GET", body=None)


def _changed(path: str) -> int:
    try:
        return Path(path).stat().st_mtime_ns
    except OSError:
        return 0


def _make_context(trust: Trust) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not trust.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    path = ""
    try:
        for path in trust.authorities:
            context.load_verify_locations(path)
        for path, key in trust.identities:
            context.load_cert_chain(path, key)
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or str(error)
        raise InvalidArgument(
            f"{path}: {reason}", hint="certificates and keys of registries are PEM files", code="registry-certificates"
        ) from error
    return context
