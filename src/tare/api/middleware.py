"""What happens to every request: number, version, headers, errors, and clients that go away."""

from __future__ import annotations

import asyncio
import itertools
import logging
import platform
from collections.abc import Iterator
from typing import Any

from aiohttp import web

from tare import __version__
from tare.api.context import VERSION, Handler, is_cancellable
from tare.api.errormap import error_response, message_response
from tare.api.gate import Gate
from tare.api.streams import HijackedResponse
from tare.api.versions import API_VERSION, negotiate
from tare.base.logs import subject
from tare.errors import InternalError, TareError, as_tare_error

logger = logging.getLogger(__name__)

SERVER = f"Tare/{__version__} ({platform.system().lower()})"


class Requests:
    """Numbers requests and lets those run to their end whose client went away."""

    def __init__(self) -> None:
        self._numbers: Iterator[int] = itertools.count(1)
        self._streams: set[asyncio.Task[Any]] = set()
        self._running: set[asyncio.Task[web.StreamResponse]] = set()

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Run ``handler`` and turn whatever happens into an answer in Docker's form."""
        token = subject.set(f"request {next(self._numbers)}")
        try:
            request[VERSION] = negotiate(request.match_info.get("version"))
            return await self._run(request, handler)
        except TareError as error:
            if isinstance(error, InternalError) and error.diagnosis is None:
                logger.exception("%s %s", request.method, request.path)
            return error_response(error)
        except web.HTTPNotFound:
            return message_response(404, "page not found")
        except web.HTTPMethodNotAllowed:
            return message_response(405, "method not allowed")
        except web.HTTPException as error:
            return message_response(error.status, error.reason)
        except ConnectionError:
            return HijackedResponse()
        except Exception as error:
            known = as_tare_error(error)
            if isinstance(known, InternalError):
                logger.exception("%s %s", request.method, request.path)
            return error_response(known)
        finally:
            _open_gate(request)
            subject.reset(token)

    async def _run(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if is_cancellable(request.match_info.handler):
            return await self._stream(request, handler)
        task: asyncio.Task[web.StreamResponse] = asyncio.ensure_future(handler(request))
        self._running.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    async def _stream(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._streams.add(task)
        try:
            return await handler(request)
        finally:
            self._streams.discard(task)

    def end_streams(self) -> None:
        """Cancel what would go on as long as its client listens."""
        for task in self._streams:
            task.cancel()

    def _ended(self, task: asyncio.Task[web.StreamResponse]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.debug("request ended with %s", error)

    async def finish(self, seconds: float) -> None:
        """Wait for what runs on without a client, for at most ``seconds``; then cancel it."""
        if not self._running:
            return
        _, pending = await asyncio.wait(self._running, timeout=seconds)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


def _open_gate(request: web.Request) -> None:
    # After a hijack the transport's protocol is another one; here the upgrade was declined.
    gate = request.transport.get_protocol() if request.transport is not None else None
    if isinstance(gate, Gate):
        gate.open()


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """The headers that Docker clients read from every answer."""
    headers = response.headers
    headers["Api-Version"] = API_VERSION
    headers["Docker-Experimental"] = "false"
    headers["Ostype"] = "linux"
    headers["Server"] = SERVER
