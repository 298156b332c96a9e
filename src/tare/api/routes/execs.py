"""Exec routes: create, start (with or without streams), resize, inspect."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any

from aiohttp import web

from tare.api import params
from tare.api.context import VERSION, cancellable, engine_of
from tare.api.respond import json_response
from tare.api.schema.execs import read_exec_config, read_size, render_exec
from tare.api.streams import HijackedResponse, frame, hijack, relay, stream_type
from tare.errors import TareError
from tare.model.detach_keys import parse_detach_keys

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
    config = (await execs.startable(exec_id)).config
    start_now = partial(
        execs.start, exec_id, detach=detach, tty=config.tty, console_size=read_size(document.get("ConsoleSize"))
    )
    if detach:
        await start_now()
        return web.Response(status=200)
    # The head goes out before the command runs, as from Docker: docker-py reads the streams past its own buffer, so
    # output that arrives together with the head would be lost to it.
    connection = await hijack(request, stream_type(tty=config.tty, version=request[VERSION]))
    try:
        attachment = await start_now()
    except TareError as error:  # the message is the command's output then, inspect has the code
        message = f"{error}\r\n".encode()
        with contextlib.suppress(ConnectionResetError):
            await connection.write(message if config.tty else frame(STDOUT, message))
        connection.close()
        return HijackedResponse()
    except BaseException:
        connection.close()
        raise
    assert attachment is not None, "only a detached exec has no streams"
    keys = parse_detach_keys(config.detach_keys) if config.tty else None
    await relay(connection, attachment, framed=not config.tty, stdin=config.attach_stdin, detach_keys=keys)
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
    ("POST", "/containers/{id:.+}/exec", create),
    ("POST", "/exec/{id}/start", start),
    ("POST", "/exec/{id}/resize", resize),
    ("GET", "/exec/{id}/json", inspect),
]
