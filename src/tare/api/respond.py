"""Plain answers."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web


def json_response(document: Any, *, status: int = 200) -> web.Response:
    """``document`` as JSON."""
    return web.Response(status=status, body=msgspec.json.encode(document) + b"\n", content_type="application/json")


def no_content() -> web.Response:
    """204: done, nothing to say."""
    return web.Response(status=204)
