"""Who reaches whom: routes under ``/tare/networks/``."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from tare.api.context import engine_of
from tare.api.respond import json_response
from tare.api.schema.reachability import render_answer


async def explain(request: web.Request) -> web.StreamResponse:
    """``GET /tare/networks/explain``: whether ``from`` reaches ``to`` at ``port`` (``80``, ``80/udp``, none)."""
    query = request.query
    answer = await engine_of(request).reachability.explain(
        query.get("from", ""), query.get("to", ""), query.get("port", "")
    )
    return json_response(render_answer(answer))


ROUTES: list[Any] = [
    ("GET", "/tare/networks/explain", explain),
]
