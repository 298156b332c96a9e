"""The Engine API as an aiohttp application."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from tare.api.context import ENGINE, Handler
from tare.api.middleware import Requests, add_headers
from tare.api.routes import builds, container_io, containers, execs, images, networks, system, tare, volumes

if TYPE_CHECKING:
    from tare.engine.engine import Engine

_PREFIX = r"/v{version:[0-9]+\.[0-9]+}"

Route = tuple[str, str, Handler]


def all_routes() -> list[Route]:
    """Every route as (method, path without version, handler)."""
    groups = (system, containers, container_io, execs, images, builds, networks, volumes, tare)
    return [route for group in groups for route in group.ROUTES]


def make_app(engine: Engine, requests: Requests | None = None) -> web.Application:
    """The application for ``engine``; each route exists with and without a version in front."""
    requests = requests or Requests()
    # Bodies are read as streams or through bounded readers; aiohttp's own limit applies to JSON documents.
    app = web.Application(middlewares=[requests.middleware], client_max_size=16 * 1024 * 1024)
    app[ENGINE] = engine
    app.on_response_prepare.append(add_headers)
    for method, path, handler in all_routes():
        app.router.add_route(method, path, handler)
        app.router.add_route(method, _PREFIX + path, handler)
    return app
