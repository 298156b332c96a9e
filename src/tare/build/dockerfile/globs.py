"""Path patterns of ``.dockerignore`` and ``--exclude``: Go's ``filepath.Match`` with ``**``.

``*`` and ``?`` do not match a slash, ``**`` matches any number of directories, ``[…]`` is a class (``^`` negates), a
backslash escapes. A pattern without wildcards after a leading ``**`` matches every path with that end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from tare.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class PathPattern:
    """A cleaned pattern, ready to match paths relative to the root (no leading or trailing slash)."""

    text: str
    _expression: re.Pattern[str] = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> PathPattern:
        """Compile ``text``; raises InvalidArgument where it is malformed."""
        return cls(text, re.compile(_translate(text), re.DOTALL))

    def match(self, path: str) -> bool:
        """Whether the pattern matches exactly ``path`` (its parents are the caller's business)."""
        return self._expression.fullmatch(path) is not None

    def may_match_below(self, directory: str) -> bool:
        """Whether a path inside ``directory`` could match although neither the directory nor a parent of it does.

        Answers true where it cannot tell.
        """
        own = self.text.split("/")
        for index, name in enumerate(directory.split("/")):
            if index >= len(own):
                return False
            if "**" in own[index] or any(char in own[index] for char in "[]\\"):
                return True
            if re.fullmatch(_translate(own[index]), name, re.DOTALL) is None:
                return False
        return len(own) > directory.count("/") + 1


def _translate(pattern: str) -> str:
    """The regular expression of a pattern."""
    if pattern.startswith("**") and not any(char in pattern[2:] for char in "*?[]\\"):
        suffix = pattern[2:]
        start = "(?:.*/)?" if suffix.startswith("/") else ".*"
        return start + re.escape(suffix.removeprefix("/"))
    parts: list[str] = []
    position = 0
    while position < len(pattern):
        char = pattern[position]
        if pattern.startswith("**", position):
            position += 2
            if pattern.startswith("/", position):
                position += 1
            parts.append("(?:.*/)?" if position < len(pattern) else ".*")
            continue
        position += 1
        if char == "*":
            parts.append("[^/]*")
        elif char == "?":
            parts.append("[^/]")
        elif char == "[":
            text, position = _class(pattern, position)
            parts.append(text)
        elif char == "\\":
            if position == len(pattern):
                raise _malformed(pattern)
            parts.append(re.escape(pattern[position]))
            position += 1
        else:
            parts.append(re.escape(char))
    return "".join(parts)


def _class(pattern: str, position: int) -> tuple[str, int]:
    """A character class from behind its ``[``: the expression, and the position behind its ``]``."""
    negated = pattern.startswith("^", position)
    position += negated
    ranges: list[str] = []
    while not (ranges and pattern.startswith("]", position)):
        low, position = _class_character(pattern, position)
        high = low
        if pattern.startswith("-", position):
            high, position = _class_character(pattern, position + 1)
        if low <= high:
            ranges.append(f"{re.escape(low)}-{re.escape(high)}")
        else:
            ranges.append("")
    content = "".join(ranges)
    if not content:
        return ("." if negated else "(?!)"), position + 1
    return f"[{'^' if negated else ''}{content}]", position + 1


def _class_character(pattern: str, position: int) -> tuple[str, int]:
    char = pattern[position : position + 1]
    if char == "\\":
        position += 1
        char = pattern[position : position + 1]
    elif char in ("-", "]"):
        raise _malformed(pattern)
    if not char:
        raise _malformed(pattern)
    return char, position + 1


def _malformed(pattern: str) -> InvalidArgument:
    return InvalidArgument(f'syntax error in pattern "{pattern}"', hint="escape [ and \\ with a backslash")
