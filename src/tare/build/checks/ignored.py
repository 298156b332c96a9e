"""Whether a source of COPY or ADD is left out by ignore rules, as far as that can be told without looking."""

from __future__ import annotations

import posixpath

from tare.build.dockerfile.dockerignore import IgnoreRule, IgnoreRules

_WILDCARDS = "*?["
_EVERYTHING = ("*", "**", "**/*")
_REMOTE = ("http://", "https://", "git://", "git@", "ssh://")


def is_ignored(source: str, rules: IgnoreRules) -> str:
    """The cleaned path where ``rules`` leave it out, else nothing.

    An exception (``!``) that may bring back something at or below the path makes the answer no, as BuildKit has it.
    """
    if source.startswith(_REMOTE):
        return ""
    path = posixpath.normpath(source)
    relative = path.strip("/") if path not in (".", "/") else ""
    if not relative and not any(rule.pattern.text in _EVERYTHING for rule in rules.rules if not rule.exception):
        return ""
    if any(_may_bring_back(rule, relative) for rule in rules.rules if rule.exception):
        return ""
    if not relative:
        return path
    return path if rules.matches(relative) else ""


def _may_bring_back(rule: IgnoreRule, path: str) -> bool:
    parts = rule.pattern.text.split("/")
    fixed: list[str] = []
    for part in parts:
        if any(char in part for char in _WILDCARDS):
            break
        fixed.append(part)
    prefix = "/".join(fixed)
    if _is_within(prefix, path):
        return True
    return len(fixed) < len(parts) and _is_within(path, prefix)


def _is_within(path: str, base: str) -> bool:
    return not base or path == base or path.startswith(f"{base}/")
