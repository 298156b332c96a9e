"""Which platforms a machine runs, and which of them is better; as containerd's ``platforms`` decides it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tare.model.platform import Platform

_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "i386": ("386", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}
_PLAIN_VARIANTS = {("amd64", "v1"), ("arm64", "v8"), ("arm64", "8")}
_NO_PLATFORM = 1 << 20


def normalise(platform: Platform) -> Platform:
    """The one form of several names for the same: ``aarch64`` and ``arm64/v8`` are ``arm64``, ``arm`` is ``arm/v7``."""
    os, architecture, variant = platform.os.lower(), platform.architecture.lower(), platform.variant.lower()
    if os == "macos":
        os = "darwin"
    if architecture in _ARCHITECTURES:
        architecture, implied = _ARCHITECTURES[architecture]
        variant = implied or variant
    if architecture == "arm":
        variant = {"": "v7", "5": "v5", "6": "v6", "7": "v7", "8": "v8"}.get(variant, variant)
    if (architecture, variant) in _PLAIN_VARIANTS or architecture == "386":
        variant = ""
    return Platform(os, architecture, variant)


class PlatformMatcher:
    """Platforms that run where ``wanted`` runs, the best first."""

    def __init__(self, wanted: Platform) -> None:
        self._ranked = {platform: rank for rank, platform in enumerate(_line(normalise(wanted)))}

    def rank(self, platform: Mapping[str, Any] | None) -> int | None:
        """How good ``platform`` (of an index) is, 0 being best; None: it does not run. Without platform: the worst."""
        named = platform or {}
        os, architecture = str(named.get("os", "")), str(named.get("architecture", ""))
        if not os and not architecture:
            return _NO_PLATFORM
        return self._ranked.get(normalise(Platform(os, architecture, str(named.get("variant", "")))))


def _line(platform: Platform) -> list[Platform]:
    """``platform`` and what it runs as well, in falling order."""
    os, architecture, variant = platform.os, platform.architecture, platform.variant
    found = [platform]
    level = int(variant[1:]) if variant[:1] == "v" and variant[1:].isdigit() else 0
    if architecture == "amd64":
        found += [normalise(Platform(os, "amd64", f"v{lower}")) for lower in range(level - 1, 0, -1)]
        found.append(Platform(os, "386"))
    elif architecture == "arm":
        found += [Platform(os, "arm", f"v{lower}") for lower in range(level - 1, 4, -1)]
    elif architecture == "arm64":
        found += _line(Platform(os, "arm", variant or "v8"))
    return found
