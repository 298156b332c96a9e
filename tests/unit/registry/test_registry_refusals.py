"""The words of refusals. The expected texts are those of Docker 28.5.2 for the same answers of a registry."""

from __future__ import annotations

import json

import pytest

from tare.api.errormap import status_of
from tare.model import Reference
from tare.registry.challenges import parse_challenges
from tare.registry.refusals import read_refusal

NAME = Reference.parse("127.0.0.1:5000/x:t")
NO_DETAILS = "error parsing HTTP 404 response body: no error details found in HTTP response body"
ACCESS = "pull access denied for 127.0.0.1:5000/x, repository does not exist or may require 'docker login'"


def error(code: str, message: str, detail: object = None) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message, "detail": detail}]}).encode()


@pytest.mark.parametrize(
    ("status", "body", "words", "answered"),
    [
        (404, error("MANIFEST_UNKNOWN", "manifest unknown", {"Tag": "t"}),
         "manifest for 127.0.0.1:5000/x:t not found: manifest unknown: manifest unknown", 404),
        (404, error("MANIFEST_UNKNOWN", "manifest unknown"), "manifest unknown", 404),
        (404, error("NAME_UNKNOWN", "repository name not known to registry", {"name": "x"}),
         "repository 127.0.0.1:5000/x not found: name unknown: repository name not known to registry", 404),
        (404, error("NAME_UNKNOWN", "repository name not known to registry"), "name unknown", 404),
        (401, error("UNAUTHORIZED", "authentication required", [1]), "unauthorized: authentication required", 401),
        (401, error("UNAUTHORIZED", "authentication required"), "unauthorized", 401),
        (401, b"<html>no", "unauthorized: <html>no", 401),
        (403, error("DENIED", "requested access to the resource is denied"), "denied", 403),
        (403, error("DENIED", "nobody may read this", [1]), f"{ACCESS}: denied: nobody may read this", 404),
        (429, error("TOOMANYREQUESTS", "You have reached your pull rate limit."),
         "toomanyrequests: You have reached your pull rate limit.", 429),
        (429, error("TOOMANYREQUESTS", "too many requests"), "toomanyrequests", 429),
        (429, b"slow down", "toomanyrequests: slow down", 429),
        (500, error("UNKNOWN", "unknown error"), "received unexpected HTTP status: 500 Internal Server Error", 500),
        (503, b"busy", "received unexpected HTTP status: 503 Service Unavailable", 500),
        (400, b"<html>bad</html>", "unknown: <html>bad</html>", 500),
        (404, b"<html>bad</html>", "unknown: <html>bad</html>", 500),
        (403, b"<html>bad</html>", f"{ACCESS}: denied: <html>bad</html>", 404),
        (404, b"", "unknown: ", 500),
        (404, b'{"errors": []}', f'{NO_DETAILS}: "{{\\"errors\\": []}}"', 500),
        (403, b'{"details": "quota gone"}', f"{ACCESS}: denied: quota gone", 404),
        (403, error("QUOTA", "quota of the month"), "unknown: quota of the month", 500),
        (405, error("UNSUPPORTED", "The operation is unsupported."), "unsupported", 405),
        (403, b'{"errors":[{"code":"DENIED","message":"one"},{"code":"DENIED","message":"two"}]}',
         f"{ACCESS}: denied: one", 404),
    ],
)  # fmt: skip
def test_words(status: int, body: bytes, words: str, answered: int) -> None:
    found = read_refusal(status, body, []).pull_error(NAME)
    assert found.message == words
    assert status_of(found) == answered
    assert found.code.startswith("registry-")


def test_errors_of_bearer_tokens() -> None:
    header = 'Bearer realm="x",error="insufficient_scope",error_description="need push"'
    body = error("UNAUTHORIZED", "authentication required", [1])
    assert read_refusal(401, body, parse_challenges([header])).error().message == "denied: need push"
    scope = parse_challenges(['Bearer realm="x",error="insufficient_scope"'])
    found = read_refusal(401, body, scope).pull_error(NAME)
    assert found.message == f"{ACCESS}: denied: requested access to the resource is denied"
    assert status_of(found) == 404
    expired = parse_challenges(['Bearer realm="x",error="invalid_token"'])
    assert read_refusal(401, error("UNAUTHORIZED", "x", [1]), expired).error().message == (
        "unauthorized: authentication required"
    )
    with_body = error("DENIED", "scope", [1])
    assert read_refusal(403, with_body, parse_challenges([header])).error().message == "denied: scope"


def test_what_would_change_a_terminal_is_not_shown() -> None:
    assert read_refusal(403, b"\x1b[31mred", []).error().message == "denied: [31mred"
    named = error("DENIED", "\x1b[31mred\n", 1)
    assert "\x1b" not in read_refusal(403, named, []).error().message


def test_long_bodies_are_cut() -> None:
    assert len(read_refusal(400, b"x" * 100_000, []).error().message) < 3000
    assert len(read_refusal(400, error("DENIED", "x" * 50_000, 1), []).error().message) < 3000
