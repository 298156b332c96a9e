"""What routes find on the application and the request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from aiohttp import web

from tare.api.versions import Version

if TYPE_CHECKING:
    from tare.engine.engine import Engine

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
AnyHandler = TypeVar("AnyHandler", bound=Handler)

ENGINE: web.AppKey[Any] = web.AppKey("engine", object)
VERSION: web.RequestKey[Version] = web.RequestKey("version", tuple)

_CANCELLABLE = "tare_cancellable"


def engine_of(request: web.Request) -> Engine:
    """The engine that the request is for."""
    engine: Engine = request.app[ENGINE]
    return engine


def cancellable(handler: AnyHandler) -> AnyHandler:
    """Mark a handler that ends when its client goes away; all others run to their end (as in Docker)."""
    setattr(handler, _CANCELLABLE, True)
    return handler


def is_cancellable(handler: object) -> bool:
    """Whether :func:`cancellable` marked ``handler``."""
    return bool(getattr(handler, _CANCELLABLE, False))
