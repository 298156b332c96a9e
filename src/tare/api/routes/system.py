"""System routes: ping, version, info, events, disk usage, auth."""

from __future__ import annotations

import time
from typing import Any

from aiohttp import web

from tare.api import params
from tare.api.context import cancellable, engine_of
from tare.api.jsonstream import open_stream, write_document
from tare.api.respond import json_response
from tare.api.schema.events import render_event
from tare.api.schema.registries import read_auth
from tare.api.schema.system import render_info, render_version
from tare.api.schema.usage import render_usage
from tare.errors import InvalidArgument

_CLASSIC_BUILDER = "1"
"""Builder-Version: makes Docker's CLI send builds to ``POST /build`` and not ask for BuildKit's gRPC session."""


async def ping(request: web.Request) -> web.StreamResponse:
    """``GET|HEAD /_ping``."""
    headers = {
        "Builder-Version": _CLASSIC_BUILDER,
        "Swarm": "inactive",
        "Cache-Control": "no-cache, no-store, must-revalidate",
        "Pragma": "no-cache",
    }
    return web.Response(text="OK" if request.method == "GET" else None, headers=headers)


async def version(request: web.Request) -> web.StreamResponse:
    """``GET /version``."""
    return json_response(render_version(await engine_of(request).system.version()))


async def info(request: web.Request) -> web.StreamResponse:
    """``GET /info``."""
    return json_response(render_info(await engine_of(request).system.info(), now=time.time()))


async def disk_usage(request: web.Request) -> web.StreamResponse:
    """``GET /system/df``."""
    usage = await engine_of(request).system.df(request.query.getall("type", []))
    return json_response(render_usage(usage, now=time.time()))


@cancellable
async def events(request: web.Request) -> web.StreamResponse:
    """``GET /events``: past and coming events as JSON documents."""
    since, until = (params.unix_time(request.query, name, zero=0.0) for name in ("since", "until"))
    if since is not None and until is not None and until < since:
        raise InvalidArgument(
            f"`since` time ({request.query['since']}) cannot be after `until` time ({request.query['until']})"
        )
    stream = engine_of(request).events.subscribe(since, until, params.filters(request.query))
    response = await open_stream(request)
    async for event in stream:
        await write_document(response, render_event(event))
    return response


@cancellable
async def auth(request: web.Request) -> web.StreamResponse:
    """``POST /auth``: whether a registry takes these credentials."""
    server, credentials = read_auth(await request.read())
    token = await engine_of(request).registry_logins.check(server, credentials)
    return json_response({"IdentityToken": token, "Status": "Login Succeeded"})


async def swarm(request: web.Request) -> web.StreamResponse:
    """Swarm routes: this engine is no swarm node, in the words that clients know."""
    return json_response({"message": "This node is not a swarm manager."}, status=503)


ROUTES: list[Any] = [
    ("GET", "/_ping", ping),
    ("HEAD", "/_ping", ping),
    ("GET", "/version", version),
    ("GET", "/info", info),
    ("GET", "/events", events),
    ("GET", "/system/df", disk_usage),
    ("POST", "/auth", auth),
    ("GET", "/swarm", swarm),
    ("GET", "/services", swarm),
    ("GET", "/nodes", swarm),
    ("GET", "/tasks", swarm),
    ("GET", "/secrets", swarm),
    ("GET", "/configs", swarm),
]
