"""Images as archives: ``docker save`` and ``docker load``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from tare.api import params
from tare.api.archives import send_tar
from tare.api.context import VERSION, cancellable, engine_of
from tare.api.jsonstream import JsonStream
from tare.api.uploads import UploadReader
from tare.model import Platform

if TYPE_CHECKING:
    from tare.engine.image_archives.loading import LoadedImage

_PLATFORM_SINCE = (1, 48)


@cancellable
async def load(request: web.Request) -> web.StreamResponse:
    """``POST /images/load``: all images of the body's archive, or none."""
    platform = _platform(request)
    stream = JsonStream(request)
    loading = engine_of(request).image_loader.load(
        UploadReader(request.content),
        platform=platform,
        progress=None if params.flag(request.query, "quiet") else stream.report,
    )
    return await stream.run(loading, lambda images: _lines(images) or [{}])


@cancellable
async def save_one(request: web.Request) -> web.StreamResponse:
    """``GET /images/{name}/get``."""
    return await _save(request, [request.match_info["name"]])


@cancellable
async def save_several(request: web.Request) -> web.StreamResponse:
    """``GET /images/get?names=…``."""
    return await _save(request, request.query.getall("names", []))


async def _save(request: web.Request, names: list[str]) -> web.StreamResponse:
    pieces = await engine_of(request).image_saver.save(names, platform=_platform(request))
    return await send_tar(request, pieces, {})


def _lines(images: list[LoadedImage]) -> list[dict[str, Any]]:
    """What Docker says of loaded images; the platforms that were left out are Tare's addition."""
    lines = []
    for image in images:
        for name in image.names:
            if (before := image.renamed.get(name)) is not None:
                lines.append(
                    f"The image {name.familiar()} already exists, renaming the old one with ID {before} to empty string"
                )
            lines.append(f"Loaded image: {name.familiar()}")
        if not image.names:
            lines.append(f"Loaded image ID: {image.id}")
        if image.others:
            others = ", ".join(str(platform) for platform in image.others)
            lines.append(f"Not loaded, as they are for other platforms: {others}")
    # images for several platforms have a name together, which is told once
    return [{"stream": f"{line}\n"} for line in dict.fromkeys(lines)]


def _platform(request: web.Request) -> Platform | None:
    return params.platform(request.query) if request[VERSION] >= _PLATFORM_SINCE else None


ROUTES: list[Any] = [
    ("GET", "/images/get", save_several),
    ("GET", "/images/{name:.*}/get", save_one),
    ("POST", "/images/load", load),
]
