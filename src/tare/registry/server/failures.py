"""Errors in the form of the distribution specification ("Error Codes"), with the status codes of this API."""

from __future__ import annotations

import msgspec

from tare.errors import (
    Conflict,
    Exhausted,
    Forbidden,
    InvalidArgument,
    NotFound,
    TareError,
    Unauthorized,
    Unavailable,
    Unsupported,
)

_BY_CODE = {
    "BLOB_UNKNOWN": 404,
    "MANIFEST_UNKNOWN": 404,
    "NAME_UNKNOWN": 404,
    "NAME_INVALID": 400,
    "TAG_INVALID": 400,
    "DIGEST_INVALID": 400,
    "PAGINATION_NUMBER_INVALID": 400,
    "READ_ONLY": 405,
}
_BY_KIND: tuple[tuple[type[TareError], int, str], ...] = (
    (NotFound, 404, "MANIFEST_UNKNOWN"),
    (InvalidArgument, 400, "MANIFEST_INVALID"),
    (Unauthorized, 401, "UNAUTHORIZED"),
    (Forbidden, 403, "DENIED"),
    (Unsupported, 404, "MANIFEST_UNKNOWN"),  # there is none for this client
    (Conflict, 404, "MANIFEST_UNKNOWN"),  # packages that cannot be put together: there is no such image
    (Unavailable, 503, "UNAVAILABLE"),
    (Exhausted, 503, "UNAVAILABLE"),
)
_NAMES = {"READ_ONLY": "UNSUPPORTED"}


def answer_of(error: TareError) -> tuple[int, bytes]:
    """Status and body for ``error``. Codes of the specification are taken as they are, others follow from the class."""
    if error.code in _BY_CODE:
        found = _BY_CODE[error.code], _NAMES.get(error.code, error.code)
    elif error.code == "UNSUPPORTED":
        found = 404, error.code
    else:
        found = next(((number, code) for kind, number, code in _BY_KIND if isinstance(error, kind)), (500, "UNKNOWN"))
    entry: dict[str, object] = {"code": found[1], "message": str(error)}
    if error.hint:
        entry["detail"] = {"hint": error.hint}
    return found[0], msgspec.json.encode({"errors": [entry]})
