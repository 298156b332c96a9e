"""What a check finds, and the report of a whole Dockerfile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tare.build.checks.rules import Rule
from tare.build.dockerfile.errors import DockerfileError
from tare.build.dockerfile.source import Source, SourceRange
from tare.errors import InvalidArgument, TareError

_ALONE = 2  # lines shown above and below a single line
_BESIDE = 1  # the same for several lines
_LINES = 40  # lines shown at most
_WIDTH = 400  # characters shown of a line
_RULER = "-" * 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One finding.

    ``rule`` is the rule's name, ``url`` its published address (may be empty), ``page`` its page in this project,
    ``file`` the Dockerfile's name, lines count from 1. ``excerpt`` are the lines concerned as BuildKit prints them.
    """

    rule: str
    message: str
    description: str
    url: str
    page: str
    file: str
    first_line: int
    last_line: int
    excerpt: str

    @classmethod
    def make(cls, rule: Rule, source: Source, where: SourceRange, **values: str) -> Finding:
        """The finding of ``rule`` at ``where``; ``values`` are the fields of its message."""
        return cls(
            rule=rule.name,
            message=rule.message.format(**values),
            description=rule.description,
            url=rule.url,
            page=rule.page,
            file=source.name,
            first_line=where.first_line,
            last_line=where.last_line,
            excerpt=excerpt(source, where),
        )

    @property
    def short(self) -> str:
        """One line: rule, message, line number."""
        return f"{self.rule}: {self.message} (line {self.first_line})"


class ChecksFailed(InvalidArgument):
    """A Dockerfile that wants no findings has some; the place is that of ``first``, the topmost."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        names = ", ".join(sorted({finding.rule for finding in findings}))
        hint = "change what was found, or build without check=error=true"
        super().__init__(f"lint violation found for rules: {names}", hint=hint, code="checks-failed")
        self.first = findings[0]

    def __str__(self) -> str:
        return f"{super().__str__()}\n{self.first.excerpt}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckError:
    """Why the Dockerfile cannot be built as it is; lines are 0 where the error has no place in it."""

    message: str
    first_line: int = 0
    last_line: int = 0
    excerpt: str = ""

    @classmethod
    def of(cls, error: TareError, source: Source | None) -> CheckError:
        """``error`` with the lines of ``source`` that it names."""
        if isinstance(error, ChecksFailed):
            first = error.first
            return cls(
                message=error.message, first_line=first.first_line, last_line=first.last_line, excerpt=first.excerpt
            )
        if not isinstance(error, DockerfileError):
            return cls(message=str(error))
        hint = f" ({error.hint})" if error.hint else ""
        where = SourceRange(error.first_line, error.last_line)
        shown = excerpt(source, where) if source else f"{error.name}:{error.first_line}\n{error.excerpt()}"
        return cls(
            message=f"{error.message}{hint}", first_line=error.first_line, last_line=error.last_line, excerpt=shown
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """All findings in one Dockerfile (``file`` with its ``text``), in the order of its lines."""

    file: str
    text: str
    findings: tuple[Finding, ...]
    error: CheckError | None = None


def excerpt(source: Source, where: SourceRange) -> str:
    """Place and lines as BuildKit prints them (``solver/errdefs``): two more lines around one, one around several."""
    if not 1 <= where.first_line <= len(source.lines):
        return ""
    margin = _ALONE if where.first_line == where.last_line else _BESIDE
    first = max(1, where.first_line - margin)
    last = min(len(source.lines), where.last_line + margin)
    hidden = max(last - first + 1 - _LINES, 0)
    rows = [f"{source.name}:{where.first_line}", _RULER]
    for number in range(first, last + 1 - hidden):
        text = "".join(char if char.isprintable() else " " for char in source.lines[number - 1][:_WIDTH])
        mark = ">>>" if where.first_line <= number <= where.last_line else "   "
        rows.append(f" {number:3} | {mark} {text}".rstrip())
    if hidden:
        rows.append(f"     | … {hidden} more lines")
    return "\n".join([*rows, _RULER])
