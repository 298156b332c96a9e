"""Network routes."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from tare.api import params
from tare.api.context import engine_of
from tare.api.respond import json_response, no_content
from tare.api.schema.networks import read_create, render_network
from tare.api.schema.requests import read_endpoint
from tare.errors import InvalidArgument


def ref_of(request: web.Request) -> str:
    """The network that the path names."""
    return request.match_info["id"]


async def list_networks(request: web.Request) -> web.StreamResponse:
    """``GET /networks``."""
    networks = await engine_of(request).networks.list(params.filters(request.query))
    return json_response([render_network(network) for network in networks])


async def create(request: web.Request) -> web.StreamResponse:
    """``POST /networks/create``."""
    asked = read_create(await params.body_document(request))
    network_id, warning = await engine_of(request).networks.create(asked)
    return json_response({"Id": network_id, "Warning": warning}, status=201)


async def inspect(request: web.Request) -> web.StreamResponse:
    """``GET /networks/{id}``."""
    details = await engine_of(request).networks.inspect(ref_of(request))
    return json_response(render_network(details.network, details.endpoints))


async def remove(request: web.Request) -> web.StreamResponse:
    """``DELETE /networks/{id}``."""
    await engine_of(request).networks.remove(ref_of(request))
    return no_content()


async def connect(request: web.Request) -> web.StreamResponse:
    """``POST /networks/{id}/connect``."""
    document = await params.body_document(request)
    settings = read_endpoint(document.get("EndpointConfig"))
    await engine_of(request).networks.connect(ref_of(request), _container(document), settings)
    return web.Response(status=200)


async def disconnect(request: web.Request) -> web.StreamResponse:
    """``POST /networks/{id}/disconnect``."""
    document = await params.body_document(request)
    await engine_of(request).networks.disconnect(
        ref_of(request), _container(document), force=bool(document.get("Force"))
    )
    return web.Response(status=200)


def _container(document: dict[str, Any]) -> str:
    name = document.get("Container")
    if not isinstance(name, str) or not name:
        raise InvalidArgument("invalid request: Container is missing: a name or an id")
    return name


async def prune(request: web.Request) -> web.StreamResponse:
    """``POST /networks/prune``."""
    removed = await engine_of(request).networks.prune(params.filters(request.query))
    return json_response({"NetworksDeleted": list(removed)})


ROUTES: list[Any] = [
    ("GET", "/networks", list_networks),
    ("POST", "/networks/create", create),
    ("POST", "/networks/prune", prune),
    ("GET", "/networks/{id}", inspect),
    ("DELETE", "/networks/{id}", remove),
    ("POST", "/networks/{id}/connect", connect),
    ("POST", "/networks/{id}/disconnect", disconnect),
]
