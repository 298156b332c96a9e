"""The Engine API as an aiohttp application, and the server that offers it on sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING

from aiohttp import web

from tare.api.context import ENGINE, Handler
from tare.api.gate import Gate
from tare.api.middleware import Requests, add_headers
from tare.api.routes import (
    audits,
    builds,
    catalogue,
    container_files,
    container_io,
    container_stats,
    containers,
    debugging,
    execs,
    fsck,
    image_archives,
    images,
    networks,
    reachability,
    serving,
    system,
    tare,
    transfers,
    volume_copies,
    volume_files,
    volumes,
)

if TYPE_CHECKING:
    from tare.engine.engine import Engine

FINISH_SECONDS = 10.0
"""How long a closing server waits for operations whose clients are gone."""

HEAD_LIMIT = 1 << 20  # bytes of a request line or header, as in Go: a build sends credentials of all registries
BACKLOG = 128

HANDLER_SECONDS = 2.0
"""How long a closing server waits for answers under way."""

_PREFIX = r"/v{version:[0-9]+\.[0-9]+}"

Route = tuple[str, str, Handler]


def all_routes() -> list[Route]:
    """Every route as (method, path without version, handler)."""
    of_containers = (containers, container_io, container_files, container_stats, execs)
    own = (tare, debugging, audits, catalogue, fsck, serving)
    of_volumes = (volumes, volume_copies, volume_files)
    of_images = (image_archives, images, transfers)
    groups = (system, *of_containers, *of_images, builds, networks, reachability, *of_volumes, *own)
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


class ApiServer:
    """Serves the API; listening sockets come from the caller, who also removes a socket's file."""

    def __init__(self, engine: Engine) -> None:
        self._requests = Requests()
        self._listeners: list[asyncio.Server] = []
        self._runner = web.AppRunner(
            make_app(engine, self._requests),
            access_log=None,
            shutdown_timeout=HANDLER_SECONDS,
            handler_cancellation=True,
            auto_decompress=False,
            max_line_size=HEAD_LIMIT,
            max_field_size=HEAD_LIMIT,
        )

    async def start(self, sockets: Iterable[socket.socket]) -> None:
        """Serve on sockets that are bound (and perhaps listening already)."""
        await self._runner.setup()
        factory = self._runner.server
        assert factory is not None
        loop = asyncio.get_running_loop()
        for sock in sockets:
            # create_server takes any stream socket that is given to it, unix sockets too.
            self._listeners.append(await loop.create_server(lambda: Gate(factory()), sock=sock, backlog=BACKLOG))

    async def close(self) -> None:
        """Stop listening, end streams, let operations finish that run without a client."""
        for listener in self._listeners:
            listener.close()
        self._requests.end_streams()
        await self._runner.cleanup()
        await self._requests.finish(FINISH_SECONDS)
