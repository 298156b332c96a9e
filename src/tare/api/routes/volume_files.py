"""Routes for files of volumes, shaped as Docker's for files of containers."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from tare.api import params
from tare.api.archives import path_of, send_tar
from tare.api.context import cancellable, engine_of
from tare.api.schema.files import STAT_HEADER, render_stat
from tare.api.uploads import UploadReader


def _name(request: web.Request) -> str:
    return request.match_info["name"]


async def stat_archive(request: web.Request) -> web.StreamResponse:
    """``HEAD /tare/volumes/{name}/archive``: what stands at a path, in a header."""
    found = await engine_of(request).volumes.files.stat(_name(request), path_of(request))
    return web.Response(headers={STAT_HEADER: render_stat(found)})


@cancellable
async def get_archive(request: web.Request) -> web.StreamResponse:
    """``GET /tare/volumes/{name}/archive``: a tar of what stands at a path; ``rename`` is what it is called in it."""
    files, rename = engine_of(request).volumes.files, request.query.get("rename", "")
    async with files.read(_name(request), path_of(request), rename=rename) as (found, chunks):
        return await send_tar(request, chunks, {STAT_HEADER: render_stat(found)})


async def put_archive(request: web.Request) -> web.StreamResponse:
    """``PUT /tare/volumes/{name}/archive``: unpack a tar into a directory."""
    await engine_of(request).volumes.files.write(
        _name(request),
        path_of(request),
        UploadReader(request.content),
        keep_kinds=params.flag(request.query, "noOverwriteDirNonDir"),
    )
    return web.Response(status=200)


ROUTES: list[Any] = [
    ("HEAD", "/tare/volumes/{name}/archive", stat_archive),
    ("GET", "/tare/volumes/{name}/archive", get_archive),
    ("PUT", "/tare/volumes/{name}/archive", put_archive),
]
