"""Exec routes: create, start (with or without streams), resize, inspect."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from tare.api import params
from tare.api.context import VERSION, cancellable, engine_of
from tare.api.respond import json_response
from tare.api.schema.execs import read_exec_config, read_size, render_exec
from tare.api.streams import HijackedResponse, frame, hijack, relay, stream_type
from tare.errors import ExecutableError

STDOUT = 1


async def create(request: web.Request) -> web.StreamResponse:
    """``POST /containers/{id}/exec``."""
    config = read_exec_config(await params.body_document(request))
    exec_id = await engine_of(request).execs.create(request.match_info["id"], config)
    return json_response({"Id": exec_id}, status=201)


@cancellable
async def start(request: web.Request) -> web.StreamResponse:
    """``POST /exec/{id}/start``: with ``Detach`` an empty answer, else the connection becomes the streams."""
    document = await params.body_document(request, optional=True)
    detach = bool(document.get("Detach"))
    execs = engine_of(request).execs
    exec_id = request.match_info["id"]
    config = (await execs.inspect(exec_id)).config
    content_type = stream_type(tty=config.tty, version=request[VERSION])
    try:
        attachment = await execs.start(
            exec_id, detach=detach, tty=config.tty, console_size=read_size(document.get("ConsoleSize"))
        )
    except ExecutableError as error:
        if detach:
            raise
        # Docker has taken the connection over by then: the message is the command's output, inspect has the code.
        connection = await hijack(request, content_type)
        message = f"{error}\r\n".encode()
        await connection.write(message if config.tty else frame(STDOUT, message))
        connection.close()
        return HijackedResponse()
    if attachment is None:
        return web.Response(status=200)
    try:
        connection = await hijack(request, content_type)
    except BaseException:
        attachment.close()
        raise
    await relay(connection, attachment, framed=not config.tty, stdin=config.attach_stdin)
    return HijackedResponse()


async def resize(request: web.Request) -> web.StreamResponse:
    """``POST /exec/{id}/resize``."""
    height, width = params.required_number(request.query, "h"), params.required_number(request.query, "w")
    await engine_of(request).execs.resize(request.match_info["id"], height, width)
    return web.Response(status=200)


async def inspect(request: web.Request) -> web.StreamResponse:
    """``GET /exec/{id}/json``."""
    return json_response(render_exec(await engine_of(request).execs.inspect(request.match_info["id"])))


ROUTES: list[Any] = [
    ("POST", "/containers/{id}/exec", create),
    ("POST", "/exec/{id}/start", start),
    ("POST", "/exec/{id}/resize", resize),
    ("GET", "/exec/{id}/json", inspect),
]
