"""A registry that is opened through the API: what is asked for, and what is told."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from tare.api.params import convert, without_nulls
from tare.archive.compression import Compression
from tare.engine.serving import DEFAULT_ADDRESS, Opened, ServeOrder
from tare.model import Platform
from tare.registry.server.handling import Visit


class _ServeBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    address: str = DEFAULT_ADDRESS
    certificate: str = ""
    key: str = ""
    htpasswd: str = ""
    images: list[str] = []
    virtual: bool = True
    platforms: list[str] = []
    compression: Literal["none", "gzip", "zstd"] = "none"
    insecure: bool = False


def read_serve(document: dict[str, Any]) -> ServeOrder:
    """The body of ``POST /tare/registry/serve``: fields of ServeOrder by their own names. Raises InvalidArgument."""
    body = convert(without_nulls(document), _ServeBody)
    return ServeOrder(
        address=body.address,
        certificate=body.certificate,
        key=body.key,
        htpasswd=body.htpasswd,
        images=tuple(body.images),
        virtual=body.virtual,
        platforms=tuple(Platform.parse(text) for text in body.platforms),
        compression=Compression(body.compression),
        insecure=body.insecure,
    )


def render_opened(opened: Opened) -> dict[str, Any]:
    """The first document."""
    return {"event": "listening", **msgspec.to_builtins(opened)}


def render_visit(visit: Visit) -> dict[str, Any]:
    """One request; ``whole`` says whether the client took all of the answer."""
    return {
        "event": "request",
        "time": visit.moment,
        "address": visit.address,
        "user": visit.user,
        "agent": visit.agent,
        "method": visit.method,
        "kind": visit.kind,
        "object": visit.label,
        "digest": visit.digest,
        "status": visit.number,
        "size": visit.size,
        "seconds": visit.seconds,
        "whole": visit.whole,
        "message": visit.message,
    }
