"""Credentials as the API spells them (Engine API 1.51, ``AuthConfig``)."""

from __future__ import annotations

import msgspec

from tare.errors import InvalidArgument
from tare.registry.credentials import Credentials


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
