"""Images to and from registries."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from tare.api import params
from tare.api.context import cancellable, engine_of
from tare.api.jsonstream import JsonStream
from tare.api.respond import json_response
from tare.errors import InvalidArgument
from tare.model import Platform
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
        _platform(query.get("platform", "")),
        stream.report,
        credentials_of(request),
    )
    return await stream.run(pushed, lambda _: [])


def _platform(text: str) -> Platform | None:
    """The JSON of an index's ``platform`` (image-index.md), as clients send it since API 1.46."""
    if not text:
        return None
    document = params.json_value(text, "platform")
    if not isinstance(document, dict):
        raise InvalidArgument("query parameter platform: expected a JSON object")
    values = [document.get(member, "") for member in ("os", "architecture", "variant")]
    if not all(isinstance(value, str) for value in values):
        raise InvalidArgument("query parameter platform: expected os, architecture and variant as texts")
    return Platform.parse("/".join(value for value in values if value))


async def distribution(request: web.Request) -> web.StreamResponse:
    """``GET /distribution/{name}/json``: what a registry has under a name."""
    found = await engine_of(request).images.look_up(request.match_info["name"], credentials_of(request))
    return json_response(
        {
            "Descriptor": {"mediaType": found.media_type, "digest": str(found.digest), "size": found.size},
            "Platforms": [dict(platform) for platform in found.platforms],
        }
    )


ROUTES: list[Any] = [("GET", "/distribution/{name:.*}/json", distribution)]
