"""What a maintainer script would do on a new system: its commands, found by following it without running it.

The script is parsed by tree-sitter's grammar of the shell and walked with constants propagated: ``$1`` is known,
variables and loops over literal words are, most tests on them are as well. A branch whose condition is not known is
followed and left: both outcomes count.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tree_sitter import Node

from tare.distroless.shell_syntax import (
    QUIET,
    UNKNOWN,
    ScriptUnclear,
    clause_of,
    descend,
    field_of,
    line_of,
    parse,
    text_of,
    unescaped,
    unquoted,
)

_SIZE_LIMIT = 1 << 20  # bytes of a script
_STEP_LIMIT = 5_000  # commands noted
_WALK_LIMIT = 100_000  # constructs followed, loops unrolled
_VALUE_LIMIT = 16 << 10  # characters of a variable
_WORDS_LIMIT = 1 << 20  # characters of one command's words
_UNKNOWNS = re.compile(f"{UNKNOWN}+")
_DEPTH_LIMIT = 100  # nested constructs and calls
_BLOCKS = frozenset({"program", "compound_statement", "do_group", "else_clause", "case_item"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One command: the line it stands on (from 1), its words, and the files that its output goes to.

    ``text`` is as the script has it. ``is_certain`` tells that no unknown condition decides about it. ``appends`` when
    ``>>`` adds to the files, ``document`` is what a here-document gives it.
    """

    line: int
    words: tuple[str, ...]
    text: str
    is_certain: bool = True
    writes: tuple[str, ...] = ()
    appends: bool = False
    document: str | None = None


class Facts(Protocol):
    """What is known of the system that the script would run on; ``None`` wherever it is not."""

    def status(self, words: Sequence[str]) -> bool | None:
        """Whether the command succeeds."""

    def output(self, words: Sequence[str], given: str | None) -> str | None:
        """What the command prints, without the last newline; ``given`` is what it reads from a pipe."""

    def exists(self, path: str) -> bool | None:
        """Whether there is such a file."""

    def assigned(self, words: Sequence[str]) -> dict[str, str]:
        """Variables that the command sets (debconf's functions set ``RET``)."""


class _Leave(Exception):
    """``exit`` or ``return``, with the status that is given."""

    def __init__(self, status: bool | None) -> None:
        super().__init__()
        self.status = status


def follow(
    script: str, arguments: Sequence[str], facts: Facts, variables: Mapping[str, str] | None = None
) -> list[Step]:
    """The commands that ``script`` runs when called with ``arguments`` and environment ``variables``.

    Raises ScriptUnclear.
    """
    return _Interpreter(script, arguments, facts, variables or {}).run()


class _Interpreter:
    def __init__(self, script: str, arguments: Sequence[str], facts: Facts, variables: Mapping[str, str]) -> None:
        self._source = script.encode()
        self._facts = facts
        self._variables = dict(variables)
        self._arguments = list(arguments)
        self._functions: dict[str, Node] = {}
        self._steps: list[Step] = []
        self._doubts = 0
        self._may_have_left = False
        self._depth = 0
        self._walked = 0
        self._redirects: list[tuple[tuple[str, ...], bool, str | None]] = []

    def run(self) -> list[Step]:
        if len(self._source) > _SIZE_LIMIT:
            raise ScriptUnclear("it is too long")
        root = parse(self._source)
        try:
            self._block(root)
        except _Leave:
            pass
        return self._steps

    def _walk(self, node: Node) -> bool | None:
        self._walked += 1
        if self._walked > _WALK_LIMIT:
            raise ScriptUnclear("it takes too many steps", line_of(node))
        self._depth += 1
        if self._depth > _DEPTH_LIMIT:
            raise ScriptUnclear("it is nested too deeply", line_of(node))
        try:
            return self._dispatch(node)
        finally:
            self._depth -= 1

    def _dispatch(self, node: Node) -> bool | None:
        kind = node.type
        if kind in _BLOCKS:
            return self._block(node)
        match kind:
            case "command":
                return self._command(node)
            case "list":
                return self._list(node)
            case "pipeline":
                return [self._walk(part) for part in node.named_children if part.type not in QUIET][-1]
            case "redirected_statement":
                return self._redirected(node)
            case "subshell":
                return self._subshell(node)
            case "if_statement":
                return self._if(node)
            case "case_statement":
                return self._case(node)
            case "for_statement":
                return self._for(node)
            case "while_statement":
                return self._loop(node)
            case "negated_command":
                status = self._walk(node.named_children[0])
                return None if status is None else not status
            case "test_command":
                return self._test(node.named_children[0]) if node.named_child_count else False
            case "function_definition":
                self._functions[text_of(node.child_by_field_name("name"))] = field_of(node, "body")
                return True
            case "variable_assignment":
                return self._assign(node)
            case "variable_assignments" | "declaration_command":
                for part in node.named_children:
                    if part.type == "variable_assignment":
                        self._assign(part)
                return True
            case "unset_command":
                return True
            case _:
                raise ScriptUnclear(f"{kind.replace('_', ' ')} is not followed", line_of(node))

    def _block(self, node: Node) -> bool | None:
        status: bool | None = True
        values = node.children_by_field_name("value") if node.type == "case_item" else []
        for part in node.named_children:
            if part.type not in QUIET and part not in values:
                status = self._walk(part)
        return status

    def _subshell(self, node: Node) -> bool | None:
        before = dict(self._variables)
        try:
            return self._block(node)
        except _Leave:
            return None
        finally:
            self._variables = before

    def _list(self, node: Node) -> bool | None:
        left, operator, right = node.children[0], node.children[1].type, node.children[-1]
        status = self._walk(left)
        if status is None:
            self._doubtful(right)
            return None
        if status is (operator == "&&"):
            return self._walk(right)
        return status

    def _doubtful(self, *nodes: Node) -> None:
        """Follow what may or may not be run."""
        self._doubts += 1
        before = dict(self._variables)
        try:
            for node in nodes:
                self._walk(node)
        except _Leave:
            self._may_have_left = True
        finally:
            self._doubts -= 1
        for name in before.keys() | self._variables.keys():
            if before.get(name, "") != self._variables.get(name, ""):
                self._variables[name] = UNKNOWN

    def _if(self, node: Node) -> bool | None:
        """``if`` and its ``elif`` and ``else`` clauses, in their order."""
        doubt = False
        for clause in (node, *(part for part in node.named_children if part.type in ("elif_clause", "else_clause"))):
            conditions, body = clause_of(clause)
            status: bool | None = True
            for condition in conditions:
                status = self._walk(condition)
            if status is False:
                continue
            if status is None or doubt:
                doubt = True
                self._doubtful(*body)
                if status is None:
                    continue
                return None
            for part in body:
                self._walk(part)
            return True
        return None if doubt else True

    def _case(self, node: Node) -> bool | None:
        value = self._value(field_of(node, "value"))
        doubt = UNKNOWN in value
        for item in node.named_children:
            if item.type != "case_item":
                continue
            patterns = [self._value(part) for part in item.children_by_field_name("value")]
            if doubt:
                self._doubtful(item)
            elif any(UNKNOWN in pattern for pattern in patterns):
                doubt = True
                self._doubtful(item)
            elif any(fnmatch.fnmatchcase(value, pattern) for pattern in patterns):
                return self._walk(item)
        return None if doubt else True

    def _for(self, node: Node) -> bool | None:
        name, body = text_of(node.child_by_field_name("variable")), field_of(node, "body")
        words = [word for part in node.children_by_field_name("value") for word in self._fields(part)]
        if not node.children_by_field_name("value"):
            words = list(self._arguments)
        if any(UNKNOWN in word or "*" in word for word in words):
            self._variables[name] = UNKNOWN
            self._doubtful(body)
            return None
        for word in words:
            self._variables[name] = word
            self._walk(body)
        return True

    def _loop(self, node: Node) -> bool | None:
        body = field_of(node, "body")
        for part in descend(body):
            if part.type == "variable_assignment":
                self._variables[text_of(part.child_by_field_name("name"))] = UNKNOWN
            elif part.type == "command" and text_of(part.child_by_field_name("name")) == "shift":
                self._arguments = [UNKNOWN]
        conditions = node.children_by_field_name("condition")
        for condition in conditions:
            for part in descend(condition):
                if part.type == "command" and text_of(part.child_by_field_name("name")) == "read":
                    for word in part.children_by_field_name("argument"):
                        self._variables[text_of(word)] = UNKNOWN
        self._doubtful(*(part for part in conditions if part.is_named), body)
        return None

    def _redirected(self, node: Node) -> bool | None:
        writes: list[str] = []
        appends, document = False, None
        for redirect in node.children_by_field_name("redirect"):
            operator = next((part.type for part in redirect.children if not part.is_named), "")
            if redirect.type == "heredoc_redirect":
                document = self._document(redirect)
                nested = [part for part in redirect.named_children if part.type == "file_redirect"]
            else:
                nested = [redirect]
            for part in nested:
                operator = next((child.type for child in part.children if not child.is_named), "")
                target = part.child_by_field_name("destination")
                if target is not None and operator in (">", ">>", "&>", ">|", "&>>"):
                    writes.append(self._value(target))
                    appends = appends or ">>" in operator
        body = node.child_by_field_name("body")
        self._redirects.append((tuple(writes), appends, document))
        try:
            if body is None:
                self._record(node, ("true",))
                return True
            return self._walk(body)
        finally:
            self._redirects.pop()

    def _document(self, node: Node) -> str:
        body = next((part for part in node.named_children if part.type == "heredoc_body"), None)
        if body is None:
            return ""
        start = next(part for part in node.named_children if part.type == "heredoc_start")
        if any(mark in text_of(start) for mark in "'\"\\"):
            return text_of(body)
        return self._joined(body)

    def _command(self, node: Node) -> bool | None:
        name = node.child_by_field_name("name")
        for part in node.named_children:
            if part.type == "variable_assignment" and name is None:
                self._assign(part)
        if name is None:
            return True
        words = [*self._fields(name)]
        size = 0
        for part in node.children_by_field_name("argument"):
            fields = self._fields(part)
            words += fields
            size += sum(map(len, fields))
            if size > _WORDS_LIMIT:
                raise ScriptUnclear("its words are too long", line_of(node))
        if not words:
            return None
        return self._run(node, tuple(words))

    def _run(self, node: Node, words: tuple[str, ...]) -> bool | None:
        match words[0]:
            case "exit" | "return":
                # in doubt it ends the branch; what comes after it is followed all the same
                raise _Leave({"0": True, "1": False}.get(words[1]) if len(words) > 1 else None)
            case "true" | ":":
                self._record(node, words)
                return True
            case "false":
                return False
            case "shift":
                del self._arguments[: int(words[1]) if len(words) > 1 and words[1].isdigit() else 1]
                return True
            case "set" if "--" in words:
                self._arguments = list(words[words.index("--") + 1 :])
                return True
            case "read":
                self._variables.update(dict.fromkeys(words[1:], UNKNOWN))
                return None
            case "test" | "[":
                self._record(node, words)
                return None if any(UNKNOWN in word for word in words) else _plain_test(words[1:], self._facts)
            case "getopts" | "exec" if len(words) == 1:
                return True
        if words[0] in self._functions:
            return self._call(words)
        self._record(node, words)
        self._variables.update(self._facts.assigned(words))
        return self._facts.status(words)

    def _call(self, words: Sequence[str]) -> bool | None:
        outside, left = self._arguments, self._may_have_left
        self._arguments, self._may_have_left = list(words[1:]), False
        try:
            status = self._walk(self._functions[words[0]])
            return None if self._may_have_left else status
        except _Leave as leave:
            return None if self._may_have_left else leave.status
        finally:
            self._arguments, self._may_have_left = outside, left

    def _record(self, node: Node, words: tuple[str, ...]) -> None:
        if len(self._steps) >= _STEP_LIMIT:
            raise ScriptUnclear("it takes too many steps", line_of(node))
        self._steps.append(
            Step(
                line=line_of(node),
                words=words,
                text=" ".join(text_of(node).replace("\\\n", " ").split()),
                is_certain=self._doubts == 0 and not self._may_have_left,
                writes=tuple(path for writes, _, _ in self._redirects for path in writes),
                appends=any(appends for _, appends, _ in self._redirects),
                document=next((document for *_, document in reversed(self._redirects) if document is not None), None),
            )
        )

    def _assign(self, node: Node) -> bool | None:
        name, value = text_of(node.child_by_field_name("name")), node.child_by_field_name("value")
        operator = next((part.type for part in node.children if part.type in ("=", "+=")), "=")
        given = "" if value is None else self._value(value)
        value_now = self._variables.get(name, "") + given if operator == "+=" else given
        self._variables[name] = _UNKNOWNS.sub(UNKNOWN, value_now) if len(value_now) <= _VALUE_LIMIT else UNKNOWN
        return None if value is not None and value.type == "command_substitution" else True

    def _test(self, node: Node) -> bool | None:
        match node.type:
            case "parenthesized_expression":
                return self._test(node.named_children[0])
            case "unary_expression":
                operator = text_of(node.child_by_field_name("operator"))
                inner = node.named_children[-1]
                if operator == "!":
                    status = self._test(inner)
                    return None if status is None else not status
                return _plain_test((operator, self._value(inner)), self._facts)
            case "binary_expression":
                left, right = field_of(node, "left"), node.child_by_field_name("right")
                operator = text_of(node.child_by_field_name("operator"))
                if right is None:
                    return None
                if operator in ("-a", "&&"):
                    return _both(self._test(left), self._test(right))
                if operator in ("-o", "||"):
                    return _either(self._test(left), self._test(right))
                return _plain_test((self._value(left), operator, self._value(right)), self._facts)
            case _:
                value = self._value(node)
                return None if UNKNOWN in value else bool(value)

    def _value(self, node: Node) -> str:
        """One word, not split."""
        return self._joined(node)

    def _fields(self, node: Node) -> list[str]:
        """The words that ``node`` expands to: unquoted expansions are split."""
        if node.type in ("simple_expansion", "expansion", "command_substitution"):
            return self._joined(node).split()
        if node.type == "command_name":
            return self._fields(node.named_children[0])
        if node.type == "string" and text_of(node) == '"$@"':
            return list(self._arguments)
        if node.type == "concatenation" and any(
            part.type in ("simple_expansion", "expansion") for part in node.children
        ):
            text = self._joined(node)
            return text.split() if not any(part.type in ("string", "raw_string") for part in node.children) else [text]
        return [self._joined(node)]

    def _joined(self, node: Node) -> str:
        match node.type:
            case "raw_string" | "ansi_c_string":
                return text_of(node)[1:-1] if node.type == "raw_string" else UNKNOWN
            case "word" | "number" | "extglob_pattern" | "regex" | "test_operator" | "string_content":
                return unescaped(text_of(node)) if node.type != "string_content" else unquoted(text_of(node))
            case "simple_expansion":
                return self._variable(text_of(node)[1:])
            case "expansion":
                return self._expansion(node)
            case "command_substitution":
                return self._substitution(node)
            case "concatenation" | "string" | "heredoc_body" | "command_name":
                return self._pieces(node)
            case _:
                return UNKNOWN

    def _pieces(self, node: Node) -> str:
        """Children with the literal text between them."""
        quoted = node.type == "string"
        start, end = node.start_byte + quoted, node.end_byte - quoted
        pieces, at, length = [], start, 0
        for part in node.children:
            if part.type == '"' or (part.type == "string_content" and not part.is_named):
                continue
            if part.start_byte > at:
                pieces.append(self._source[at : part.start_byte].decode(errors="replace"))
            if part.type == "heredoc_content":
                pieces.append(text_of(part))
            else:
                pieces.append(self._joined(part) if part.is_named else text_of(part))
            at = part.end_byte
            length += len(pieces[-1])
            if length > _WORDS_LIMIT:
                raise ScriptUnclear("its words are too long", line_of(node))
        pieces.append(self._source[at:end].decode(errors="replace") if at < end else "")
        return "".join(pieces)

    def _variable(self, name: str) -> str:
        if name.isdigit():
            index = int(name) - 1
            return "postinst" if index < 0 else self._arguments[index] if index < len(self._arguments) else ""
        if name in ("@", "*"):
            return " ".join(self._arguments)
        if name == "#":
            return str(len(self._arguments))
        if name in ("?", "$", "!", "-"):
            return UNKNOWN
        return self._variables.get(name, "")

    def _expansion(self, node: Node) -> str:
        name = next(
            (part for part in node.named_children if part.type in ("variable_name", "special_variable_name")), None
        )
        operator = next((part.type for part in node.children if part.type in (":-", "-", ":+", "+", ":=", "=")), "")
        if name is None:
            return UNKNOWN
        value = self._variable(text_of(name))
        rest = [part for part in node.named_children if part != name]
        other = [part for part in node.children if not part.is_named and part.type not in ("${", "}", operator)]
        if operator and not other:
            default = self._joined(rest[0]) if rest else ""
            if operator in (":-", "-", ":=", "="):
                return value or default
            return default if value else ""
        return value if not rest and not other else UNKNOWN

    def _substitution(self, node: Node) -> str:
        inner = [part for part in node.named_children if part.type not in QUIET]
        if len(inner) != 1:
            return UNKNOWN
        before = len(self._steps)
        self._doubtful(inner[0])
        parts = [part for part in inner[0].named_children if part.type not in QUIET]
        printed: str | None = None
        for part in parts if inner[0].type == "pipeline" else inner:
            words = self._plain_words(part)
            printed = self._facts.output(words, printed) if words else None
            if printed is None:
                return UNKNOWN
        del self._steps[before:]  # what they print is known: nothing is left to be judged
        return UNKNOWN if printed is None else printed

    def _plain_words(self, node: Node) -> tuple[str, ...]:
        """The words of a simple command; empty for anything else."""
        while node.type == "redirected_statement" and (body := node.child_by_field_name("body")) is not None:
            node = body
        name = node.child_by_field_name("name") if node.type == "command" else None
        if name is None:
            return ()
        words = [word for part in (name, *node.children_by_field_name("argument")) for word in self._fields(part)]
        return () if any(UNKNOWN in word for word in words) else tuple(words)


def _plain_test(words: Sequence[str], facts: Facts) -> bool | None:
    """test(1) with one or two operands."""
    match words:
        case ("!", *rest):
            status = _plain_test(rest, facts)
            return None if status is None else not status
        case (("-z" | "-n") as operator, value):
            # text beside what is unknown is text all the same
            is_text = bool(value.replace(UNKNOWN, "")) or (None if UNKNOWN in value else False)
            return is_text if is_text is None or operator == "-n" else not is_text
        case (("-e" | "-f" | "-d" | "-x" | "-r" | "-s" | "-h" | "-L" | "-w"), value):
            return None if UNKNOWN in value else facts.exists(value)
        case (left, ("=" | "==" | "!=") as operator, right):
            if UNKNOWN in left or UNKNOWN in right:
                return None
            return (left == right) is (operator != "!=")
        case (value,):
            return None if UNKNOWN in value else bool(value)
        case _:
            return None


def _both(one: bool | None, two: bool | None) -> bool | None:
    return False if one is False or two is False else None if one is None or two is None else True


def _either(one: bool | None, two: bool | None) -> bool | None:
    return True if one or two else None if one is None or two is None else False
