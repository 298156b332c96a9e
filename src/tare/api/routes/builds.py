"""Build routes in Docker's form: a tar as context, the classic builder's messages as answer."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from multidict import MultiMapping

from tare.api import params
from tare.api.buildlog import ClassicLog, build_error
from tare.api.context import cancellable, engine_of
from tare.api.jsonstream import JsonStream
from tare.api.respond import json_response
from tare.api.schema.cache import read_prune, render_pruned
from tare.engine.requests import BuildJob
from tare.errors import InvalidArgument, Unsupported

CHUNK = 256 * 1024


@cancellable
async def build(request: web.Request) -> web.StreamResponse:
    """``POST /build``; the build ends when the client goes away."""
    query = request.query
    if query.get("version") == "2":
        raise Unsupported("BuildKit sessions are not supported; set DOCKER_BUILDKIT=0")
    job = read_job(query, request)
    stream = JsonStream(request)
    log = ClassicLog(stream.report, quiet=job.quiet)
    return await stream.run(engine_of(request).builds.build(job, log.observe), lambda _: [], build_error)


def read_job(query: MultiMapping[str], request: web.Request) -> BuildJob:
    """The job that a ``POST /build`` asks for."""
    labels = params.string_map(query, "labels")
    if any(value is None for value in labels.values()):
        raise InvalidArgument("query parameter labels: values must be strings")
    remote = query.get("remote", "")
    return BuildJob(
        tar=None if remote else request.content.iter_chunked(CHUNK),
        remote=remote,
        dockerfile=query.get("dockerfile") or "Dockerfile",
        tags=tuple(tag for tag in query.getall("t", []) if tag),
        build_args=params.string_map(query, "buildargs"),
        labels={name: value or "" for name, value in labels.items()},
        target=query.get("target", ""),
        no_cache=params.flag(query, "nocache"),
        pull=params.flag(query, "pull"),
        network=query.get("networkmode", ""),
        extra_hosts=_extra_hosts(query),
        platform=query.get("platform", ""),
        shm_size=params.number(query, "shmsize") or 0,
        quiet=params.flag(query, "q"),
    )


def _extra_hosts(query: MultiMapping[str]) -> tuple[str, ...]:
    # Docker's CLI sends one parameter per host, docker-py one with commas.
    return tuple(host for value in query.getall("extrahosts", []) for host in value.split(",") if host)


async def prune(request: web.Request) -> web.StreamResponse:
    """``POST /build/prune``."""
    return json_response(render_pruned(await engine_of(request).build_cache.prune(read_prune(request.query))))


async def session(request: web.Request) -> web.StreamResponse:
    """``POST /session``, ``/grpc``: BuildKit's own protocol."""
    raise Unsupported("BuildKit sessions are not supported; set DOCKER_BUILDKIT=0")


ROUTES: list[Any] = [
    ("POST", "/build", build),
    ("POST", "/build/prune", prune),
    ("POST", "/session", session),
    ("POST", "/grpc", session),
]
