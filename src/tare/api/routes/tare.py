"""What Docker lacks: routes under ``/tare/``.

``POST /tare/build`` takes a directory of this host as context (nothing is uploaded) and answers with one JSON document
per line: ``{"event": "<name>", …}`` with the names of :mod:`tare.api.schema.builds`, the last one ``result`` or
``error``. ``POST /tare/build/context`` takes the same body and lists the context: documents ``paths`` with some paths
each, the last one ``context`` with the totals.
"""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from tare.api import params
from tare.api.context import cancellable, engine_of
from tare.api.jsonstream import JsonStream
from tare.api.respond import json_response
from tare.api.schema.builds import (
    read_build,
    render_build_event,
    render_context,
    render_failure,
    render_paths,
    render_result,
)


async def info(request: web.Request) -> web.StreamResponse:
    """``GET /tare/info``: the engine's own facts."""
    system = engine_of(request).system
    return json_response({**msgspec.to_builtins(await system.info()), "versions": await system.version()})


async def weigh(request: web.Request) -> web.StreamResponse:
    """``GET /tare/images/{name}/weigh``: what an image weighs and what is in it."""
    return json_response(await engine_of(request).images.weigh(request.match_info["name"]))


@cancellable
async def build(request: web.Request) -> web.StreamResponse:
    """``POST /tare/build``; the build ends when the client goes away."""
    job = read_build(await params.body_document(request))
    stream = JsonStream(request)
    running = engine_of(request).builds.build(job, lambda event: stream.report(render_build_event(event)))
    return await stream.run(running, lambda result: [render_result(result)], render_failure)


@cancellable
async def build_context(request: web.Request) -> web.StreamResponse:
    """``POST /tare/build/context``: what is in the context and which ignore rules decide."""
    job = read_build(await params.body_document(request))
    stream = JsonStream(request)
    running = engine_of(request).builds.list_context(job, lambda paths: stream.report(render_paths(paths)))
    return await stream.run(running, lambda summary: [render_context(summary)], render_failure)


ROUTES: list[Any] = [
    ("GET", "/tare/info", info),
    ("GET", "/tare/images/{name:.*}/weigh", weigh),
    ("POST", "/tare/build", build),
    ("POST", "/tare/build/context", build_context),
]
