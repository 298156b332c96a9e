"""Container routes that stream: attach, logs, wait."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tare.api import params
from tare.api.context import VERSION, cancellable, engine_of
from tare.api.jsonstream import open_stream, write_document
from tare.api.routes.containers import ref_of
from tare.api.schema.container import render_diagnosis
from tare.api.streams import Connection, HijackedResponse, frame, frames, hijack, relay, stream_type
from tare.api.websocket import WebSocketConnection
from tare.engine.requests import AttachRequest, LogRequest
from tare.errors import InvalidArgument, TareError
from tare.model.detach_keys import parse_detach_keys
from tare.runtime.log_options import details_prefix

if TYPE_CHECKING:
    from tare.engine.requests import Attachment
    from tare.model.container import Container
    from tare.runtime.logs import LogBatch

ENGINE_ERROR = 3
"""The frame type for an error in the middle of a stream (stdcopy ``Systemerr``); clients print it and fail."""

STREAMS_ASKED_SINCE = (1, 42)
"""First version in which a WebSocket carries only the streams that are asked for (API 1.42 notes)."""

WAIT_CONDITIONS = frozenset({"not-running", "next-exit", "removed"})


@cancellable
async def attach(request: web.Request) -> web.StreamResponse:
    """``POST /containers/{id}/attach``: the connection becomes the process's streams."""
    await request.read()
    asked = _asked(request.query)
    container = await engine_of(request).containers.get(ref_of(request))
    attachment = await engine_of(request).container_logs.attach(container.id, asked)
    tty = container.config.tty
    try:
        connection = await hijack(request, stream_type(tty=tty, version=request[VERSION]))
    except BaseException:
        attachment.close()
        raise
    await _carry(request, connection, attachment, container, asked, framed=not tty)
    return HijackedResponse()


@cancellable
async def attach_websocket(request: web.Request) -> web.StreamResponse:
    """``GET /containers/{id}/attach/ws``: the same on a WebSocket, where output is never framed."""
    version = request[VERSION]
    asked = _asked(request.query, streams=version < STREAMS_ASKED_SINCE)
    connection = WebSocketConnection(version)
    container = await engine_of(request).containers.get(ref_of(request))
    connection.check(request)
    attachment = await engine_of(request).container_logs.attach(container.id, asked)
    try:
        await connection.open(request)
    except BaseException:
        attachment.close()
        raise
    try:
        await _carry(request, connection, attachment, container, asked, framed=False)
    finally:
        await connection.finish()
    return HijackedResponse()


def _asked(query: Mapping[str, str], *, streams: bool = False) -> AttachRequest:
    """What the query asks for; ``streams``: those that it does not mention are wanted. Raises InvalidArgument."""
    asked = AttachRequest(
        stdin=params.flag(query, "stdin", default=streams),
        stdout=params.flag(query, "stdout", default=streams),
        stderr=params.flag(query, "stderr", default=streams),
        logs=params.flag(query, "logs"),
        stream=params.flag(query, "stream"),
        detach_keys=query.get("detachKeys", ""),
    )
    parse_detach_keys(asked.detach_keys)
    return asked


async def _carry(
    request: web.Request,
    connection: Connection,
    attachment: Attachment,
    container: Container,
    asked: AttachRequest,
    *,
    framed: bool,
) -> None:
    """What was written before, then both ways until one end is gone."""
    try:
        if asked.logs:
            batches = engine_of(request).container_logs.logs(container.id, _logs_of(asked))
            await _replay(connection, batches, framed=framed)
    except BaseException:
        attachment.close()
        connection.close()
        raise
    keys = parse_detach_keys(asked.detach_keys) if container.config.tty else None
    stdin, output = asked.stdin and asked.stream, asked.stdout or asked.stderr
    left = partial(engine_of(request).container_logs.detached, container)
    await relay(connection, attachment, framed=framed, stdin=stdin, output=output, detach_keys=keys, on_detach=left)


def _logs_of(asked: AttachRequest) -> LogRequest:
    return LogRequest(stdout=asked.stdout, stderr=asked.stderr)


async def _replay(connection: Connection, batches: AsyncIterator[LogBatch], *, framed: bool) -> None:
    async for lines in batches:
        await connection.write(log_bytes(lines, tty=not framed))


@cancellable
async def logs(request: web.Request) -> web.StreamResponse:
    """``GET /containers/{id}/logs``."""
    query = request.query
    asked = LogRequest(
        stdout=params.flag(query, "stdout"),
        stderr=params.flag(query, "stderr"),
        since=_moment(query.get("since", "")),
        until=_moment(query.get("until", "")),
        timestamps=params.flag(query, "timestamps"),
        tail=_tail(query.get("tail", "")),
        follow=params.flag(query, "follow"),
        details=params.flag(query, "details"),
    )
    if not (asked.stdout or asked.stderr):
        raise InvalidArgument("Bad parameters: you must choose at least one stream")
    containers = engine_of(request).containers
    container = await containers.get(ref_of(request))
    tty = container.config.tty
    response = await open_stream(request, stream_type(tty=tty, version=request[VERSION]))
    try:
        prefix = details_prefix(container) if asked.details else b""
        async for lines in engine_of(request).container_logs.logs(container.id, asked):
            await response.write(log_bytes(lines, tty=tty, timestamps=asked.timestamps, prefix=prefix))
    except TareError as error:
        await response.write(str(error).encode() if tty else frame(ENGINE_ERROR, str(error).encode()))
    return response


def log_bytes(lines: LogBatch, *, tty: bool, timestamps: bool = False, prefix: bytes = b"") -> bytes:
    """Log lines as they go to the client: each with its time and ``prefix``, framed unless there is a terminal."""
    if timestamps:
        lines = [(stream, moment, b"%bZ %b%b" % (moment, prefix, data)) for stream, moment, data in lines]
    elif prefix:
        lines = [(stream, moment, prefix + data) for stream, moment, data in lines]
    if tty:
        return b"".join([line[2] for line in lines])
    return frames([(stream, data) for stream, _, data in lines])


def _tail(text: str) -> int:
    # Docker takes everything that is no number, "all" first of all, as "all lines".
    return int(text) if text.isdigit() else -1


def _moment(text: str) -> str:
    return "" if text == "0" else text


@cancellable
async def wait(request: web.Request) -> web.StreamResponse:
    """``POST /containers/{id}/wait``: headers at once, so that a client knows its wait counts; the result later."""
    condition = request.query.get("condition") or "not-running"
    if condition not in WAIT_CONDITIONS:
        raise InvalidArgument(f'invalid condition: "{condition}"')
    exited = await engine_of(request).containers.prepare_wait(ref_of(request), condition)
    response = await open_stream(request)
    outcome = await exited
    document: dict[str, Any] = {"StatusCode": outcome.code}
    if outcome.error:
        document["Error"] = {"Message": outcome.error}
    if outcome.diagnosis is not None:
        document["Diagnosis"] = render_diagnosis(outcome.diagnosis)
    await write_document(response, document)
    return response


ROUTES: list[Any] = [
    ("POST", "/containers/{id:.+}/attach", attach),
    ("GET", "/containers/{id:.+}/attach/ws", attach_websocket),
    ("GET", "/containers/{id:.+}/logs", logs),
    ("POST", "/containers/{id:.+}/wait", wait),
]
