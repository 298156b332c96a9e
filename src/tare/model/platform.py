"""Platforms (OCI image-spec, image-index.md, "platform")."""

from __future__ import annotations

import platform as _host
from dataclasses import dataclass

from tare.errors import InvalidArgument

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386", "amd64": "amd64"}


@dataclass(frozen=True, slots=True)
class Platform:
    """Operating system, architecture (Go's names) and variant; ``str()`` gives ``linux/arm/v7``."""

    os: str = "linux"
    architecture: str = "amd64"
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Read ``os/arch[/variant]``, ``arch`` or ``linux``, which is this machine's; raises InvalidArgument."""
        parts = text.lower().split("/")
        if parts == ["linux"]:
            return cls.host()
        if len(parts) == 1 and parts[0]:
            return cls("linux", _ARCHITECTURES.get(parts[0], parts[0]))
        if len(parts) not in (2, 3) or not all(parts):
            raise InvalidArgument(f"invalid platform {text!r}: expected os/architecture[/variant], such as linux/amd64")
        return cls(parts[0], _ARCHITECTURES.get(parts[1], parts[1]), parts[2] if len(parts) == 3 else "")

    def satisfies(self, wanted: Platform) -> bool:
        """Whether something for this platform is what was asked for; a variant counts where one was named."""
        if (self.os, self.architecture) != (wanted.os, wanted.architecture):
            return False
        implied = "v8" if self.architecture == "arm64" else ""
        return wanted.variant in ("", self.variant or implied)

    @classmethod
    def host(cls) -> Platform:
        """The platform of this machine."""
        machine = _host.machine()
        return cls("linux", _ARCHITECTURES.get(machine, machine))
