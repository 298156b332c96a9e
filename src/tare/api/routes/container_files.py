"""Routes for files of containers: archive, changes, export, commit."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from tare.api import params
from tare.api.archives import path_of, send_tar
from tare.api.context import cancellable, engine_of
from tare.api.respond import json_response
from tare.api.routes.containers import ref_of
from tare.api.schema.changes import config_from_changes
from tare.api.schema.files import STAT_HEADER, render_changes, render_stat
from tare.api.schema.requests import read_config
from tare.api.uploads import UploadReader
from tare.engine.commit import CommitRequest, execution_config, merge
from tare.model import Reference
from tare.oci.image import ExecutionConfig


async def stat_archive(request: web.Request) -> web.StreamResponse:
    """``HEAD /containers/{id}/archive``: what stands at a path, in a header."""
    found = await engine_of(request).container_files.stat(ref_of(request), path_of(request))
    return web.Response(headers={STAT_HEADER: render_stat(found)})


@cancellable
async def get_archive(request: web.Request) -> web.StreamResponse:
    """``GET /containers/{id}/archive``: a tar of what stands at a path."""
    found, chunks = await engine_of(request).container_files.read(ref_of(request), path_of(request))
    return await send_tar(request, chunks, {STAT_HEADER: render_stat(found)})


async def put_archive(request: web.Request) -> web.StreamResponse:
    """``PUT /containers/{id}/archive``: unpack a tar into a directory."""
    query = request.query
    await engine_of(request).container_files.write(
        ref_of(request),
        path_of(request),
        UploadReader(request.content),
        keep_kinds=params.flag(query, "noOverwriteDirNonDir"),
        user_owns=params.flag(query, "copyUIDGID"),
    )
    return web.Response(status=200)


async def changes(request: web.Request) -> web.StreamResponse:
    """``GET /containers/{id}/changes``."""
    return json_response(render_changes(await engine_of(request).container_files.changes(ref_of(request))))


@cancellable
async def export(request: web.Request) -> web.StreamResponse:
    """``GET /containers/{id}/export``."""
    return await send_tar(request, await engine_of(request).container_files.export(ref_of(request)), {})


async def commit(request: web.Request) -> web.StreamResponse:
    """``POST /commit``: an image from a container; the body may be a configuration to take instead of its own."""
    query = request.query
    engine = engine_of(request)
    container = await engine.containers.get(query.get("container", ""))
    document = await params.body_document(request, optional=True)
    config = execution_config(read_config(document)) if document else ExecutionConfig()
    environment = (container.config.env or []) + (config.env or [])
    directory = config.working_dir or container.config.working_dir
    changed = config_from_changes(query.getall("changes", []), environment, directory)
    name = query.get("repo", "")
    image = await engine.commits.commit(
        container.id,
        CommitRequest(
            name=Reference.parse(f"{name}:{query['tag']}" if query.get("tag") else name) if name else None,
            author=query.get("author", ""),
            comment=query.get("comment", ""),
            changes=merge(config, changed),
            replacing=bool(document),
            pause=params.flag(query, "pause", default=True),
        ),
    )
    return json_response({"Id": str(image)}, status=201)


ROUTES: list[Any] = [
    ("HEAD", "/containers/{id:.+}/archive", stat_archive),
    ("GET", "/containers/{id:.+}/archive", get_archive),
    ("PUT", "/containers/{id:.+}/archive", put_archive),
    ("GET", "/containers/{id:.+}/changes", changes),
    ("GET", "/containers/{id:.+}/export", export),
    ("POST", "/commit", commit),
]
