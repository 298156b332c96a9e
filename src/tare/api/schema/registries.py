"""Credentials as the API spells them (Engine API 1.51, ``AuthConfig``)."""

from __future__ import annotations

import base64

import msgspec

from tare.errors import InvalidArgument
from tare.model.reference import normal_domain
from tare.registry.credentials import Credentials, domain_of

_DEFAULT_NAME = "https://index.docker.io/v1/"


class _Server(msgspec.Struct):
    serveraddress: str | None = ""


def read_auth(body: bytes) -> tuple[str, Credentials]:
    """The server and the credentials for it. Raises InvalidArgument, which quotes nothing of the body."""
    credentials = Credentials.from_json(body)
    try:
        server = msgspec.json.decode(body or b"{}", type=_Server | None)
    except (msgspec.DecodeError, msgspec.ValidationError):
        raise InvalidArgument("invalid serveraddress: expected a text", code="registry-auth") from None
    return (server and server.serveraddress) or "", credentials


def read_config(header: str) -> dict[str, Credentials]:
    """What the client has for each registry, by domain (``X-Registry-Config``): the keys are hosts or URLs.

    Raises InvalidArgument.
    """
    if not header:
        return {}
    try:
        document = msgspec.json.decode(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))
        # Helpers list tokens of the same host under paths of their own: the name that is the registry's comes last.
        names = sorted(document or {}, key=lambda name: name in (domain_of(name), _DEFAULT_NAME))
        entries = {domain_of(name): msgspec.json.encode(document[name]) for name in names}
    except (ValueError, AttributeError, TypeError):
        raise InvalidArgument(
            "invalid X-Registry-Config header: expected JSON in base64url", code="registry-auth-header"
        ) from None  # the cause quotes what was sent
    return {normal_domain(name): Credentials.from_json(entry) for name, entry in entries.items()}
