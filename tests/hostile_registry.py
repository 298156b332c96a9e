"""A registry of which a test decides what it answers: it cuts connections, lies about sizes, forgets."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Asked:
    """One request as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass
class HostileRegistry:
    """The server: ``handlers`` by ``METHOD path`` (without query), ``asked`` are all requests so far."""

    handlers: dict[str, Handler] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    port: int = 0
    scheme: str = "http"

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}"

    def on(self, method: str, path: str, *answers: Handler) -> None:
        """Answer requests for ``path`` one after the other with ``answers``, the last one for ever."""
        left = list(answers)

        async def handle(request: web.Request) -> web.StreamResponse:
            answer = left.pop(0) if len(left) > 1 else left[0]
            return await answer(request)

        self.handlers[f"{method} {path}"] = handle

    def requests(self, method: str, part: str = "") -> list[Asked]:
        """The requests of ``method`` whose path has ``part``."""
        return [asked for asked in self.asked if asked.method == method and part in asked.path]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """What aiohttp calls."""
        body = b""
        key = f"{request.method} {request.path}"
        handler = self.handlers.get(key)
        if not getattr(handler, "reads", False):
            body = await request.read()
        self.asked.append(Asked(request.method, request.path_qs, dict(request.headers), body))
        if handler is not None:
            return await handler(request)
        if request.path == "/v2/":
            return web.json_response({})
        return web.json_response(
            {"errors": [{"code": "NAME_UNKNOWN", "message": "no handler", "detail": key}]}, status=404
        )


@asynccontextmanager
async def hostile_registry(context: ssl.SSLContext | None = None) -> AsyncIterator[HostileRegistry]:
    """A running server, for the length of the block."""
    registry = HostileRegistry(scheme="https" if context else "http")
    application = web.Application(client_max_size=1 << 30)
    application.router.add_route("*", "/{path:.*}", registry.handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    registry.port = runner.addresses[0][1]
    try:
        yield registry
    finally:
        await runner.cleanup()


def fixed(status: int, body: bytes = b"", **headers: str) -> Handler:
    """An answer that is always the same; underscores of the headers' names are hyphens."""

    async def answer(request: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, body=body, headers=named)

    return answer


def refused(status: int, code: str, message: str, detail: object = None, **headers: str) -> Handler:
    """An error as registries word it."""
    document = {"errors": [{"code": code, "message": message, "detail": detail}]}
    return fixed(status, json.dumps(document).encode(), **{"Content_Type": "application/json", **headers})


def content(data: bytes, *, cut: int | None = None, ranges: bool = True, length: int | None = -1) -> Handler:
    """A blob; ``cut`` bytes of what was asked for are sent before the connection breaks.

    ``length`` is the size that the answer claims: -1 the right one, None none at all (chunked).
    """

    async def answer(request: web.Request) -> web.StreamResponse:
        begin = request.http_range.start if ranges and "Range" in request.headers else None
        rest = data[begin or 0 :]
        response = web.StreamResponse(status=200 if begin is None else 206)
        if begin is not None:
            response.headers["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        if length is not None:
            response.content_length = len(rest) if length < 0 else length
        await response.prepare(request)
        await response.write(rest if cut is None else rest[:cut])
        if cut is not None:
            assert request.transport is not None
            request.transport.close()
            return response
        await response.write_eof()
        return response

    return answer
