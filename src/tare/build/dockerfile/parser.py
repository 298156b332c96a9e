"""From a Dockerfile's text to nodes: directives, comments, continuations, heredocs, flags.

One pass, every line is looked at once. What the words mean is the next pass's (:mod:`.typed`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from tare.build.dockerfile.heredoc import Marker, chomp, markers
from tare.build.dockerfile.instructions import Heredoc
from tare.build.dockerfile.source import Source, SourceRange
from tare.build.dockerfile.words import split_flags, split_once
from tare.errors import InvalidArgument

MAX_SIZE = 4 * 1024 * 1024
"""Characters that a Dockerfile may have."""

_DIRECTIVE = re.compile(r"#\s*([A-Za-z][A-Za-z0-9]*)\s*=(.*)", re.DOTALL)
_DIRECTIVES = ("syntax", "escape", "check")
_HEREDOC_INSTRUCTIONS = frozenset({"RUN", "COPY", "ADD"})
_BOM = "\ufeff"


@dataclass(frozen=True, slots=True)
class Directives:
    """``# name=value`` lines at the top: the front end asked for (recorded only), the escape character, checks."""

    syntax: str = ""
    escape: str = "\\"
    check: str = ""


@dataclass(frozen=True, slots=True)
class Node:
    """One instruction: ``name`` in upper case, ``written`` as in the file, ``original`` the logical line.

    ``comments`` are the texts of the comment lines directly above; an empty one parts them from those further up.
    """

    name: str
    written: str
    original: str
    flags: tuple[str, ...]
    rest: str
    heredocs: tuple[Heredoc, ...]
    range: SourceRange
    comments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """All nodes of a Dockerfile; ``gaps`` are the last lines of instructions with an empty line inside."""

    source: Source
    directives: Directives
    nodes: tuple[Node, ...]
    gaps: tuple[int, ...]


def parse_nodes(text: str, name: str = "Dockerfile") -> ParsedFile:
    """Read ``text``; raises DockerfileError, or InvalidArgument where the file as a whole is wrong."""
    if len(text) > MAX_SIZE:
        raise InvalidArgument(
            f"the Dockerfile ({name}) is too large: {len(text)} characters, {MAX_SIZE} are allowed",
            hint="copy large content from the build context",
            code="dockerfile-too-large",
        )
    if not text.removeprefix(_BOM).strip():
        raise InvalidArgument(
            f"the Dockerfile ({name}) cannot be empty", hint="start with FROM image", code="dockerfile-empty"
        )
    return _Parser(text, name).run()


def parse_line(line: str, heredocs: tuple[Heredoc, ...], where: SourceRange, comments: tuple[str, ...] = ()) -> Node:
    """The node of one logical line."""
    written, rest = split_once(line.strip())
    flags, rest = split_flags(rest)
    return Node(written.upper(), written, line, flags, rest.strip(), heredocs, where, comments)


@dataclass(slots=True)
class _Parser:
    text: str
    name: str
    raw: list[str] = field(init=False)
    source: Source = field(init=False)
    escape: str = "\\"
    seen: dict[str, str] = field(default_factory=dict)
    at_top: bool = True
    index: int = 0
    nodes: list[Node] = field(default_factory=list)
    gaps: list[int] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.raw = re.findall(r"[^\n]*\n|[^\n]+", self.text.removeprefix(_BOM))
        self.source = Source(self.name, tuple(line.rstrip("\r\n") for line in self.raw))

    def run(self) -> ParsedFile:
        while self.index < len(self.raw):
            self._statement()
        directives = Directives(self.seen.get("syntax", ""), self.seen.get("escape", "\\"), self.seen.get("check", ""))
        if not self.nodes:
            last = len(self.raw)
            raise self.source.error("file with no instructions", SourceRange(last, last), hint="start with FROM image")
        return ParsedFile(self.source, directives, tuple(self.nodes), tuple(self.gaps))

    def _statement(self) -> None:
        """Take the lines of one instruction, or one line that is none."""
        first = self.index
        line = self.source.lines[first].lstrip()
        self.index += 1
        if self.at_top:
            self._directive(line, SourceRange(first + 1, first + 1))
        if not line or line.startswith("#"):
            self._comment(line)
            return
        original, gap = self._join(line)
        last = self.index
        if not original.strip():
            return
        heredocs = self._heredocs(original, first)
        if gap:
            self.gaps.append(last)
        self.nodes.append(parse_line(original, heredocs, SourceRange(first + 1, self.index), tuple(self.comments)))
        self.comments.clear()

    def _comment(self, line: str) -> None:
        text = line[1:].strip()
        if text and not self.at_top:
            self.comments.append(text)
        else:
            self.comments.clear()

    def _join(self, line: str) -> tuple[str, bool]:
        """The logical line that starts with ``line``, and whether an empty line is inside."""
        parts: list[str] = []
        gap = False
        while True:
            body = self._without_continuation(line)
            parts.append(line if body is None else body)
            if body is None:
                return "".join(parts), gap
            while True:
                if self.index >= len(self.raw):
                    return "".join(parts), gap
                line = self.source.lines[self.index]
                self.index += 1
                stripped = line.lstrip()
                if stripped and not stripped.startswith("#"):
                    break
                gap = gap or not stripped

    def _without_continuation(self, line: str) -> str | None:
        """The line without its escape character at the end; None where the next line does not continue it."""
        trimmed = line.rstrip(" \t")
        if not trimmed.endswith(self.escape) or trimmed.endswith(self.escape * 2):
            return None
        return trimmed[:-1]

    def _heredocs(self, original: str, first: int) -> tuple[Heredoc, ...]:
        words = original.split(None, 2)
        name = words[0].upper()
        if name == "ONBUILD" and len(words) > 1:
            name = words[1].upper()
        if name not in _HEREDOC_INSTRUCTIONS:
            return ()
        return tuple(self._heredoc(marker, first) for marker in markers(original))

    def _heredoc(self, marker: Marker, first: int) -> Heredoc:
        start = self.index
        while self.index < len(self.raw):
            line = self.source.lines[self.index]
            self.index += 1
            if (line.lstrip("\t") if marker.chomp else line) == marker.name:
                raw = "".join(self.raw[start : self.index - 1])
                content = chomp(raw) if marker.chomp else raw
                return Heredoc(marker.name, content, marker.expand, marker.chomp, marker.descriptor, raw)
        raise self.source.error(
            "unterminated heredoc",
            SourceRange(first + 1, len(self.raw)),
            mark=marker.name,
            hint=f"end it with a line that has only {marker.name}",
        )

    def _directive(self, line: str, where: SourceRange) -> None:
        """Take a parser directive; the first line that is none ends them."""
        match = _DIRECTIVE.fullmatch(line)
        value = match[2].strip() if match else ""
        key = match[1].lower() if match else ""
        if key not in _DIRECTIVES or not value:
            self.at_top = False
            return
        if key in self.seen:
            raise self.source.error(f"only one {key} parser directive can be used", where)
        if key == "escape":
            if value not in ("\\", "`"):
                raise self.source.error(
                    f"invalid escape token '{value}' does not match ` or \\", where, mark=value, hint="use \\ or `"
                )
            self.escape = value
        self.seen[key] = value
