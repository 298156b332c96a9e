"""The part of Go's templates that ``--format`` needs.

Supported: text, ``{{.A.B}}``, ``{{.}}``, ``{{$x.A}}``, the functions ``json``, ``join``, ``split``, ``len``, ``index``,
``upper``, ``lower``, ``title``, ``println`` with pipes, ``{{range}}`` (with variables and ``{{else}}``), ``{{if}}``,
``{{with}}``, string and number literals, trim marks. Everything else is refused by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tare.errors import InvalidArgument

_ACTION = re.compile(r"(\{\{-\s|\{\{)(.*?)(\s-\}\}|\}\})", re.DOTALL)
_TOKEN = re.compile(r"""\s*("(?:\\.|[^"\\])*"|`[^`]*`|:=|[|(),]|\$?[\w]*(?:\.\w+)+|\.|\$\w*|-?\d+|\w+)""")
_ESCAPES = {"\\t": "\t", "\\n": "\n"}

Scope = dict[str, Any]


def _fail(template: str, reason: str) -> InvalidArgument:
    return InvalidArgument(f"template parsing error: {reason} in {template!r}", code="template")


@dataclass(slots=True)
class _Block:
    """A ``range``, ``if`` or ``with`` (or the whole template: keyword empty)."""

    keyword: str
    tokens: list[str]
    body: list[Any] = field(default_factory=list)
    otherwise: list[Any] | None = None

    @property
    def open_part(self) -> list[Any]:
        return self.body if self.otherwise is None else self.otherwise


class Template:
    """A parsed template. Raises InvalidArgument for what it cannot do."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._root = self._parse()

    def render(self, value: Any) -> str:
        """The text for ``value``."""
        return "".join(self._run(self._root.body, value, {"$": value}))

    @property
    def fields(self) -> list[str]:
        """The top-level fields that are printed, in order: they head a table."""
        found = []
        for node in self._root.body:
            tokens = node.tokens if isinstance(node, _Block) else node if isinstance(node, list) else []
            found += [token.split(".")[1] for token in tokens if token.startswith(".") and len(token) > 1]
        return found

    def header(self, titles: Mapping[str, str]) -> str:
        """The template with titles in the place of fields."""
        return self.render(_Titles(titles))

    def _parse(self) -> _Block:
        root = _Block("", [])
        stack = [root]
        place, trim = 0, False
        for match in _ACTION.finditer(self.text):
            self._add_text(stack[-1], self.text[place : match.start()], trim, match[1] != "{{")
            place, trim = match.end(), match[3] != "}}"
            self._add_action(stack, self._tokens(match[2]))
        self._add_text(stack[-1], self.text[place:], trim, False)
        if "{{" in self.text[place:]:
            raise _fail(self.text, "unclosed action")
        if len(stack) > 1:
            raise _fail(self.text, f"{{{{{stack[-1].keyword}}}}} without {{{{end}}}}")
        return root

    @staticmethod
    def _add_text(block: _Block, text: str, left: bool, right: bool) -> None:
        text = text.lstrip() if left else text
        text = text.rstrip() if right else text
        for escape, char in _ESCAPES.items():
            text = text.replace(escape, char)
        if text:
            block.open_part.append(text)

    def _add_action(self, stack: list[_Block], tokens: list[str]) -> None:
        word = tokens[0] if tokens else ""
        if word in ("range", "if", "with"):
            block = _Block(word, tokens[1:])
            stack[-1].open_part.append(block)
            stack.append(block)
        elif word == "end":
            if len(stack) == 1:
                raise _fail(self.text, "unexpected {{end}}")
            stack.pop()
        elif word == "else":
            if len(stack) == 1 or len(tokens) > 1 or stack[-1].otherwise is not None:
                raise _fail(self.text, "unexpected {{else}}")
            stack[-1].otherwise = []
        elif not tokens:
            raise _fail(self.text, "missing value for command")
        else:
            stack[-1].open_part.append(tokens)

    def _tokens(self, action: str) -> list[str]:
        tokens: list[str] = []
        place = 0
        action = action.strip()
        while place < len(action):
            match = _TOKEN.match(action, place)
            if match is None:
                raise _fail(self.text, f"unexpected {action[place:].strip()!r}")
            chained = match[1].startswith(".") and place > 0 and action[place - 1] == ")"
            tokens.append(_Chained(match[1]) if chained else match[1])
            place = match.end()
            while place < len(action) and action[place].isspace():
                place += 1
        return tokens

    def _run(self, nodes: Sequence[Any], dot: Any, scope: Scope) -> Iterator[str]:
        for node in nodes:
            if isinstance(node, str):
                yield node
            elif isinstance(node, list):
                yield _text(self._pipeline(node, dot, scope))
            else:
                yield from self._block(node, dot, scope)

    def _block(self, block: _Block, dot: Any, scope: Scope) -> Iterator[str]:
        names, tokens = self._declared(block.tokens)
        value = self._pipeline(tokens, dot, scope)
        if block.keyword != "range":
            inner = scope | ({names[0]: value} if names else {})
            if value:
                yield from self._run(block.body, value if block.keyword == "with" else dot, inner)
            else:
                yield from self._run(block.otherwise or [], dot, scope)
            return
        pairs = list(_pairs(value, self.text))
        for key, item in pairs:
            declared = dict(zip(names, (key, item) if len(names) == 2 else (item,), strict=False))
            yield from self._run(block.body, item, scope | declared)
        if not pairs:
            yield from self._run(block.otherwise or [], dot, scope)

    @staticmethod
    def _declared(tokens: list[str]) -> tuple[list[str], list[str]]:
        if ":=" not in tokens:
            return [], tokens
        place = tokens.index(":=")
        return [name for name in tokens[:place] if name != ","], tokens[place + 1 :]

    def _pipeline(self, tokens: list[str], dot: Any, scope: Scope) -> Any:
        commands: list[list[Any]] = [[]]
        place = 0
        while place < len(tokens):
            token = tokens[place]
            if token == "|":  # noqa: S105
                commands.append([])
            elif token == "(":  # noqa: S105
                end = self._closing(tokens, place)
                value = self._pipeline(tokens[place + 1 : end], dot, scope)
                place = end
                if place + 1 < len(tokens) and isinstance(tokens[place + 1], _Chained):
                    place += 1
                    for name in filter(None, tokens[place].split(".")):
                        value = self._field(value, name)
                commands[-1].append(_Value(value))
            else:
                commands[-1].append(token)
            place += 1
        piped: list[Any] = []
        for command in commands:
            piped = [self._command(command, piped, dot, scope)]
        return piped[0]

    def _closing(self, tokens: list[str], start: int) -> int:
        depth = 0
        for place in range(start, len(tokens)):
            depth += {"(": 1, ")": -1}.get(tokens[place], 0)
            if depth == 0:
                return place
        raise _fail(self.text, "unclosed parenthesis")

    def _command(self, words: list[Any], piped: list[Any], dot: Any, scope: Scope) -> Any:
        if not words:
            raise _fail(self.text, "missing value for command")
        head = words[0]
        if isinstance(head, str) and re.fullmatch(r"[A-Za-z]\w*", head) and head not in ("true", "false", "nil"):
            function = _FUNCTIONS.get(head)
            if function is None:
                raise _fail(self.text, f'function "{head}" not defined (known: {", ".join(sorted(_FUNCTIONS))})')
            arguments = [self._operand(word, dot, scope) for word in words[1:]] + piped
            if any(isinstance(argument, _Titles) for argument in arguments):
                return arguments[-1]
            if any(isinstance(argument, _Title) for argument in arguments):
                return next(argument for argument in arguments if isinstance(argument, _Title))
            try:
                return function(*arguments)
            except (TypeError, LookupError, ValueError, AttributeError) as error:
                raise _fail(self.text, f"error calling {head}: {error}") from error
        if head == ".Label" and len(words) == 2 and not piped:
            return _label(dot, self._operand(words[1], dot, scope))
        if len(words) > 1 or piped:
            raise _fail(self.text, f"{head!r} is not a function")
        return self._operand(head, dot, scope)

    def _operand(self, word: Any, dot: Any, scope: Scope) -> Any:
        if isinstance(word, _Value):
            return word.value
        if word[0] == '"':
            return json.loads(word)
        if word[0] == "`":
            return word[1:-1]
        if word.lstrip("-").isdigit():
            return int(word)
        if word in ("true", "false", "nil"):
            return {"true": True, "false": False, "nil": None}[word]
        start, *names = word.split(".")
        if start.startswith("$") and start not in scope:
            raise _fail(self.text, f"undefined variable {start!r}")
        if start and not start.startswith("$"):
            raise _fail(self.text, f"unexpected {word!r}")
        value = scope[start] if start else dot
        for name in filter(None, names):
            value = self._field(value, name)
        return value

    def _field(self, value: Any, name: str) -> Any:
        if isinstance(value, _Titles):
            return value.title(name)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise _fail(self.text, f"can't evaluate field {name} in a value of type {type(value).__name__}")
        if name in value:
            return value[name]
        folded = {str(key).lower(): key for key in value}
        if name.lower() in folded:
            return value[folded[name.lower()]]
        raise InvalidArgument(
            f'template parsing error: map has no entry for key "{name}" in {self.text!r}', code="template"
        )


class _Chained(str):
    """Fields of the parenthesis that they follow at once, as in ``(index .Networks "bridge").IPAddress``."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class _Value:
    value: Any


class _Title(str):
    __slots__ = ()


class _Titles:
    """Stands for a row: its fields are the titles of the columns."""

    def __init__(self, titles: Mapping[str, str]) -> None:
        self._titles = titles

    def title(self, name: str) -> _Title:
        return _Title(self._titles.get(name, name.upper()))


def _pairs(value: Any, text: str) -> Iterator[tuple[Any, Any]]:
    if value is None or isinstance(value, _Titles | _Title):
        return
    if isinstance(value, Mapping):
        yield from sorted(value.items())
    elif isinstance(value, Sequence) and not isinstance(value, str):
        yield from enumerate(value)
    else:
        raise _fail(text, f"range can't iterate over {value!r}")


def _text(value: Any) -> str:
    """How Go prints a value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "<no value>"
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{key}:{_text(one)}" for key, one in sorted(value.items())) + "]"
    if isinstance(value, list | tuple):
        return "[" + " ".join(_text(one) for one in value) + "]"
    return str(value)


def to_json(value: Any) -> str:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=_as_null)


class Nil:
    """A pointer of Go's that points to nothing: ``<nil>`` as text, null in JSON."""

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        return "<nil>"


def _as_null(value: Any) -> None:
    if not isinstance(value, Nil):
        raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        value = value.get(key, "") if isinstance(value, Mapping) else value[key]
    return value


def _label(dot: Any, name: Any) -> Any:
    """The method ``Label`` of rows that have labels; a table's heading is the last part of the label's name."""
    if isinstance(dot, _Titles):
        return str(name).rpartition(".")[2].replace("-", " ").replace("_", " ")
    return dot.label(str(name)) if hasattr(dot, "label") else ""


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "json": to_json,
    "join": lambda values, separator: separator.join(str(value) for value in values or []),
    "split": lambda value, separator: value.split(separator),
    "len": lambda value: len(value or ()),
    "index": _index,
    "upper": lambda value: value.upper(),
    "lower": lambda value: value.lower(),
    "title": lambda value: value.title(),
    "println": lambda *values: " ".join(_text(value) for value in values) + "\n",
    "eq": lambda value, *others: value in others,
    "ne": lambda value, other: value != other,
    "not": lambda value: not value,
}
