"""Answers that are a sequence of JSON documents, sent as they come about."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from tare.errors import TareError, as_tare_error

logger = logging.getLogger(__name__)

T = TypeVar("T")

_END = b"\r\n"

Report = Callable[[dict[str, Any]], None]
"""Takes one message; never blocks."""


def error_message(error: TareError, *, code: int | None = None) -> dict[str, Any]:
    """How a failure looks in a stream whose status line is long gone (API ``ErrorDetail``)."""
    detail: dict[str, Any] = {"message": str(error)}
    if code is not None:
        detail = {"code": code, **detail}
    return {"errorDetail": detail, "error": str(error)}


async def open_stream(
    request: web.Request, content_type: str = "application/json", *, headers: Mapping[str, str] | None = None
) -> web.StreamResponse:
    """An answer with status 200 whose headers are on their way; the body follows piece by piece."""
    response = web.StreamResponse(headers=headers)
    response.content_type = content_type
    await response.prepare(request)
    return response


async def write_document(response: web.StreamResponse, document: Any) -> None:
    """Send one JSON document and a line end."""
    await response.write(msgspec.json.encode(document) + _END)


class JsonStream:
    """The messages of one operation; the headers are sent with the first of them.

    An operation that fails before its first message is answered with a status code, a later failure with an error
    message in the stream.
    """

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._response: web.StreamResponse | None = None

    def report(self, message: dict[str, Any]) -> None:
        """Queue ``message``; call it from the event loop's thread."""
        self._queue.put_nowait(message)

    async def run(
        self,
        operation: Awaitable[T],
        conclude: Callable[[T], list[dict[str, Any]]],
        describe: Callable[[TareError], dict[str, Any]] = error_message,
    ) -> web.StreamResponse:
        """Stream what is reported while ``operation`` runs, then the messages that ``conclude`` makes of its result."""
        task = asyncio.ensure_future(operation)
        task.add_done_callback(lambda _: self._queue.put_nowait({}))
        try:
            await self._forward(task)
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        try:
            messages = conclude(task.result())
        except Exception as error:
            if self._response is None:
                raise
            if not isinstance(error, TareError):
                logger.exception("%s %s", self._request.method, self._request.path)
            messages = [describe(as_tare_error(error))]
        await self._write(*messages)
        return self._response or await open_stream(self._request)

    async def _forward(self, task: asyncio.Future[T]) -> None:
        while not (task.done() and self._queue.empty()):
            messages = [await self._queue.get()]
            while not self._queue.empty():
                messages.append(self._queue.get_nowait())
            await self._write(*filter(None, messages))

    async def _write(self, *messages: dict[str, Any]) -> None:
        """Send what there is at once: every message on its own would be a system call."""
        if not messages:
            return
        if self._response is None:
            self._response = await open_stream(self._request)
        await self._response.write(b"".join(msgspec.json.encode(message) + _END for message in messages))
