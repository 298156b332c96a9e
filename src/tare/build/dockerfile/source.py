"""Where in a Dockerfile something stands."""

from __future__ import annotations

from dataclasses import dataclass

from tare.build.dockerfile.errors import DockerfileError


@dataclass(frozen=True, slots=True)
class SourceRange:
    """A run of lines, counted from 1, both ends included."""

    first_line: int
    last_line: int


@dataclass(frozen=True, slots=True)
class Source:
    """A Dockerfile's name and lines (without line ends), which is what an error needs to show its place."""

    name: str
    lines: tuple[str, ...]

    def error(
        self, message: str, where: SourceRange, *, mark: str = "", hint: str = "", code: str = "dockerfile-syntax"
    ) -> DockerfileError:
        """The error ``message`` at ``where``; the caret is put under ``mark``, else under the first word there."""
        line, column, length = self._locate(where, mark)
        return DockerfileError(
            message,
            name=self.name,
            first_line=where.first_line,
            last_line=where.last_line,
            line=line,
            column=column,
            length=length,
            lines=self.lines,
            hint=hint,
            code=code,
        )

    def _locate(self, where: SourceRange, mark: str) -> tuple[int, int, int]:
        """Line, column (both from 1) and length of the text that the caret underlines."""
        if mark:
            for number in range(where.first_line, min(where.last_line, len(self.lines)) + 1):
                found = self.lines[number - 1].find(mark)
                if found >= 0:
                    return number, found + 1, len(mark)
        if not 1 <= where.first_line <= len(self.lines):
            return where.first_line, 1, 1
        text = self.lines[where.first_line - 1]
        indent = len(text) - len(text.lstrip())
        word = text[indent:].split(None, 1)
        return where.first_line, indent + 1, len(word[0]) if word else 1
