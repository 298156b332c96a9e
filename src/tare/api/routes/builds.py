"""Build routes in Docker's form: a tar as context, the classic builder's messages as answer."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web
from multidict import MultiMapping

from tare.api import params
from tare.api.buildlog import ClassicLog, build_error
from tare.api.context import cancellable, engine_of
from tare.api.jsonstream import JsonStream
from tare.api.respond import json_response
from tare.api.schema.cache import read_prune, render_pruned
from tare.api.schema.registries import read_config
from tare.build.request import Ulimit
from tare.engine.requests import BuildJob
from tare.errors import InvalidArgument, Unsupported

CHUNK = 256 * 1024


_LIMITS = ("memory", "memswap", "cpushares", "cpuperiod", "cpuquota")
_TEXT_LIMITS = ("cpusetcpus", "cgroupparent")


class _Ulimit(msgspec.Struct, rename="pascal"):
    name: str
    soft: int
    hard: int


@cancellable
async def build(request: web.Request) -> web.StreamResponse:
    """``POST /build``; the build ends when the client goes away."""
    job = read_job(request.query, request)
    stream = JsonStream(request)
    log = ClassicLog(stream.report, quiet=job.quiet)
    return await stream.run(engine_of(request).builds.build(job, log.observe), lambda _: [], build_error)


def read_job(query: MultiMapping[str], request: web.Request) -> BuildJob:
    """The job that a ``POST /build`` asks for (Engine API 1.51, ``ImageBuild``).

    ``rm`` and ``forcerm`` speak of containers that this builder does not make, ``cachefrom`` of images to look for
    results in: the build cache has them anyway. Raises InvalidArgument, Unsupported for what must not be left out.
    """
    _refuse_foreign(query)
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
        shm_size=_shm_size(query),
        quiet=params.flag(query, "q"),
        ulimits=_ulimits(query),
        notes=_ignored_limits(query),
        credentials=read_config(request.headers.get("X-Registry-Config", "")),
    )


def _refuse_foreign(query: MultiMapping[str]) -> None:
    """What only other builders can do, in Docker's words where it has some."""
    version = query.get("version", "")
    if version == "2" or query.get("remote") == "client-session":
        raise Unsupported("BuildKit sessions are not supported; set DOCKER_BUILDKIT=0")
    if version not in ("", "1"):
        raise InvalidArgument(f"invalid version: {version!r}", hint="use 1")
    if params.flag(query, "squash"):
        raise Unsupported("squash is only supported with experimental mode", hint="use a stage: COPY --from=… / /")
    if query.get("outputs", "") not in ("", "[]", "null"):
        raise Unsupported("outputs need BuildKit's protocol", hint="use `tare build --output`")
    if query.get("securityopt", "") not in ("", "[]", "null"):
        raise InvalidArgument("the daemon on this platform does not support setting security options on build")
    if (text := query.get("cachefrom", "")) and not isinstance(params.json_value(text, "cachefrom"), list | None):
        raise InvalidArgument("query parameter cachefrom: expected a JSON array")


def _shm_size(query: MultiMapping[str]) -> int:
    size = params.number(query, "shmsize") or 0
    if size < 0:
        raise InvalidArgument("SHM size can not be less than 0")
    return size


def _ulimits(query: MultiMapping[str]) -> tuple[Ulimit, ...]:
    text = query.get("ulimits", "")
    items = params.convert(params.json_value(text, "ulimits") or [], list[_Ulimit]) if text else []
    return tuple(Ulimit(name=item.name, soft=item.soft, hard=item.hard) for item in items)


def _ignored_limits(query: MultiMapping[str]) -> tuple[str, ...]:
    """Limits of the classic builder's containers; as in BuildKit they do not bind RUN steps, which is said."""
    given = [name for name in _LIMITS if params.number(query, name)]
    given += [name for name in _TEXT_LIMITS if query.get(name)]
    return (f"[Warning] {', '.join(given)}: not applied to RUN steps",) if given else ()


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
