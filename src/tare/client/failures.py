"""Error answers of the engine as errors of :mod:`tare.errors`."""

from __future__ import annotations

import json
from collections.abc import Mapping

from tare.client.endpoint import Endpoint
from tare.errors import (
    Conflict,
    Diagnosis,
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


_KINDS_OF_CODES: dict[str, type[TareError]] = {
    "registry-login-failed": Unauthorized,
    "registry-no-basic-auth": Unauthorized,
    "registry-unreachable": Unavailable,
    "registry-unavailable": Unavailable,
}
"""What Docker answers with 500, and so does the engine."""


def error_of(status: int, body: bytes) -> TareError:
    """The error that an answer with ``status`` and ``body`` (the API's ErrorResponse) stands for."""
    message, hint, code = body.decode(errors="replace").strip() or f"the engine answered with status {status}", "", ""
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if isinstance(document, dict):
        message, hint, code = (str(document.get(name) or "") for name in ("message", "hint", "code"))
    kind = _KINDS_OF_CODES.get(code) or next((kind for known, kind in _KINDS if known == status), InternalError)
    error = kind(message.removesuffix(f" ({hint})") if hint else message, hint=hint, code=code or "engine")
    if isinstance(document, dict):
        error.diagnosis = diagnosis_of(document.get("diagnosis"))
    return error


def failure_of(event: Mapping[str, object]) -> TareError:
    """The error that the last document of a stream stands for: its ``message``, ``hint`` and ``code``."""
    message, hint, code = (str(event.get(name) or "") for name in ("message", "hint", "code"))
    return InternalError(message, hint=hint, code=code or "engine")


def diagnosis_of(document: object) -> Diagnosis | None:
    """A diagnosis from its members, in the spelling of errors or of a container's state."""
    if not isinstance(document, dict):
        return None
    values = {str(name).lower(): str(value) for name, value in document.items()}
    names = ("code", "subject", "cause", "fix")
    return Diagnosis(**{name: values.get(name, "") for name in names})


def connection_error(endpoint: Endpoint, error: OSError) -> TareError:
    """Why nobody could be reached at ``endpoint``."""
    if isinstance(error, PermissionError):
        return Forbidden(
            f"permission denied while trying to connect to the Tare engine at {endpoint}",
            hint="run as root, or as a member of the socket's group",
        )
    return Unavailable(
        f"cannot connect to the Tare engine at {endpoint}: {error.strerror or error}",
        hint="is tared running?",
        code="engine-down",
    )


def interrupted() -> Unavailable:
    """The engine went away before its answer was complete."""
    return Unavailable("the engine closed the connection in the middle of its answer")


_OWN_CODES = frozenset(
    {
        "engine-down",
        "engine-start",
        "invalid-flag",
        "cidfile",
        "template",
        "client-config",
        "credential-helper",
        "login",
        "transfer",
    }
)
"""Codes of errors that the client itself raises."""


def is_answer(error: TareError) -> bool:
    """Whether the engine gave this error, as against the client itself."""
    return bool(error.code) and error.code not in _OWN_CODES
