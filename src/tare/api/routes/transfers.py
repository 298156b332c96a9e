"""Images to and from registries."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from tare.api import params
from tare.api.context import cancellable, engine_of
from tare.api.jsonstream import JsonStream
from tare.api.respond import json_response
from tare.errors import InvalidArgument
from tare.registry.credentials import Credentials


def credentials_of(request: web.Request) -> Credentials | None:
    """What the client logs in to the registry with. Raises InvalidArgument."""
    return Credentials.from_header(request.headers.get("X-Registry-Auth", ""))


async def pull(request: web.Request) -> web.StreamResponse:
    """``POST /images/create`` with ``fromImage``; without tag and digest all tags are pulled."""
    query = request.query
    name, tag_or_digest = query.get("fromImage", ""), query.get("tag", "")
    if not name:
        raise InvalidArgument("query parameter fromImage or fromSrc is missing")
    reference = name
    if tag_or_digest:
        reference = f"{name}{'@' if ':' in tag_or_digest else ':'}{tag_or_digest}"
    stream = JsonStream(request)
    pulled = engine_of(request).images.pull(
        reference, query.get("platform", ""), stream.report, credentials_of(request)
    )
    return await stream.run(pulled, lambda _: [])


@cancellable
async def push(request: web.Request) -> web.StreamResponse:
    """``POST /images/{name}/push``; without tag all tags of the repository are pushed."""
    query = request.query
    stream = JsonStream(request)
    pushed = engine_of(request).images.push(
        request.match_info["name"],
        query.get("tag", ""),
        params.platform(query),
        stream.report,
        credentials_of(request),
    )
    return await stream.run(pushed, lambda _: [])


async def distribution(request: web.Request) -> web.StreamResponse:
    """``GET /distribution/{name}/json``: what a registry has under a name."""
    found = await engine_of(request).images.look_up(request.match_info["name"], credentials_of(request))
    return json_response(
        {
            "Descriptor": {"mediaType": found.media_type, "digest": str(found.digest), "size": found.size},
            "Platforms": [dict(platform) for platform in found.platforms],
        }
    )


async def referrers(request: web.Request) -> web.StreamResponse:
    """``GET /tare/distribution/{name}/referrers``: what refers to an image at its registry."""
    subject, index = await engine_of(request).images.referrers(
        request.match_info["name"], request.query.get("artifactType", ""), credentials_of(request)
    )
    return json_response({"subject": str(subject), "referrers": msgspec.to_builtins(index.manifests)})


ROUTES: list[Any] = [
    ("GET", "/distribution/{name:.*}/json", distribution),
    ("GET", "/tare/distribution/{name:.*}/referrers", referrers),
]
