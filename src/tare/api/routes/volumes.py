"""Volume routes."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from tare.api import params
from tare.api.context import engine_of
from tare.api.respond import json_response, no_content
from tare.api.schema.volumes import read_create, render_volume
from tare.errors import Unavailable


async def list_volumes(request: web.Request) -> web.StreamResponse:
    """``GET /volumes``."""
    volumes, warnings = await engine_of(request).volumes.list_with_warnings(params.filters(request.query))
    return json_response({"Volumes": [render_volume(volume) for volume in volumes], "Warnings": [*warnings] or None})


async def create(request: web.Request) -> web.StreamResponse:
    """``POST /volumes/create``."""
    body = read_create(await params.body_document(request, optional=True))
    volume = await engine_of(request).volumes.create(body.name, body.driver or "local", body.driver_opts, body.labels)
    return json_response(render_volume(volume), status=201)


async def inspect(request: web.Request) -> web.StreamResponse:
    """``GET /volumes/{name}``."""
    return json_response(render_volume(await engine_of(request).volumes.inspect(request.match_info["name"])))


async def remove(request: web.Request) -> web.StreamResponse:
    """``DELETE /volumes/{name}``."""
    await engine_of(request).volumes.remove(request.match_info["name"], force=params.flag(request.query, "force"))
    return no_content()


async def update(request: web.Request) -> web.StreamResponse:
    """``PUT /volumes/{name}``: Docker changes volumes of a cluster only."""
    raise Unavailable("volume update only valid for cluster volumes, but swarm is unavailable", code="no-swarm")


async def prune(request: web.Request) -> web.StreamResponse:
    """``POST /volumes/prune``."""
    removed, reclaimed = await engine_of(request).volumes.prune(params.filters(request.query))
    return json_response({"VolumesDeleted": list(removed), "SpaceReclaimed": reclaimed})


ROUTES: list[Any] = [
    ("GET", "/volumes", list_volumes),
    ("POST", "/volumes/create", create),
    ("POST", "/volumes/prune", prune),
    ("GET", "/volumes/{name}", inspect),
    ("PUT", "/volumes/{name}", update),
    ("DELETE", "/volumes/{name}", remove),
]
