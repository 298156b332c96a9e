"""YAML 1.1 as data with places: only plain mappings, lists and text, within limits.

Every scalar is taken as the text that is written; what reads the data decides whether it is a number. So ``3.10`` is
not 3.1, ``0755`` not 493 and ``no`` not false. Anchors, aliases, tags, merge keys and several documents in one file are
refused: none of them is needed here, and aliases can make gigabytes of a few lines.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml

from tare.build.dockerfile.errors import DockerfileError
from tare.build.dockerfile.source import Source, SourceRange

MAX_SIZE = 256 * 1024
"""Characters that a file may have."""

MAX_DEPTH = 16
"""Levels of mappings and lists in one another."""

_NULL = "tag:yaml.org,2002:null"
_BOM = "\ufeff"

Path = tuple[str | int, ...]
"""Keys and indices that lead to a place in the data."""


class DocumentError(DockerfileError):
    """A declarative file is wrong at a place that is known; the members are those of a Dockerfile's error."""

    def __init__(self, reason: str, **where: Any) -> None:
        super().__init__(reason, **where)
        self.message = f"{self.name}: {reason}"
        self.args = (self.message,)


class DocumentSource(Source):
    """The text of a declarative file."""

    __slots__ = ()

    def error(
        self, message: str, where: SourceRange, *, mark: str = "", hint: str = "", code: str = "assembly-invalid"
    ) -> DocumentError:
        """The error ``message`` at ``where``, as for a Dockerfile."""
        line, column, length = self._locate(where, mark)
        return self.error_at(message, line, column, length, last=where.last_line, hint=hint, code=code)

    def error_at(
        self, message: str, line: int, column: int, length: int = 1, *, last: int = 0, hint: str = "", code: str = ""
    ) -> DocumentError:
        """The error ``message`` at a line and column, both from 1."""
        return DocumentError(
            message,
            name=self.name,
            first_line=line,
            last_line=max(line, last),
            line=line,
            column=column,
            length=length,
            lines=self.lines,
            hint=hint,
            code=code or "assembly-invalid",
        )


@dataclass(frozen=True, slots=True)
class YamlFile:
    """What a file says: ``data`` are dictionaries, lists, texts; the places are those of its nodes."""

    source: DocumentSource
    data: dict[str, Any]
    root: yaml.Node
    _entries: dict[int, dict[str, tuple[yaml.Node, yaml.Node]]] = field(default_factory=dict, repr=False, compare=False)

    def node(self, path: Path) -> tuple[yaml.Node | None, yaml.Node]:
        """The key (None in a list, and at the top) and the value at ``path``, or at the last part of it there is."""
        key, value = None, self.root
        for step in path:
            if isinstance(value, yaml.MappingNode):
                entries = self._entries.get(id(value))
                if entries is None:
                    entries = self._entries[id(value)] = {name.value: (name, item) for name, item in value.value}
                found = entries.get(str(step))
                if found is None:
                    break
                key, value = found
            elif isinstance(value, yaml.SequenceNode) and isinstance(step, int) and step < len(value.value):
                key, value = None, value.value[step]
            else:
                break
        return key, value

    def range(self, *path: str | int) -> SourceRange:
        """The lines of what is at ``path``, its key included."""
        key, value = self.node(path)
        first = (key or value).start_mark.line
        last = value.end_mark.line - (value.end_mark.column == 0)  # block mappings end where the next thing begins
        last = max(first, last)
        while last > first and not self.source.lines[min(last, len(self.source.lines) - 1)].strip():
            last -= 1
        return SourceRange(first + 1, last + 1)

    def error(
        self, message: str, *path: str | int, on_key: bool = False, hint: str = "", code: str = ""
    ) -> DocumentError:
        """The error ``message`` with the place of what is at ``path``, or of its key."""
        key, value = self.node(path)
        return _error(self.source, key if on_key and key is not None else value, message, hint=hint, code=code)


def read_yaml(text: str, name: str, *, example: str) -> YamlFile:
    """Read a file with a mapping at the top. Raises DocumentError; ``example`` is what the file may begin with."""
    text = text.removeprefix(_BOM)
    source = DocumentSource(name, tuple(text.splitlines()))
    if len(text) > MAX_SIZE:
        raise source.error_at(
            f"the file is too large: {len(text)} characters, {MAX_SIZE} are allowed", 1, 1, code="assembly-too-large"
        )
    try:
        _check_events(text, source)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise _syntax(error, source) from error
    if root is None:
        raise source.error_at("the file is empty", 1, 1, hint=f"begin with {example}")
    if not isinstance(root, yaml.MappingNode):
        raise _error(source, root, "expected a mapping (name: value) at the top", hint=f"begin with {example}")
    return YamlFile(source, _data(root, source), root)


def _check_events(text: str, source: DocumentSource) -> None:
    """Refuse depth, anchors, aliases and tags before anything is made of them."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise _error(source, event, f"more than {MAX_DEPTH} levels in one another")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            raise _error(source, event, "anchors and aliases (&name, *name) are not supported", hint="write it out")
        if getattr(event, "tag", None) is not None:
            raise _error(source, event, f"tags ({event.tag}) are not supported", hint="write the value alone")


def _data(node: yaml.Node, source: DocumentSource) -> Any:
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _error(source, key, "a key has to be text")
            if key.value in found:
                raise _error(source, key, f"{key.value} is there twice", hint="remove one of them")
            if isinstance(value, yaml.ScalarNode) and value.tag == _NULL:
                raise _error(
                    source, key, f"{key.value} has no value", hint='give one, "" for empty text, or remove the line'
                )
            found[_text(key, source)] = _data(value, source)
        return found
    if isinstance(node, yaml.SequenceNode):
        return [_data(item, source) for item in node.value]
    if node.tag == _NULL:
        raise _error(source, node, "an entry has no value", hint='give one, "" for empty text, or remove it')
    return _text(node, source)


def _text(node: yaml.ScalarNode, source: DocumentSource) -> str:
    text = str(node.value)
    if "\0" in text:
        raise _error(source, node, "text cannot contain NUL characters")
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")  # JSON's escapes of one character in two halves
    except UnicodeDecodeError as error:
        raise _error(source, node, "text contains half a character (an escape of a lone surrogate)") from error


def _error(source: DocumentSource, place: Any, message: str, *, hint: str = "", code: str = "") -> DocumentError:
    """The error at a node or event: the caret is under its first line."""
    start, end = place.start_mark, place.end_mark
    length = end.column - start.column if end.line == start.line else 0
    if not length and start.line < len(source.lines):
        length = len(source.lines[start.line].rstrip()) - start.column
    return source.error_at(message, start.line + 1, start.column + 1, max(1, length), hint=hint, code=code)


def _syntax(error: yaml.YAMLError, source: DocumentSource) -> DocumentError:
    """What the YAML reader says, in one sentence."""
    code = "assembly-syntax"
    if isinstance(error, yaml.reader.ReaderError):
        before = "\n".join(source.lines)[: error.position]
        line, column = before.count("\n") + 1, len(before.rpartition("\n")[2]) + 1
        return source.error_at(f"a control character ({error.character!r}) is in the file", line, column, code=code)
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    context = getattr(error, "context", None)
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
    if "'\\t'" in problem:
        return source.error_at("a tab where YAML allows none", line, column, hint="indent with spaces", code=code)
    if "another document" in problem:
        return source.error_at("a second document begins here", line, column, hint="keep one, without ---", code=code)
    hint = 'quote values that contain ": "' if "mapping values" in problem else ""
    message = f"not YAML: {problem}" + (f" {context}" if context else "")
    return source.error_at(message, line, column, hint=hint, code=code)
