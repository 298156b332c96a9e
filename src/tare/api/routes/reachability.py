"""Who reaches whom: routes under ``/tare/networks/``."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from tare.api import params
from tare.api.context import engine_of
from tare.api.respond import json_response
from tare.api.schema.reachability import (
    read_questions,
    render_answer,
    render_exposure,
    render_graph,
    render_proof,
)


async def explain(request: web.Request) -> web.StreamResponse:
    """``GET /tare/networks/explain``: whether ``from`` reaches ``to`` at ``port`` (``80``, ``80/udp``, none)."""
    query = request.query
    answer = await engine_of(request).reachability.explain(
        query.get("from", ""), query.get("to", ""), query.get("port", "")
    )
    return json_response(render_answer(answer))


async def explain_all(request: web.Request) -> web.StreamResponse:
    """``POST /tare/networks/explain``: the answers to many questions about one moment, in their order.

    Body: ``{"questions": [{"from": …, "to": …, "port": "80"}, …]}``, each as :func:`explain` takes it.
    """
    questions = read_questions(await params.body_document(request))
    answers = await engine_of(request).reachability.explain_all(questions)
    return json_response({"answers": [render_answer(answer) for answer in answers]})


async def verify(request: web.Request) -> web.StreamResponse:
    """``POST /tare/networks/verify``: predictions beside what real sockets find.

    Body (optional): ``{"containers": [NAME, …]}``; all that run when there is none.
    """
    document = await params.body_document(request, optional=True)
    containers = params.convert(params.without_nulls(document).get("containers", []), list[str])
    topology, proof = await engine_of(request).reachability.verify(containers)
    return json_response(render_proof(topology, proof))


async def exposure(request: web.Request) -> web.StreamResponse:
    """``GET /tare/networks/exposure``: what the world can reach."""
    found = await engine_of(request).reachability.exposure()
    return json_response({"exposures": [render_exposure(one) for one in found]})


async def graph(request: web.Request) -> web.StreamResponse:
    """``GET /tare/networks/graph``: networks, containers, ports and who reaches whom."""
    found = await engine_of(request).reachability.graph()
    return json_response(render_graph(*found))


ROUTES: list[Any] = [
    ("GET", "/tare/networks/graph", graph),
    ("GET", "/tare/networks/exposure", exposure),
    ("POST", "/tare/networks/verify", verify),
    ("GET", "/tare/networks/explain", explain),
    ("POST", "/tare/networks/explain", explain_all),
]
