"""Shell patterns of ``${name#pattern}`` and ``${name/pattern/text}``: ``*``, ``?`` and escapes, no bracket expressions.

Matched by segments between the stars and not by a backtracking expression, so that the time is bounded by the product
of the lengths.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tare.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class ShellPattern:
    """``segments`` are the runs between stars; None in a run is any one character."""

    segments: tuple[tuple[str | None, ...], ...]

    @classmethod
    def parse(cls, text: str) -> ShellPattern:
        """Read a pattern; raises InvalidArgument for an escape of an ordinary character."""
        segments: list[list[str | None]] = [[]]
        position = 0
        while position < len(text):
            char = text[position]
            position += 1
            if char == "\\":
                following = text[position : position + 1]
                if following and following in "}/":
                    continue
                if not following or following not in "*?\\":
                    raise InvalidArgument(f"invalid pattern ({text}) in substitution: invalid escape '\\{following}'")
                segments[-1].append(following)
                position += 1
            elif char == "*":
                segments.append([])
            else:
                segments[-1].append(None if char == "?" else char)
        return cls(tuple(tuple(segment) for segment in segments))

    def reversed(self) -> ShellPattern:
        """The pattern that matches the reversed text."""
        return ShellPattern(tuple(segment[::-1] for segment in self.segments[::-1]))

    def prefix(self, value: str, *, longest: bool) -> int | None:
        """Length of the shortest or longest start of ``value`` that matches, None where none does."""
        span = self._match(self._compiled(), value, 0, anchored=True, longest=longest)
        return None if span is None else span[1]

    def replace(self, value: str, replacement: str, *, everywhere: bool) -> str:
        """``value`` with the first (or every) longest match replaced by the literal ``replacement``."""
        parts: list[str] = []
        copied, position, last_end = 0, 0, -1
        compiled = self._compiled()
        while position <= len(value):
            span = self._match(compiled, value, position, anchored=False, longest=True)
            if span is None:
                break
            start, end = span
            if start == end == last_end:
                position = end + 1
                continue
            parts += (value[copied:start], replacement)
            copied = last_end = end
            position = end if end > start else end + 1
            if not everywhere:
                break
        return "".join((*parts, value[copied:]))

    def _compiled(self) -> list[re.Pattern[str]]:
        return [_compile(segment) for segment in self.segments]

    def _match(
        self, compiled: list[re.Pattern[str]], value: str, start: int, *, anchored: bool, longest: bool
    ) -> tuple[int, int] | None:
        head, *rest = compiled
        # A later start leaves less text, so if the leftmost place of the head fails, all do.
        found = head.match(value, start) if anchored else head.search(value, start)
        if found is None:
            return None
        begin, end = found.span()
        for index, segment in enumerate(rest):
            if longest and index == len(rest) - 1:
                last = _last(segment, len(self.segments[-1]), value, end)
                return None if last is None else (begin, last)
            placed = segment.search(value, end)
            if placed is None:
                return None
            end = placed.end()
        return begin, end


def _compile(segment: tuple[str | None, ...]) -> re.Pattern[str]:
    return re.compile("".join("." if char is None else re.escape(char) for char in segment), re.DOTALL)


def _last(segment: re.Pattern[str], length: int, value: str, start: int) -> int | None:
    """End of the last place of ``segment`` at or after ``start``."""
    for begin in range(len(value) - length, start - 1, -1):
        if segment.match(value, begin):
            return begin + length
    return None
