"""Where an engine listens."""

from __future__ import annotations

import os
from dataclasses import dataclass

from tare.errors import InvalidArgument

DEFAULT_SOCKET = "/run/tare/tare.sock"
HOST_VARIABLE = "TARE_HOST"
_FORMS = "use unix:///path/to/socket or tcp://address:port"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A unix socket (``path``) or a TCP address (``address`` and ``port``)."""

    path: str = ""
    address: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """Read ``unix:///path`` or ``tcp://address:port``. Raises InvalidArgument."""
        scheme, separator, rest = text.partition("://")
        if separator and scheme == "unix" and rest.startswith("/"):
            return cls(path=rest)
        if separator and scheme == "tcp":
            address, colon, port = rest.rstrip("/").rpartition(":")
            if colon and address and port.isdigit() and 0 < int(port) < 65536:
                return cls(address=address.strip("[]"), port=int(port))
        raise InvalidArgument(f"unable to parse engine host {text!r}", hint=_FORMS)

    @classmethod
    def find(cls, host: str | None) -> Endpoint:
        """The endpoint of ``host``; without one that of ``TARE_HOST``, else the default. Raises InvalidArgument."""
        return cls.parse(host or os.environ.get(HOST_VARIABLE) or f"unix://{DEFAULT_SOCKET}")

    @property
    def is_default(self) -> bool:
        """Whether this is the engine that starts on demand."""
        return self.path == DEFAULT_SOCKET

    def __str__(self) -> str:
        return f"unix://{self.path}" if self.path else f"tcp://{self.address}:{self.port}"
