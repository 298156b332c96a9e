"""Who logs in to a registry: the header ``X-Registry-Auth`` of Docker's API."""

from __future__ import annotations

import base64
import binascii
import logging
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import msgspec

from tare.errors import InvalidArgument


class _AuthConfig(msgspec.Struct, rename="lower"):
    # In Go null is the zero value.
    username: str | None = ""
    password: str | None = ""
    auth: str | None = ""
    serveraddress: str | None = ""
    identitytoken: str | None = ""
    registrytoken: str | None = ""


logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user's name and secrets; the secrets are in no ``repr``, so that no log and no traceback has them.

    ``identity_token`` is a refresh token (OAuth 2) that stands in for the password, ``registry_token`` a bearer token
    that is sent to the registry as it is.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    def __bool__(self) -> bool:
        return bool((self.username and self.password) or self.identity_token or self.registry_token)

    @classmethod
    def from_header(cls, header: str) -> Credentials | None:
        """What ``X-Registry-Auth`` holds, in base64url; None without credentials.

        As in Docker, a header that cannot be read stands for nobody, and ``auth`` (base64 of ``name:password``) is not
        read: clients send the two apart.
        """
        try:
            # Go's encoder pads and some clients do not; some use the alphabet of plain base64
            text = header.strip().rstrip("=").replace("+", "-").replace("/", "_")
            found = cls.from_json(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
        except (binascii.Error, ValueError, InvalidArgument):
            logger.warning("X-Registry-Auth is not an AuthConfig in base64url: going on without credentials")
            return None
        return found or None

    @classmethod
    def from_json(cls, document: bytes) -> Credentials:
        """Read an ``AuthConfig`` of Docker's API. Raises InvalidArgument, which does not quote it."""
        try:
            read = msgspec.json.decode(document or b"{}", type=_AuthConfig | None)
        except (msgspec.DecodeError, msgspec.ValidationError):
            raise InvalidArgument(
                "invalid registry credentials: expected an AuthConfig", code="registry-auth-header"
            ) from None  # the cause quotes what was sent
        if read is None:
            return cls()
        return cls(
            username=read.username or "",
            password=read.password or "",
            identity_token=read.identitytoken or "",
            registry_token=read.registrytoken or "",
        )


def domain_of(server_address: str) -> str:
    """The domain that ``serveraddress`` of an AuthConfig means: a URL, or a host with or without port."""
    if "://" in server_address:
        return urlsplit(server_address).netloc
    return server_address.partition("/")[0]
