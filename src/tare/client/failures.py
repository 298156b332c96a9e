"""Error answers of the engine as errors of :mod:`tare.errors`."""

from __future__ import annotations

import json

from tare.errors import (
    Conflict,
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

_KINDS: tuple[tuple[int, type[TareError]], ...] = (
    (304, NotModified),
    (400, InvalidArgument),
    (401, Unauthorized),
    (403, Forbidden),
    (404, NotFound),
    (409, Conflict),
    (501, Unsupported),
    (503, Unavailable),
)


def error_of(status: int, body: bytes) -> TareError:
    """The error that an answer with ``status`` and ``body`` (the API's ErrorResponse) stands for."""
    message, hint, code = body.decode(errors="replace").strip() or f"the engine answered with status {status}", "", ""
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if isinstance(document, dict):
        message, hint, code = (str(document.get(name) or "") for name in ("message", "hint", "code"))
    kind = next((kind for known, kind in _KINDS if known == status), InternalError)
    return kind(message.removesuffix(f" ({hint})") if hint else message, hint=hint, code=code or "engine")


def is_answer(error: TareError) -> bool:
    """Whether the engine gave this error, as against the client itself."""
    return bool(error.code) and error.code not in ("engine-down", "engine-start")
