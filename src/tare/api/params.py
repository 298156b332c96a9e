"""Reading requests: query values, filters, JSON bodies; every problem is an InvalidArgument that names the field."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from aiohttp import web
from multidict import MultiMapping

from tare.errors import InvalidArgument
from tare.model import Platform

T = TypeVar("T")

BODY_LIMIT = 16 * 1024 * 1024
"""Longest JSON document that a request may carry, in bytes."""

FRAMED, DOCUMENT_LENGTH = "application/vnd.tare.build", "Tare-Document-Length"
"""A body that is a JSON document and a stream: its media type, and the header with the document's length in bytes."""

_FALSE = frozenset({"", "0", "no", "false", "none"})
_UNIX_TIME = re.compile(r"(\d+)(?:\.(\d{1,9}))?")


def flag(query: Mapping[str, str], name: str, *, default: bool = False) -> bool:
    """A boolean of the query: everything but empty, 0, no, false and none is true (Docker's BoolValue)."""
    value = query.get(name)
    return default if value is None else value.strip().lower() not in _FALSE


def number(query: Mapping[str, str], name: str) -> int | None:
    """An integer of the query; None where it is absent or empty."""
    value = query.get(name, "")
    if not value:
        return None
    try:
        return int(value)
    except ValueError as error:
        raise InvalidArgument(f"query parameter {name}: {value!r} is not a number") from error


def required_number(query: Mapping[str, str], name: str) -> int:
    """An integer that must be in the query."""
    value = number(query, name)
    if value is None:
        raise InvalidArgument(f"query parameter {name} is missing")
    return value


def filters(query: Mapping[str, str]) -> dict[str, list[str]]:
    """The ``filters`` of the query: a JSON object of lists, or of objects with true values (both forms of Docker)."""
    text = query.get("filters", "")
    if not text:
        return {}
    document = json_value(text, "filters")
    if not isinstance(document, dict):
        raise InvalidArgument("query parameter filters: expected a JSON object")
    return {name: _filter_values(name, values) for name, values in document.items()}


def _filter_values(name: str, values: object) -> list[str]:
    if isinstance(values, dict):
        return [str(value) for value, wanted in values.items() if wanted]
    if isinstance(values, list):
        return [_filter_text(value) for value in values]
    raise InvalidArgument(f"query parameter filters: the values of {name!r} must be a list")


def _filter_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def json_value(text: str, name: str) -> Any:
    """``text`` decoded; ``name`` says in the error where it came from."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise InvalidArgument(f"query parameter {name}: not valid JSON: {error}") from error


def string_map(query: Mapping[str, str], name: str) -> dict[str, str | None]:
    """A JSON object with string (or null) values from the query, such as ``buildargs``."""
    text = query.get(name, "")
    document = json_value(text, name) if text else {}
    if document is None:
        return {}
    if not isinstance(document, dict) or any(v is not None and not isinstance(v, str) for v in document.values()):
        raise InvalidArgument(f"query parameter {name}: expected a JSON object with string values")
    return document


def platforms(query: MultiMapping[str], name: str = "platform") -> list[Platform]:
    """Platforms of the query, each JSON of the OCI image index's ``platform`` (image-index.md)."""
    return [_platform(text) for text in query.getall(name, []) if text]


def platform(query: MultiMapping[str]) -> Platform | None:
    """The one platform of the query, if there is one; see :func:`platforms`."""
    texts = [text for text in query.getall("platform", []) if text]
    if len(texts) > 1:
        raise InvalidArgument("multiple platform parameters not supported")
    return _platform(texts[0]) if texts else None


def _platform(text: str) -> Platform:
    try:
        found = msgspec.json.decode(text, type=dict[str, Any])
        parts = [str(found.get(member, "")) for member in ("os", "architecture", "variant")]
        return Platform.parse("/".join(part for part in parts if part))
    except (msgspec.DecodeError, InvalidArgument) as error:
        raise InvalidArgument(f"failed to parse platform: {error}") from error


def unix_time(query: Mapping[str, str], name: str, *, zero: float | None = None) -> float | None:
    """A point in time: seconds since 1970 with an optional fraction, or RFC 3339; None where absent.

    ``zero`` is what 0 stands for: absent, too, if nothing is said.
    """
    value = query.get(name, "")
    if not value:
        return None
    if value == "0":
        return zero
    if _UNIX_TIME.fullmatch(value):
        return float(value)
    try:
        return datetime.fromisoformat(value).timestamp()
    except ValueError as error:
        raise InvalidArgument(f"query parameter {name}: {value!r} is not a time in seconds or RFC 3339") from error


async def framed_document(request: web.Request) -> dict[str, Any]:
    """The JSON document at the beginning of a body; what follows it is still to be read."""
    text = request.headers.get(DOCUMENT_LENGTH, "")
    if not text.isdecimal() or not 0 < int(text) <= BODY_LIMIT:
        raise InvalidArgument(f"header {DOCUMENT_LENGTH}: {text!r} is no length", hint=f"at most {BODY_LIMIT} bytes")
    try:
        return _document(await request.content.readexactly(int(text)))
    except asyncio.IncompleteReadError as error:
        raise InvalidArgument(f"invalid JSON: the body ends after {len(error.partial)} bytes") from error


async def body_document(request: web.Request, *, optional: bool = False) -> dict[str, Any]:
    """The request's JSON body as a dict; an empty body is an error unless ``optional``."""
    raw = await request.read()
    if not raw.strip():
        if optional:
            return {}
        raise InvalidArgument("invalid JSON: got EOF while reading request body")
    return _document(raw, optional=optional)


def _document(raw: bytes, *, optional: bool = False) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(raw)
    except msgspec.DecodeError as error:
        raise InvalidArgument(f"invalid JSON: {error}") from error
    if document is None and optional:
        return {}
    if not isinstance(document, dict):
        raise InvalidArgument("invalid JSON: expected an object")
    return document


def convert(document: object, kind: type[T]) -> T:
    """``document`` as the typed ``kind``; raises InvalidArgument with the path of the wrong field."""
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"invalid request: {error}") from error


def without_nulls(document: Mapping[str, Any]) -> dict[str, Any]:
    """The members that are not null: in Docker a null field means its zero value."""
    return {name: value for name, value in document.items() if value is not None}
