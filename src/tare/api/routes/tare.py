"""What Docker lacks: routes under ``/tare/``.

``POST /tare/build`` takes a directory of this host as context (nothing is uploaded), an address, or a tar: with the
media type ``application/vnd.tare.build`` the body is the request's JSON document, as many bytes as the header
``Tare-Document-Length`` says, then the tar. The answer is one JSON document per line: ``{"event": "<name>", …}`` with
the names of :mod:`tare.api.schema.builds`, the last one ``result`` or ``error``. ``POST /tare/build/context`` takes the
same body and lists the context: documents ``paths`` with some paths each, the last one ``context`` with the totals.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
from aiohttp import web

from tare.api import params
from tare.api.context import cancellable, engine_of
from tare.api.jsonstream import JsonStream
from tare.api.respond import json_response
from tare.api.routes.containers import ref_of
from tare.api.schema.builds import (
    read_build,
    render_build_event,
    render_context,
    render_failure,
    render_forecast,
    render_paths,
    render_result,
)
from tare.api.schema.cache import render_record
from tare.api.schema.registries import read_config
from tare.api.schema.unpersisted import render_unpersisted
from tare.build.events import BuildEvent
from tare.engine.requests import BuildJob
from tare.engine.weigh import DEFAULT_DEPTH
from tare.errors import InvalidArgument

CHUNK = 256 * 1024


async def info(request: web.Request) -> web.StreamResponse:
    """``GET /tare/info``: the engine's own facts."""
    system = engine_of(request).system
    return json_response({**msgspec.to_builtins(await system.info()), "versions": await system.version()})


async def weigh(request: web.Request) -> web.StreamResponse:
    """``GET /tare/images/{name}/weigh``: what an image weighs and what is in it.

    Query ``depth``: by how many components of their path directories are told apart.
    """
    depth = params.number(request.query, "depth")
    found = await engine_of(request).images.weigh(
        request.match_info["name"], depth=DEFAULT_DEPTH if depth is None else depth
    )
    return json_response(found)


async def image_tree(request: web.Request) -> web.StreamResponse:
    """``GET /tare/images/tree``: images and the layers that they share (:class:`tare.engine.image_tree.ImageTree`)."""
    return json_response(await engine_of(request).images.tree())


@cancellable
async def image_diff(request: web.Request) -> web.StreamResponse:
    """``GET /tare/images/{name}/diff``: what the image of the query's ``to`` has otherwise.

    The answer is a :class:`tare.engine.image_differences.ImageDifference`.
    """
    other = request.query.get("to", "")
    if not other:
        raise InvalidArgument("query parameter to is missing: the image to compare with", code="image-diff-to")
    found = await engine_of(request).images.diff(request.match_info["name"], other)
    return web.Response(body=found, content_type="application/json")


@cancellable
async def sbom(request: web.Request) -> web.StreamResponse:
    """``GET /tare/images/{name}/sbom``: what an image is made of, as the query's ``format`` says (``spdx-json``)."""
    images, kind = engine_of(request).images, request.query.get("format") or "spdx-json"
    media_type, pieces = await images.bill_of_materials(request.match_info["name"], kind)
    response = web.StreamResponse(headers={"Content-Type": media_type})
    await response.prepare(request)
    async for piece in pieces:
        await response.write(piece)
    await response.write_eof()
    return response


async def build_cache(request: web.Request) -> web.StreamResponse:
    """``GET /tare/build/cache``: records of the build cache that fit the ``filters``, as in ``/system/df``."""
    records = await engine_of(request).build_cache.list(params.filters(request.query))
    return json_response([{**render_record(record), "Mutable": record.mutable} for record in records])


@cancellable
async def build(request: web.Request) -> web.StreamResponse:
    """``POST /tare/build``; the build ends when the client goes away."""
    job = await _job(request)
    builds, stream = engine_of(request).builds, JsonStream(request)

    def observe(event: BuildEvent) -> None:
        stream.report(render_build_event(event))

    if job.plan_only:
        return await stream.run(builds.forecast(job, observe), lambda lines: [render_forecast(lines)], render_failure)
    return await stream.run(builds.build(job, observe), lambda result: [render_result(result)], render_failure)


async def _job(request: web.Request) -> BuildJob:
    credentials = read_config(request.headers.get("X-Registry-Config", ""))
    return replace(await _read_job(request), credentials=credentials)


async def _read_job(request: web.Request) -> BuildJob:
    if request.content_type != params.FRAMED:
        return read_build(await params.body_document(request))
    document = await params.framed_document(request)
    return read_build(document, request.content.iter_chunked(CHUNK))


@cancellable
async def build_context(request: web.Request) -> web.StreamResponse:
    """``POST /tare/build/context``: what is in the context and which ignore rules decide."""
    job, stream = await _job(request), JsonStream(request)
    running = engine_of(request).builds.list_context(job, lambda paths: stream.report(render_paths(paths)))
    return await stream.run(running, lambda summary: [render_context(summary)], render_failure)


async def unpersisted(request: web.Request) -> web.StreamResponse:
    """``GET /tare/containers/{id}/unpersisted``: data in the writable layer, with the options that would keep it.

    Query ``entries``: how many directory entries are looked at, at most.
    """
    entries = params.number(request.query, "entries") or 0
    found = await engine_of(request).unpersisted.find(ref_of(request), entries=entries)
    return json_response(render_unpersisted(found))


ROUTES: list[Any] = [
    ("GET", "/tare/info", info),
    ("GET", "/tare/images/tree", image_tree),
    ("GET", "/tare/images/{name:.*}/diff", image_diff),
    ("GET", "/tare/images/{name:.*}/weigh", weigh),
    ("GET", "/tare/images/{name:.*}/sbom", sbom),
    ("POST", "/tare/build", build),
    ("GET", "/tare/build/cache", build_cache),
    ("POST", "/tare/build/context", build_context),
    ("GET", "/tare/containers/{id}/unpersisted", unpersisted),
]
