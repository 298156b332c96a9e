"""Audits: ``POST /tare/images/{name}/audit``, ``POST /tare/containers/{id}/audit``, ``GET /tare/audit/rules``.

The body is a JSON object, all members optional: ``Distroless`` (only the proof), ``Programs`` (paths or names that
count as entrypoints, too), ``FailOn`` (a severity), ``Policy`` (the policy's document). Nothing is changed by an audit.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from tare.api import params
from tare.api.context import engine_of
from tare.api.respond import json_response
from tare.api.routes.containers import ref_of
from tare.api.schema.audits import read_audit, render_audit, render_rules


async def audit_image(request: web.Request) -> web.StreamResponse:
    """``POST /tare/images/{name}/audit``."""
    question, fail_on = read_audit(await params.body_document(request, optional=True))
    answer = await engine_of(request).audits.image(request.match_info["name"], question, fail_on)
    return json_response(render_audit(answer))


async def audit_container(request: web.Request) -> web.StreamResponse:
    """``POST /tare/containers/{id}/audit``."""
    question, fail_on = read_audit(await params.body_document(request, optional=True))
    return json_response(render_audit(await engine_of(request).audits.container(ref_of(request), question, fail_on)))


async def rules(request: web.Request) -> web.StreamResponse:
    """``GET /tare/audit/rules``: every rule with its severity, why and fix."""
    assert request.method == "GET"
    return json_response(render_rules())


ROUTES: list[Any] = [
    ("GET", "/tare/audit/rules", rules),
    ("POST", "/tare/images/{name:.*}/audit", audit_image),
    ("POST", "/tare/containers/{id}/audit", audit_container),
]
