"""Image routes."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from tare.api import params
from tare.api.context import VERSION, cancellable, engine_of
from tare.api.jsonstream import JsonStream
from tare.api.respond import json_response
from tare.api.routes import transfers
from tare.api.schema.changes import config_from_changes
from tare.api.schema.images import render_history, render_inspect, render_summary
from tare.api.uploads import UploadReader
from tare.engine.image_import import ImportRequest
from tare.errors import InvalidArgument, Unsupported
from tare.model import Reference


def name_of(request: web.Request) -> str:
    """The image that the path names."""
    return request.match_info["name"]


async def list_images(request: web.Request) -> web.StreamResponse:
    """``GET /images/json``."""
    query = request.query
    images = await engine_of(request).images.list(
        all=params.flag(query, "all"),
        filters=params.filters(query),
        shared_size=params.flag(query, "shared-size"),
    )
    return json_response([render_summary(image, request[VERSION]) for image in images])


async def inspect(request: web.Request) -> web.StreamResponse:
    """``GET /images/{name}/json``."""
    images = engine_of(request).images
    image = await images.get(name_of(request), params.platform(request.query))
    return json_response(render_inspect(image, await images.parent(image), request[VERSION]))


async def history(request: web.Request) -> web.StreamResponse:
    """``GET /images/{name}/history``."""
    images = engine_of(request).images
    image = await images.get(name_of(request), params.platform(request.query))
    return json_response(render_history(await images.lineage(image), await images.history(str(image.id))))


async def tag(request: web.Request) -> web.StreamResponse:
    """``POST /images/{name}/tag``."""
    repository = request.query.get("repo", "")
    if not repository:
        raise InvalidArgument("query parameter repo is missing: the new name")
    await engine_of(request).images.tag(name_of(request), repository, request.query.get("tag", ""))
    return web.Response(status=201)


async def remove(request: web.Request) -> web.StreamResponse:
    """``DELETE /images/{name}``."""
    query = request.query
    removed = await engine_of(request).images.remove(
        name_of(request),
        force=params.flag(query, "force"),
        noprune=params.flag(query, "noprune"),
        platforms=params.platforms(query, "platforms"),
    )
    return json_response(list(removed))


@cancellable
async def create(request: web.Request) -> web.StreamResponse:
    """``POST /images/create``: pull (``fromImage``) or import a root file system (``fromSrc``)."""
    if request.query.get("fromSrc"):
        return await _import(request)
    return await transfers.pull(request)


async def _import(request: web.Request) -> web.StreamResponse:
    query = request.query
    repository, tag, source = query.get("repo", ""), query.get("tag", ""), query["fromSrc"]
    asked = ImportRequest(
        name=Reference.parse(f"{repository}:{tag}" if tag else repository) if repository else None,
        message=query.get("message", ""),
        config=config_from_changes(query.getall("changes", [])),
        platform=query.get("platform", ""),
    )
    stream, imports = JsonStream(request), engine_of(request).images.imports
    if source == "-":
        imported = imports.import_tar(UploadReader(request.content), asked)
    else:
        imported = imports.import_url(source, asked, stream.report)
    return await stream.run(imported, lambda digest: [{"status": str(digest)}])


async def prune(request: web.Request) -> web.StreamResponse:
    """``POST /images/prune``."""
    removed, reclaimed = await engine_of(request).images.prune(params.filters(request.query))
    return json_response({"ImagesDeleted": list(removed), "SpaceReclaimed": reclaimed})


async def search(request: web.Request) -> web.StreamResponse:
    """``GET /images/search``."""
    raise Unsupported("searching a registry is not supported")


ROUTES: list[Any] = [
    ("GET", "/images/json", list_images),
    ("GET", "/images/search", search),
    ("POST", "/images/create", create),
    ("POST", "/images/prune", prune),
    ("GET", "/images/{name:.*}/json", inspect),
    ("GET", "/images/{name:.*}/history", history),
    ("POST", "/images/{name:.*}/tag", tag),
    ("POST", "/images/{name:.*}/push", transfers.push),
    ("DELETE", "/images/{name:.*}", remove),
]
