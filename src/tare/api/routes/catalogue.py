"""The catalogue of ``tare.local``: ``GET /tare/catalogue``, ``GET /tare/catalogue/{name}``.

A name may be short (``nginx``) or whole (``tare.local/distroless/nginx``). Nothing is fetched or assembled.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from tare.api.context import engine_of
from tare.api.respond import json_response
from tare.api.schema.catalogue import render_shelf


async def catalogue(request: web.Request) -> web.StreamResponse:
    """``GET /tare/catalogue``: every repository with its content, its size, and the images of it that are here."""
    return json_response([render_shelf(shelf) for shelf in await engine_of(request).catalogue.list()])


async def offer(request: web.Request) -> web.StreamResponse:
    """``GET /tare/catalogue/{name}``: one repository."""
    return json_response(render_shelf(await engine_of(request).catalogue.get(request.match_info["name"])))


ROUTES: list[Any] = [
    ("GET", "/tare/catalogue", catalogue),
    ("GET", "/tare/catalogue/{name:.+}", offer),
]
