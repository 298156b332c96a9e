"""Wildcards of COPY and ADD: the rules of Go's ``filepath.Match``, one path component at a time."""

from __future__ import annotations

import functools
import re

from tare.errors import InvalidArgument


def has_wildcard(text: str) -> bool:
    """Whether ``text`` must be matched rather than taken literally."""
    return any(char in text for char in "*?[\\")


@functools.lru_cache(maxsize=256)
def compile_component(pattern: str) -> re.Pattern[str]:
    r"""A regular expression for one component: ``*`` ``?`` ``[a-z]`` ``[^a-z]`` and ``\`` as escape.

    Raises InvalidArgument for an unfinished class or escape.
    """
    out: list[str] = []
    position = 0
    while position < len(pattern):
        char = pattern[position]
        position += 1
        if char == "*":
            out.append("[^/]*")
        elif char == "?":
            out.append("[^/]")
        elif char == "\\":
            if position >= len(pattern):
                raise InvalidArgument(f"syntax error in pattern {pattern!r}: nothing after the backslash")
            out.append(re.escape(pattern[position]))
            position += 1
        elif char == "[":
            text, position = _class(pattern, position)
            out.append(text)
        else:
            out.append(re.escape(char))
    return re.compile("".join(out), re.DOTALL)


def _class(pattern: str, position: int) -> tuple[str, int]:
    negated = pattern.startswith("^", position)
    position += negated
    ranges: list[str] = []
    while True:
        if position >= len(pattern):
            raise InvalidArgument(f"syntax error in pattern {pattern!r}: '[' is never closed")
        if pattern[position] == "]" and ranges:
            position += 1
            break
        low, position = _class_char(pattern, position)
        high = low
        if pattern.startswith("-", position):
            high, position = _class_char(pattern, position + 1)
        if low <= high:
            ranges.append(f"{re.escape(low)}-{re.escape(high)}")
        else:
            ranges.append("")  # an empty range matches nothing, as in Go
    inside = "".join(ranges)
    if not inside:
        return ("[^/]" if negated else "(?!)"), position
    return (f"[^/{inside}]" if negated else f"(?!/)[{inside}]"), position


def _class_char(pattern: str, position: int) -> tuple[str, int]:
    if position < len(pattern) and pattern[position] == "\\":
        position += 1
    elif position < len(pattern) and pattern[position] in "-]":
        raise InvalidArgument(f"syntax error in pattern {pattern!r}: unexpected {pattern[position]!r}")
    if position >= len(pattern):
        raise InvalidArgument(f"syntax error in pattern {pattern!r}: '[' is never closed")
    return pattern[position], position + 1


def matches(pattern: str, path: str) -> bool:
    """Whether the whole ``path`` matches ``pattern``, component by component."""
    parts, names = pattern.split("/"), path.split("/")
    return len(parts) == len(names) and all(
        compile_component(part).fullmatch(name) is not None for part, name in zip(parts, names, strict=True)
    )
