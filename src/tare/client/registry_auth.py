"""What a registry is told about who asks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

AUTH_HEADER = "X-Registry-Auth"
CONFIG_HEADER = "X-Registry-Config"
DEFAULT_KEY = "https://index.docker.io/v1/"
"""Under which Docker's clients keep the credentials of ``docker.io``."""

_DEFAULT_DOMAINS = ("docker.io", "index.docker.io")


@dataclass(frozen=True, slots=True)
class RegistryAuth:
    """Credentials of one registry (Engine API, ``AuthConfig``); empty ones mean an anonymous request.

    ``server`` is the registry's key: its host with the port, or DEFAULT_KEY. ``identity_token`` is what a registry has
    given for a password, ``registry_token`` is sent as it is. Secrets are not part of the representation.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    server: str = ""
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing that a registry would know somebody by."""
        return not (self.username or self.password or self.identity_token or self.registry_token)

    def document(self) -> dict[str, str]:
        """As the API spells it; what is empty is left out."""
        values = {
            "username": self.username,
            "password": self.password,
            "serveraddress": self.server,
            "identitytoken": self.identity_token,
            "registrytoken": self.registry_token,
        }
        return {name: value for name, value in values.items() if value}

    def headers(self) -> dict[str, str]:
        """The header of a pull or push; none for empty credentials."""
        return {} if self.is_empty else {AUTH_HEADER: _encoded(self.document())}


def config_headers(credentials: Mapping[str, RegistryAuth]) -> dict[str, str]:
    """The header of a build: credentials by registry; none without any."""
    known = {key: auth.document() for key, auth in credentials.items() if not auth.is_empty}
    return {CONFIG_HEADER: _encoded(known)} if known else {}


def _encoded(document: object) -> str:
    """URL-safe base64 of the JSON text (RFC 4648, 5), as the API wants headers to be."""
    import base64  # every command imports this module, few have credentials

    return base64.urlsafe_b64encode(json.dumps(document, separators=(",", ":")).encode()).decode()


def key_of(server: str) -> str:
    """Under which key the credentials of ``server`` (a registry's domain, or an address) are kept."""
    host = host_of(server)
    return DEFAULT_KEY if not server or host in _DEFAULT_DOMAINS else host


def host_of(address: str) -> str:
    """Host and port of an address with or without scheme and path; other text up to its first slash."""
    if "://" in address:
        try:
            parts = urlsplit(address)
        except ValueError:
            parts = urlsplit("")
        if parts.netloc:
            return parts.netloc.rpartition("@")[2]
    return address.partition("/")[0]
