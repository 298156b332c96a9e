"""What Docker lacks: routes under ``/tare/``.

``POST /tare/build`` takes a directory of this host as context (nothing is uploaded), an address, or a tar: with the
media type ``application/vnd.tare.build`` the body is the request's JSON document, as many bytes as the header
``Tare-Document-Length`` says, then the tar. The answer is one JSON document per line: ``{"event": "<name>", …}`` with
the names of :mod:`tare.api.schema.builds`, the last one ``result`` or ``error``.
"""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from tare.api import params
from tare.api.context import cancellable, engine_of
from tare.api.jsonstream import JsonStream
from tare.api.respond import json_response
from tare.api.schema.builds import read_build, render_build_event, render_failure, render_result

CHUNK = 256 * 1024


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
    if request.content_type == params.FRAMED:
        document = await params.framed_document(request)
        job = read_build(document, request.content.iter_chunked(CHUNK))
    else:
        job = read_build(await params.body_document(request))
    stream = JsonStream(request)
    running = engine_of(request).builds.build(job, lambda event: stream.report(render_build_event(event)))
    return await stream.run(running, lambda result: [render_result(result)], render_failure)


ROUTES: list[Any] = [
    ("GET", "/tare/info", info),
    ("GET", "/tare/images/{name:.*}/weigh", weigh),
    ("POST", "/tare/build", build),
]
