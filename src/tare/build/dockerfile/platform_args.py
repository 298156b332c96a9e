"""ARGs that exist without being declared (Dockerfile reference, "Predefined ARGs")."""

from __future__ import annotations

from collections.abc import Mapping

from tare.model.platform import Platform

_PROXY_NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")

PROXY_ARGS: frozenset[str] = frozenset(_PROXY_NAMES) | frozenset(name.lower() for name in _PROXY_NAMES)
"""Usable in RUN without ARG when given as build arguments; left out of cache keys, history and the image."""

PLATFORM_ARGS: tuple[str, ...] = (
    "BUILDPLATFORM",
    "BUILDOS",
    "BUILDOSVERSION",
    "BUILDARCH",
    "BUILDVARIANT",
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETOSVERSION",
    "TARGETARCH",
    "TARGETVARIANT",
)
"""Defined in the global scope; a stage sees one after ``ARG name``."""


def platform_args(build: Platform, target: Platform) -> dict[str, str]:
    """Values of the platform ARGs for a build that runs on ``build`` and makes an image for ``target``."""
    values: dict[str, str] = {}
    for prefix, platform in (("BUILD", build), ("TARGET", target)):
        values[f"{prefix}PLATFORM"] = str(platform)
        values[f"{prefix}OS"] = platform.os
        values[f"{prefix}OSVERSION"] = ""
        values[f"{prefix}ARCH"] = platform.architecture
        values[f"{prefix}VARIANT"] = platform.variant
    return values


def global_args(build: Platform, target: Platform, stage: str = "") -> dict[str, str]:
    """All ARGs of the global scope: the platforms and ``TARGETSTAGE`` (the target stage's name or ``default``)."""
    return {**platform_args(build, target), "TARGETSTAGE": stage or "default"}


def proxy_environment(build_args: Mapping[str, str]) -> dict[str, str]:
    """Proxy settings among the build arguments, for the environment of RUN."""
    return {name: value for name, value in build_args.items() if name in PROXY_ARGS}
