"""What Docker lacks for volumes: usage, protection, snapshots, clones, backups; routes under ``/tare/volumes``."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from tare.api import params
from tare.api.context import cancellable, engine_of
from tare.api.jsonstream import open_stream
from tare.api.respond import json_response, no_content
from tare.api.schema.volumes import read_copy, render_snapshot, render_usage, render_volume
from tare.api.uploads import UploadReader
from tare.archive.compression import Compression
from tare.errors import InvalidArgument

_WRITTEN = (Compression.NONE, Compression.GZIP, Compression.ZSTD)


def _name(request: web.Request) -> str:
    return request.match_info["name"]


async def list_usage(request: web.Request) -> web.StreamResponse:
    """``GET /tare/volumes``: as ``/volumes``, with users and snapshots; ``size=1`` adds bytes on disk."""
    volumes, size = engine_of(request).volumes, params.flag(request.query, "size")
    found = await volumes.usages(params.filters(request.query), size=size)
    return json_response([render_usage(usage) for usage in found])


async def usage(request: web.Request) -> web.StreamResponse:
    """``GET /tare/volumes/{name}``."""
    volumes, size = engine_of(request).volumes, params.flag(request.query, "size")
    return json_response(render_usage((await volumes.usages(name=_name(request), size=size))[0]))


async def protect(request: web.Request) -> web.StreamResponse:
    """``POST /tare/volumes/{name}/protect``."""
    await engine_of(request).volumes.protect(_name(request))
    return no_content()


async def unprotect(request: web.Request) -> web.StreamResponse:
    """``POST /tare/volumes/{name}/unprotect``."""
    await engine_of(request).volumes.unprotect(_name(request))
    return no_content()


async def list_snapshots(request: web.Request) -> web.StreamResponse:
    """``GET /tare/volumes/{name}/snapshots``: oldest first."""
    found = await engine_of(request).volumes.copies.list(_name(request))
    return json_response([render_snapshot(snapshot) for snapshot in found])


async def create_snapshot(request: web.Request) -> web.StreamResponse:
    """``POST /tare/volumes/{name}/snapshots``: ``{"Name": …}``, or no name."""
    body = read_copy(await params.body_document(request, optional=True))
    snapshot = await engine_of(request).volumes.copies.snapshot(_name(request), body.name)
    return json_response(render_snapshot(snapshot), status=201)


async def remove_snapshot(request: web.Request) -> web.StreamResponse:
    """``DELETE /tare/volumes/{name}/snapshots/{snapshot}``."""
    await engine_of(request).volumes.copies.remove(_name(request), request.match_info["snapshot"])
    return no_content()


async def clone(request: web.Request) -> web.StreamResponse:
    """``POST /tare/volumes/{name}/clone``: ``{"Name": new volume, "Snapshot": …}``."""
    body = read_copy(await params.body_document(request))
    volume = await engine_of(request).volumes.copies.clone(_name(request), body.name, body.snapshot)
    return json_response(render_volume(volume), status=201)


async def restore(request: web.Request) -> web.StreamResponse:
    """``POST /tare/volumes/{name}/restore``: ``{"Snapshot": …}``; answers the snapshot of what was there."""
    body = read_copy(await params.body_document(request))
    if not body.snapshot:
        raise InvalidArgument("restore needs the name of a snapshot")
    return json_response(
        render_snapshot(await engine_of(request).volumes.copies.restore(_name(request), body.snapshot))
    )


@cancellable
async def backup(request: web.Request) -> web.StreamResponse:
    """``GET /tare/volumes/{name}/backup``: a tar, of a ``snapshot`` or of now; ``compression`` is gzip or zstd."""
    kind = request.query.get("compression") or "none"
    if kind not in _WRITTEN:
        raise InvalidArgument(f"unknown compression {kind!r}", hint="gzip, zstd or none")
    copies = engine_of(request).volumes.copies
    parts = copies.backup(
        _name(request), compression=Compression(kind), snapshot_name=request.query.get("snapshot", "")
    )
    response: web.StreamResponse | None = None
    try:
        async for data in parts:
            if response is None:  # what fails before the first byte is answered with a status code
                response = await open_stream(request, "application/x-tar")
            await response.write(data)
    finally:
        await parts.aclose()
    return response or await open_stream(request, "application/x-tar")


@cancellable
async def restore_backup(request: web.Request) -> web.StreamResponse:
    """``PUT /tare/volumes/{name}/backup``: answers the snapshot of what was there, null for a new volume."""
    kept = await engine_of(request).volumes.copies.restore_backup(_name(request), UploadReader(request.content))
    return json_response(render_snapshot(kept) if kept is not None else None)


ROUTES: list[Any] = [
    ("GET", "/tare/volumes", list_usage),
    ("GET", "/tare/volumes/{name}", usage),
    ("POST", "/tare/volumes/{name}/protect", protect),
    ("POST", "/tare/volumes/{name}/unprotect", unprotect),
    ("GET", "/tare/volumes/{name}/snapshots", list_snapshots),
    ("POST", "/tare/volumes/{name}/snapshots", create_snapshot),
    ("DELETE", "/tare/volumes/{name}/snapshots/{snapshot}", remove_snapshot),
    ("POST", "/tare/volumes/{name}/clone", clone),
    ("POST", "/tare/volumes/{name}/restore", restore),
    ("GET", "/tare/volumes/{name}/backup", backup),
    ("PUT", "/tare/volumes/{name}/backup", restore_backup),
]
