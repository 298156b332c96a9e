"""The route for what a container uses."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

from aiohttp import web

from tare.api import params
from tare.api.context import cancellable, engine_of
from tare.api.jsonstream import open_stream, write_document
from tare.api.respond import json_response
from tare.api.routes.containers import ref_of
from tare.api.schema.stats import render_stats
from tare.engine.stats import INTERVAL
from tare.errors import InvalidArgument


@cancellable
async def stats(request: web.Request) -> web.StreamResponse:
    """``GET /containers/{id}/stats``: one document a second, or one; with ``one-shot`` at once."""
    query = request.query
    streaming, at_once = params.flag(query, "stream", default=True), params.flag(query, "one-shot")
    if streaming and at_once:
        raise InvalidArgument("cannot have stream=true and one-shot=true")
    service = engine_of(request).stats
    sample = await service.once(ref_of(request))
    if at_once or (not streaming and sample.usage is None):
        return json_response(render_stats(sample))
    if not streaming:
        await asyncio.sleep(INTERVAL)  # what a CPU does is seen from two looks
        return json_response(render_stats(await service.once(sample.id), sample))
    response = await open_stream(request)
    async with aclosing(service.stream(sample.id)) as samples:
        before = None
        async for sample in samples:
            await write_document(response, render_stats(sample, before))
            before = sample
    return response


ROUTES: list[Any] = [("GET", "/containers/{id:.+}/stats", stats)]
