"""A registry for others, as long as the request lasts.

``POST /tare/registry/serve`` opens it and answers with one JSON document per line: ``{"event": "listening", …}`` once
it can be reached, then ``{"event": "request", …}`` for each request. It is closed when the client of this route goes
away.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from aiohttp import web

from tare.api import params
from tare.api.context import cancellable, engine_of
from tare.api.jsonstream import open_stream, write_document
from tare.api.schema.serving import read_serve, render_opened, render_visit
from tare.registry.server.handling import Visit

WAITING = 1000
"""Documents that wait for a client which does not read; what comes then is counted, not kept."""


class _Journal:
    """Requests on their way to the client that has the registry opened."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Visit] = asyncio.Queue(WAITING)
        self._lost = 0

    def note(self, visit: Visit) -> None:
        """Take one request in; never blocks."""
        try:
            self._queue.put_nowait(visit)
        except asyncio.QueueFull:
            self._lost += 1

    async def next(self) -> bytes:
        """The documents that there are; waits for the first."""
        visits = [await self._queue.get()]
        while not self._queue.empty():
            visits.append(self._queue.get_nowait())
        documents = [render_visit(visit) for visit in visits]
        if self._lost:
            documents.append({"event": "lost", "requests": self._lost})
            self._lost = 0
        return b"".join(msgspec.json.encode(document) + b"\r\n" for document in documents)


@cancellable
async def serve(request: web.Request) -> web.StreamResponse:
    """``POST /tare/registry/serve``."""
    order, journal = read_serve(await params.body_document(request, optional=True)), _Journal()
    async with engine_of(request).serving.serve(order, journal.note) as opened:
        response = await open_stream(request)
        await write_document(response, render_opened(opened))
        while True:
            await response.write(await journal.next())


ROUTES: list[Any] = [("POST", "/tare/registry/serve", serve)]
