"""The error that a Dockerfile gives."""

from __future__ import annotations

from collections.abc import Sequence

from tare.errors import InvalidArgument

_CONTEXT_LINES = 1
_SHOWN_LINES = 6
_SHOWN_WIDTH = 160


class DockerfileError(InvalidArgument):
    """A Dockerfile is wrong at a place that is known.

    ``reason`` is the cause alone, ``message`` the cause in Docker's words (with ``dockerfile parse error on line N``
    in front), ``first_line`` and ``last_line`` (from 1) the instruction, ``line`` and ``column`` (from 1) the caret.
    """

    def __init__(
        self,
        reason: str,
        *,
        name: str,
        first_line: int,
        last_line: int,
        line: int,
        column: int,
        length: int,
        lines: Sequence[str],
        hint: str = "",
        code: str = "",
    ) -> None:
        super().__init__(f"dockerfile parse error on line {first_line}: {reason}", hint=hint, code=code)
        self.reason = reason
        self.name = name
        self.first_line = first_line
        self.last_line = last_line
        self.line = line
        self.column = column
        self.length = length
        start = max(1, line - _CONTEXT_LINES)
        end = min(len(lines), max(line, min(last_line, start + _SHOWN_LINES - 1)))
        self.shown: tuple[tuple[int, str], ...] = tuple((number, lines[number - 1]) for number in range(start, end + 1))

    def __str__(self) -> str:
        return f"{super().__str__()}\n{self.name}:{self.line}:{self.column}\n{self.excerpt()}".rstrip("\n")

    def render(self) -> str:
        """``name:line:column: reason``, then the lines concerned with a caret under the place."""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.name}:{self.line}:{self.column}: {self.reason}{hint}\n{self.excerpt()}".rstrip("\n")

    def excerpt(self) -> str:
        """The numbered lines around the place, the caret line under the one that is wrong."""
        width = max((len(str(number)) for number, _ in self.shown), default=1)
        rows = []
        for number, text in self.shown:
            printable = "".join(char if char.isprintable() else " " for char in text)
            rows.append(f"   {number:>{width}} | {printable[:_SHOWN_WIDTH]}".rstrip())
            if number == self.line and self.column <= _SHOWN_WIDTH:
                carets = "^" * max(1, min(self.length, _SHOWN_WIDTH - self.column + 1))
                rows.append(f"   {'':>{width}} | {' ' * (self.column - 1)}{carets}")
        return "\n".join(rows)


class Misuse(InvalidArgument):
    """Something in an instruction is wrong, its place not yet known; ``mark`` is the text to underline."""

    def __init__(self, reason: str, *, mark: str = "", hint: str = "") -> None:
        super().__init__(reason, hint=hint)
        self.mark = mark
