"""Debugging: the failed build steps that are kept, shells in them, and shells beside containers and images.

``POST /tare/steps/{id}/shell`` and ``POST /tare/debug`` take the connection over as an attach does; the shell's
identifier, for its size and exit code, is in the head of the answer (``Tare-Shell``). The shell ends when the client
goes away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from tare.api import params
from tare.api.context import VERSION, cancellable, engine_of
from tare.api.respond import json_response
from tare.api.schema.debugging import read_shell, read_tools, render_shell, render_step, render_target
from tare.api.streams import HijackedResponse, hijack, relay, stream_type

if TYPE_CHECKING:
    from tare.engine.shells import Shell

SHELL_HEADER = "Tare-Shell"


async def list_steps(request: web.Request) -> web.StreamResponse:
    """``GET /tare/steps``: newest first."""
    steps = await engine_of(request).debugging.steps.list()
    return json_response([render_step(step) for step in steps])


async def inspect_step(request: web.Request) -> web.StreamResponse:
    """``GET /tare/steps/{id}``: a kept step, or one that the build cache knows."""
    return json_response(render_step(await engine_of(request).debugging.find_step(request.match_info["id"])))


async def remove_step(request: web.Request) -> web.StreamResponse:
    """``DELETE /tare/steps/{id}``: answers with what was removed."""
    return json_response(render_step(await engine_of(request).debugging.steps.remove(request.match_info["id"])))


@cancellable
async def open_shell(request: web.Request) -> web.StreamResponse:
    """``POST /tare/steps/{id}/shell``: the connection becomes the streams of a shell or command."""
    asked = read_shell(await params.body_document(request, optional=True))
    shell = await engine_of(request).debugging.open(request.match_info["id"], asked)
    return await _connect(request, shell)


async def find_target(request: web.Request) -> web.StreamResponse:
    """``GET /tare/debug?name=…``: what the name stands for; ``type`` leaves container, image or step only."""
    debugging = engine_of(request).debugging
    target = await debugging.find_target(request.query.get("name", ""), request.query.get("type", ""))
    return json_response(render_target(target, debugging.tool_image))


@cancellable
async def open_beside(request: web.Request) -> web.StreamResponse:
    """``POST /tare/debug?name=…``: the connection becomes the streams of tools beside a container or image."""
    asked = read_tools(await params.body_document(request, optional=True))
    debugging = engine_of(request).debugging
    target = await debugging.find_target(request.query.get("name", ""), request.query.get("type", ""))
    return await _connect(request, await debugging.open_beside(target, asked))


async def _connect(request: web.Request, shell: Shell) -> web.StreamResponse:
    tty = shell.streams.tty
    try:
        content_type = stream_type(tty=tty, version=request[VERSION])
        connection = await hijack(request, content_type, {SHELL_HEADER: shell.id})
    except BaseException:
        shell.close()
        raise
    await relay(connection, shell, framed=not tty, stdin=True)
    return HijackedResponse()


async def inspect_shell(request: web.Request) -> web.StreamResponse:
    """``GET /tare/shells/{id}``."""
    return json_response(render_shell(engine_of(request).debugging.shells.find(request.match_info["id"])))


async def resize_shell(request: web.Request) -> web.StreamResponse:
    """``POST /tare/shells/{id}/resize``."""
    height, width = params.required_number(request.query, "h"), params.required_number(request.query, "w")
    await engine_of(request).debugging.shells.find(request.match_info["id"]).resize(height, width)
    return web.Response(status=200)


ROUTES: list[Any] = [
    ("GET", "/tare/steps", list_steps),
    ("GET", "/tare/steps/{id}", inspect_step),
    ("DELETE", "/tare/steps/{id}", remove_step),
    ("POST", "/tare/steps/{id}/shell", open_shell),
    ("GET", "/tare/debug", find_target),
    ("POST", "/tare/debug", open_beside),
    ("GET", "/tare/shells/{id}", inspect_shell),
    ("POST", "/tare/shells/{id}/resize", resize_shell),
]
