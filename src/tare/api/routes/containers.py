"""Container routes that answer with one document; streams are in ``container_io``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tare.api import params
from tare.api.context import engine_of
from tare.api.respond import json_response, no_content
from tare.api.schema.container import render_inspect, render_summary
from tare.api.schema.requests import read_create, read_host_config
from tare.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from tare.engine.engine import Engine
    from tare.model.container import Container


def ref_of(request: web.Request) -> str:
    """The container that the path names."""
    return request.match_info["id"]


async def create(request: web.Request) -> web.StreamResponse:
    """``POST /containers/create``."""
    document = await params.body_document(request)
    asked = read_create(document)
    name = request.query.get("name", "").removeprefix("/")
    try:
        created = await engine_of(request).containers.create(
            name, asked.config, asked.host, asked.networking, request.query.get("platform", "")
        )
    except NotFound as error:
        if error.message.startswith("No such image"):
            raise
        # To clients a 404 means that the image is missing: Docker's pulls it and tries again.
        raise InvalidArgument(error.message, hint=error.hint, code=error.code) from error
    return json_response({"Id": created.id, "Warnings": list(created.warnings)}, status=201)


async def list_containers(request: web.Request) -> web.StreamResponse:
    """``GET /containers/json``."""
    engine = engine_of(request)
    query = request.query
    containers = await engine.containers.list(
        all=params.flag(query, "all"), filters=params.filters(query), limit=params.number(query, "limit") or 0
    )
    now, with_size = time.time(), params.flag(query, "size")
    names, images = await engine.links.names(), await engine.containers.image_names(containers)
    return json_response(
        [
            await _summary(engine, one, names.get(one.id, ()), images[one.id], now=now, with_size=with_size)
            for one in containers
        ]
    )


async def _summary(
    engine: Engine, container: Container, link_names: Sequence[str], image: str, *, now: float, with_size: bool
) -> dict[str, Any]:
    return render_summary(
        container,
        await engine.containers.endpoints(container.id),
        await engine.containers.ports(container.id),
        now=now,
        sizes=await engine.containers.sizes(container.id) if with_size else None,
        link_names=link_names,
        image=image,
    )


async def inspect(request: web.Request) -> web.StreamResponse:
    """``GET /containers/{id}/json``."""
    engine = engine_of(request)
    container = await engine.containers.get(ref_of(request))
    document = render_inspect(
        container,
        await engine.containers.endpoints(container.id),
        await engine.containers.ports(container.id),
        extra=_surroundings(engine, container),
        sandbox_key=engine.containers.sandbox_key(container),
        health_log=await engine.health.log(container.id) if container.state.health is not None else (),
        sizes=await engine.containers.sizes(container.id) if params.flag(request.query, "size") else None,
        links=[f"/{link.name}:/{container.name}/{link.alias}" for link in await engine.links.of(container.id)],
    )
    return json_response(document)


def _surroundings(engine: Engine, container: Container) -> dict[str, Any]:
    directory = engine.paths.container(container.id)
    return {
        "ResolvConfPath": str(directory / "resolv.conf"),
        "HostnamePath": str(directory / "hostname"),
        "HostsPath": str(directory / "hosts"),
        "LogPath": str(engine.paths.log(container.id)),
        "ExecIDs": engine.execs.of_container(container.id) or None,
    }


async def start(request: web.Request) -> web.StreamResponse:
    """``POST /containers/{id}/start``."""
    await engine_of(request).containers.start(ref_of(request))
    return no_content()


async def stop(request: web.Request) -> web.StreamResponse:
    """``POST /containers/{id}/stop``; ``t`` is seconds until SIGKILL, ``signal`` the first signal."""
    query = request.query
    await engine_of(request).containers.stop(ref_of(request), params.number(query, "t"), query.get("signal") or None)
    return no_content()


async def restart(request: web.Request) -> web.StreamResponse:
    """``POST /containers/{id}/restart``."""
    query = request.query
    await engine_of(request).containers.restart(ref_of(request), params.number(query, "t"), query.get("signal") or None)
    return no_content()


async def kill(request: web.Request) -> web.StreamResponse:
    """``POST /containers/{id}/kill``."""
    await engine_of(request).containers.kill(ref_of(request), request.query.get("signal") or "SIGKILL")
    return no_content()


async def pause(request: web.Request) -> web.StreamResponse:
    """``POST /containers/{id}/pause``."""
    await engine_of(request).containers.pause(ref_of(request))
    return no_content()


async def unpause(request: web.Request) -> web.StreamResponse:
    """``POST /containers/{id}/unpause``."""
    await engine_of(request).containers.unpause(ref_of(request))
    return no_content()


async def rename(request: web.Request) -> web.StreamResponse:
    """``POST /containers/{id}/rename``."""
    name = request.query.get("name", "").removeprefix("/")
    if not name:
        raise InvalidArgument("Neither old nor new names may be empty")
    await engine_of(request).containers.rename(ref_of(request), name)
    return no_content()


async def remove(request: web.Request) -> web.StreamResponse:
    """``DELETE /containers/{id}``; ``v`` removes its anonymous volumes too."""
    query = request.query
    if params.flag(query, "link"):
        await engine_of(request).links.remove(ref_of(request))
        return no_content()
    await engine_of(request).containers.remove(
        ref_of(request), force=params.flag(query, "force"), volumes=params.flag(query, "v")
    )
    return no_content()


async def resize(request: web.Request) -> web.StreamResponse:
    """``POST /containers/{id}/resize``: the terminal's size in characters."""
    height, width = params.required_number(request.query, "h"), params.required_number(request.query, "w")
    await engine_of(request).containers.resize(ref_of(request), height, width)
    return web.Response(status=200)


async def top(request: web.Request) -> web.StreamResponse:
    """``GET /containers/{id}/top``."""
    titles, rows = await engine_of(request).containers.top(ref_of(request), request.query.get("ps_args") or "-ef")
    return json_response({"Titles": list(titles), "Processes": [list(row) for row in rows]})


async def update(request: web.Request) -> web.StreamResponse:
    """``POST /containers/{id}/update``."""
    asked = read_host_config(await params.body_document(request))
    warnings = await engine_of(request).updates.update(ref_of(request), asked)
    return json_response({"Warnings": warnings or None})


async def prune(request: web.Request) -> web.StreamResponse:
    """``POST /containers/prune``."""
    removed, reclaimed = await engine_of(request).containers.prune(params.filters(request.query))
    return json_response({"ContainersDeleted": list(removed), "SpaceReclaimed": reclaimed})


ROUTES: list[Any] = [
    ("POST", "/containers/create", create),
    ("POST", "/containers/prune", prune),
    ("GET", "/containers/json", list_containers),
    ("GET", "/containers/{id:.+}/json", inspect),
    ("GET", "/containers/{id:.+}/top", top),
    ("POST", "/containers/{id:.+}/start", start),
    ("POST", "/containers/{id:.+}/stop", stop),
    ("POST", "/containers/{id:.+}/restart", restart),
    ("POST", "/containers/{id:.+}/kill", kill),
    ("POST", "/containers/{id:.+}/pause", pause),
    ("POST", "/containers/{id:.+}/unpause", unpause),
    ("POST", "/containers/{id:.+}/rename", rename),
    ("POST", "/containers/{id:.+}/resize", resize),
    ("POST", "/containers/{id:.+}/update", update),
    ("DELETE", "/containers/{id:.+}", remove),
]
