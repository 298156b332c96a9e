"""What the routes for files of containers and of volumes share: the path that is asked for, tars as answers."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from aiohttp import web

from tare.api.jsonstream import open_stream
from tare.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

_TAR = "application/x-tar"


def path_of(request: web.Request) -> str:
    """The query's ``path``. Raises InvalidArgument in Docker's words when there is none."""
    path = request.query.get("path", "")
    if not path:
        raise InvalidArgument("bad parameter: pathcannot be empty")
    return path


async def send_tar(
    request: web.Request, chunks: AsyncGenerator[bytes, None], headers: dict[str, str]
) -> web.StreamResponse:
    """The answer that carries ``chunks``, which are closed in any case."""
    async with aclosing(chunks):
        response = await open_stream(request, _TAR, headers=headers)
        async for data in chunks:
            await response.write(data)
    return response
