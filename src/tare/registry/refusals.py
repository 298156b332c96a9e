"""What registries answer when they refuse, in their own words, as Docker shows them.

Sources: distribution-spec 1.1 ("Error Codes"), RFC 6750 section 3, and the words of Docker 28 for the same answers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from http import HTTPStatus

import msgspec

from tare.errors import Forbidden, InvalidArgument, NotFound, TareError, Unauthorized, Unavailable, Unsupported
from tare.model import Reference
from tare.registry.challenges import Challenge

UNAUTHORIZED, DENIED = "UNAUTHORIZED", "DENIED"
MANIFEST_UNKNOWN, NAME_UNKNOWN = "MANIFEST_UNKNOWN", "NAME_UNKNOWN"
TOO_MANY_REQUESTS, UNKNOWN, UNAVAILABLE = "TOOMANYREQUESTS", "UNKNOWN", "UNAVAILABLE"

# The codes of the protocol, with the message that says no more than the code itself.
_MESSAGES = {
    UNKNOWN: "unknown error",
    "UNSUPPORTED": "The operation is unsupported.",
    UNAUTHORIZED: "authentication required",
    DENIED: "requested access to the resource is denied",
    UNAVAILABLE: "service unavailable",
    TOO_MANY_REQUESTS: "too many requests",
    "DIGEST_INVALID": "provided digest did not match uploaded content",
    "SIZE_INVALID": "provided length did not match content length",
    "RANGE_INVALID": "invalid content range",
    "NAME_INVALID": "invalid repository name",
    "TAG_INVALID": "manifest tag did not match URI",
    NAME_UNKNOWN: "repository name not known to registry",
    MANIFEST_UNKNOWN: "manifest unknown",
    "MANIFEST_INVALID": "manifest invalid",
    "MANIFEST_UNVERIFIED": "manifest failed signature verification",
    "MANIFEST_BLOB_UNKNOWN": "blob unknown to registry",
    "BLOB_UNKNOWN": "blob unknown to registry",
    "BLOB_UPLOAD_UNKNOWN": "blob upload unknown to registry",
    "BLOB_UPLOAD_INVALID": "blob upload invalid",
    "PAGINATION_NUMBER_INVALID": "invalid number of results requested",
}
_KINDS: dict[str, type[TareError]] = {
    UNAUTHORIZED: Unauthorized,
    DENIED: Forbidden,
    MANIFEST_UNKNOWN: NotFound,
    NAME_UNKNOWN: NotFound,
    "BLOB_UNKNOWN": NotFound,
    "BLOB_UPLOAD_UNKNOWN": NotFound,
    "MANIFEST_BLOB_UNKNOWN": NotFound,
    "UNSUPPORTED": Unsupported,
    "NAME_INVALID": InvalidArgument,
    "TAG_INVALID": InvalidArgument,
    "MANIFEST_INVALID": InvalidArgument,
    "DIGEST_INVALID": InvalidArgument,
    "SIZE_INVALID": InvalidArgument,
}
_BY_STATUS = {401: UNAUTHORIZED, 403: DENIED, 429: TOO_MANY_REQUESTS}
_BEARER_ERRORS = {"invalid_token": UNAUTHORIZED, "insufficient_scope": DENIED}
_SHOWN = 2000  # characters of an answer
RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})


class _Entry(msgspec.Struct):
    code: str = UNKNOWN
    message: str = ""
    detail: object = None


class _Body(msgspec.Struct):
    errors: list[_Entry] | None = None
    details: str = ""


class Refusal(Exception):
    """An answer that is no success: its status, and the first error of its body.

    ``bare`` tells that the body said no more than the code: then Docker shows the code alone.
    """

    def __init__(self, status: int, code: str, message: str, *, bare: bool = False, text: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.bare = bare
        self._text = text

    @property
    def words(self) -> str:
        """``manifest unknown: manifest unknown``, or the code alone, or the status line."""
        if self._text:
            return self._text
        name = self.code.lower().replace("_", " ")
        return name if self.bare else f"{name}: {self.message}"

    def error(self) -> TareError:
        """For everything but pulls: the registry's words as they are."""
        kind = _KINDS.get(self.code, Unavailable)
        return kind(self.words, code=error_code(self.code))

    def pull_error(self, name: Reference) -> TareError:
        """For the manifest of ``name``: what the refusal means is said before the registry's words."""
        if self.bare:
            return self.error()
        if self.code == DENIED:
            text = f"pull access denied for {name.familiar_name}, "
            text += "repository does not exist or may require 'docker login'"
        elif self.code == MANIFEST_UNKNOWN:
            text = f"manifest for {name.familiar()} not found"
        elif self.code == NAME_UNKNOWN:
            text = f"repository {name.familiar_name} not found"
        else:
            return self.error()
        return NotFound(f"{text}: {self.words}", code=error_code(self.code))

    def blob_error(self, name: Reference) -> TareError:
        """For blobs of a pull: one that is not there is unknown, all else is as with the manifest."""
        if self.status == 404:
            return NotFound("unknown blob", code=error_code("BLOB_UNKNOWN"))
        return self.pull_error(name)


def error_code(registry_code: str) -> str:
    """The machine-readable name of a registry's error code: ``registry-manifest-unknown``."""
    return "registry-" + registry_code.lower().replace("_", "-")


def read_refusal(status: int, body: bytes, challenges: Sequence[Challenge]) -> Refusal:
    """The refusal that an answer with ``status`` (400 or more) and ``body`` is."""
    if status >= 500:
        return Refusal(status, UNAVAILABLE, "", text=f"received unexpected HTTP status: {status} {_phrase(status)}")
    if status == 401:  # the only status with which the header tells more than the body
        for challenge in challenges:
            code = _BEARER_ERRORS.get(challenge.parameters.get("error", ""))
            if challenge.scheme == "bearer" and code is not None:
                description = _shown(challenge.parameters.get("error_description", ""))
                return Refusal(status, code, description or _MESSAGES[code])
    if not body and status in _BY_STATUS:  # an answer to HEAD
        return Refusal(status, _BY_STATUS[status], _MESSAGES[_BY_STATUS[status]])
    by_status = _BY_STATUS.get(status, UNKNOWN)
    try:
        read = msgspec.json.decode(body, type=_Body)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return Refusal(status, by_status, _printable(body))
    if read.details:
        return Refusal(status, by_status, _shown(read.details))
    if not read.errors:
        text = (
            f"error parsing HTTP {status} response body: no error details found in HTTP response body: "
            f"{json.dumps(_printable(body))}"
        )
        return Refusal(status, by_status, "", text=text)
    first = read.errors[0]
    code = first.code if first.code in _MESSAGES else UNKNOWN
    bare = first.detail is None and first.message in ("", _MESSAGES[code])
    return Refusal(status, code, _shown(first.message) or _MESSAGES[code], bare=bare)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _printable(body: bytes) -> str:
    return _shown(body[:_SHOWN].decode(errors="replace"))


def _shown(text: str) -> str:
    """``text`` as part of an error message: bounded, without what would change a terminal."""
    return "".join(character if character.isprintable() else " " for character in text[:_SHOWN]).strip()
