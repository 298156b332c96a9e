"""Seccomp profiles: Docker's format with its conditions, turned into the OCI runtime's."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

from tare.errors import InvalidArgument

_NATIVE = {
    "amd64": "SCMP_ARCH_X86_64", "arm64": "SCMP_ARCH_AARCH64", "riscv64": "SCMP_ARCH_RISCV64", "arm": "SCMP_ARCH_ARM",
    "386": "SCMP_ARCH_X86", "s390x": "SCMP_ARCH_S390X", "ppc64le": "SCMP_ARCH_PPC64LE",
    "loong64": "SCMP_ARCH_LOONGARCH64",
}  # fmt: skip
_RULE_FIELDS = ("names", "action", "errnoRet", "args")
_KEPT_FIELDS = ("defaultAction", "defaultErrnoRet", "flags", "listenerPath", "listenerMetadata")


@functools.lru_cache(maxsize=16)
def default_profile(capabilities: frozenset[str], architecture: str, kernel: tuple[int, int]) -> Mapping[str, Any]:
    """The built-in profile for a container with these capabilities; shared, not to be changed."""
    text = resources.files("tare.runtime").joinpath("seccomp_default.json").read_text(encoding="utf-8")
    return compile_profile(text, capabilities, architecture, kernel)


def compile_profile(
    text: str, capabilities: frozenset[str], architecture: str, kernel: tuple[int, int]
) -> dict[str, Any]:
    """The runtime-spec ``linux.seccomp`` of a profile in Docker's format (or already in the runtime's).

    ``architecture`` is Go's name (``amd64``), ``kernel`` major and minor. Raises InvalidArgument for a bad profile.
    """
    try:
        profile = json.loads(text)
        if not isinstance(profile, dict) or "defaultAction" not in profile:
            raise InvalidArgument("invalid seccomp profile: it has no defaultAction")
        if profile.get("architectures") and profile.get("archMap"):
            raise InvalidArgument("invalid seccomp profile: both architectures and archMap are given")
        result: dict[str, Any] = {key: profile[key] for key in _KEPT_FIELDS if profile.get(key) is not None}
        architectures = profile.get("architectures") or _architectures(profile.get("archMap") or [], architecture)
        if architectures:
            result["architectures"] = architectures
        result["syscalls"] = [
            _rule(rule)
            for rule in profile.get("syscalls") or []
            if _applies(rule, capabilities, architecture, kernel)
        ]  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidArgument(f"decoding seccomp profile failed: {error}") from error
    return result


def _architectures(arch_map: list[dict[str, Any]], architecture: str) -> list[str]:
    native = _NATIVE.get(architecture)
    for entry in arch_map:
        if entry["architecture"] == native:
            return [entry["architecture"], *(entry.get("subArchitectures") or [])]
    return []


def _rule(rule: dict[str, Any]) -> dict[str, Any]:
    result = {key: rule[key] for key in _RULE_FIELDS if rule.get(key) is not None}
    if "names" not in result:
        result["names"] = [rule["name"]]
    return result


def _applies(rule: dict[str, Any], capabilities: frozenset[str], architecture: str, kernel: tuple[int, int]) -> bool:
    excludes, includes = rule.get("excludes") or {}, rule.get("includes") or {}
    if architecture in (excludes.get("arches") or ()) or capabilities & set(excludes.get("caps") or ()):
        return False
    if excludes.get("minKernel") and kernel >= _version(excludes["minKernel"]):
        return False
    if includes.get("arches") and architecture not in includes["arches"]:
        return False
    if includes.get("minKernel") and kernel < _version(includes["minKernel"]):
        return False
    return capabilities >= set(includes.get("caps") or ())


def _version(text: str) -> tuple[int, int]:
    major, minor = text.split(".")[:2]
    return int(major), int(minor)
