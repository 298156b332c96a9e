"""Post-mortem of build steps: the failed steps that are kept, and shells in them.

``POST /tare/steps/{id}/shell`` takes the connection over as an attach does; the shell's identifier, for its size and
exit code, is in the head of the answer (``Tare-Shell``). The shell ends when the client goes away.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from tare.api import params
from tare.api.context import VERSION, cancellable, engine_of
from tare.api.respond import json_response
from tare.api.schema.debugging import read_shell, render_shell, render_step
from tare.api.streams import HijackedResponse, hijack, relay, stream_type

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
    try:
        content_type = stream_type(tty=asked.tty, version=request[VERSION])
        connection = await hijack(request, content_type, {SHELL_HEADER: shell.id})
    except BaseException:
        shell.close()
        raise
    await relay(connection, shell, framed=not asked.tty, stdin=True)
    return HijackedResponse()


async def inspect_shell(request: web.Request) -> web.StreamResponse:
    """``GET /tare/shells/{id}``."""
    return json_response(render_shell(engine_of(request).debugging.find(request.match_info["id"])))


async def resize_shell(request: web.Request) -> web.StreamResponse:
    """``POST /tare/shells/{id}/resize``."""
    height, width = params.required_number(request.query, "h"), params.required_number(request.query, "w")
    await engine_of(request).debugging.find(request.match_info["id"]).resize(height, width)
    return web.Response(status=200)


ROUTES: list[Any] = [
    ("GET", "/tare/steps", list_steps),
    ("GET", "/tare/steps/{id}", inspect_step),
    ("DELETE", "/tare/steps/{id}", remove_step),
    ("POST", "/tare/steps/{id}/shell", open_shell),
    ("GET", "/tare/shells/{id}", inspect_shell),
    ("POST", "/tare/shells/{id}/resize", resize_shell),
]
