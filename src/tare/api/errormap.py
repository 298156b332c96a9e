"""Errors as HTTP answers: the only place that knows which status code an error has."""

from __future__ import annotations

import msgspec
from aiohttp import web

from tare.errors import (
    Conflict,
    DataCorrupt,
    Diagnosis,
    Exhausted,
    Forbidden,
    InternalError,
    InvalidArgument,
    NotFound,
    NotModified,
    TareError,
    Unauthorized,
    Unavailable,
    Unsupported,
)

_STATUS: tuple[tuple[type[TareError], int], ...] = (
    (NotFound, 404),
    (Conflict, 409),
    (InvalidArgument, 400),
    (NotModified, 304),
    (Forbidden, 403),
    (Unauthorized, 401),
    (Unsupported, 501),
    (Unavailable, 503),
    (Exhausted, 500),
    (DataCorrupt, 500),
    (InternalError, 500),
)

_SERVER_ERROR_CODES = frozenset(
    {
        "port-in-use",
        "kind-differs",
        "file-operation",
        "update-refused",
        "ps-failed",
        "macvlan-parent",
        "macvlan-mode",
        "macvlan-refused",
        "registry-no-basic-auth",  # with 401 Docker's command line would ask for a password and try again
        "registry-login-failed",
        "registry-unreachable",
        "registry-unavailable",
    }
)
"""Conflicts with the host or among a container's files, not with an object of the engine: Docker answers with 500."""

_CODE_STATUS = {
    "registry-toomanyrequests": 429,
    "registry-unsupported": 405,
    "registry-unknown": 500,
}
"""What a registry refuses is answered with the status that its error code stands for, as Docker does."""


def status_of(error: TareError) -> int:
    """The HTTP status code of ``error``, as Docker's routes give it."""
    if error.code in _SERVER_ERROR_CODES:
        return 500
    if (status := _CODE_STATUS.get(error.code)) is not None:
        return status
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def error_document(message: str, *, code: str = "", hint: str = "", diagnosis: Diagnosis | None = None) -> bytes:
    """The body of an error answer: ``message`` is Docker's, the other members are Tare's addition."""
    document: dict[str, object] = {"message": message}
    if code:
        document["code"] = code
    if hint:
        document["hint"] = hint
    if diagnosis is not None:
        document["diagnosis"] = diagnosis
    return msgspec.json.encode(document) + b"\n"


def error_response(error: TareError) -> web.Response:
    """``error`` as the answer to its request."""
    status = status_of(error)
    if status == 304:
        return web.Response(status=304)
    return message_response(status, str(error), code=error.code, hint=error.hint, diagnosis=error.diagnosis)


def message_response(
    status: int, message: str, *, code: str = "", hint: str = "", diagnosis: Diagnosis | None = None
) -> web.Response:
    """An error answer with ``message``."""
    body = error_document(message, code=code, hint=hint, diagnosis=diagnosis)
    return web.Response(status=status, body=body, content_type="application/json")
