"""The shell's syntax tree, as tree-sitter's grammar gives it, and the quoting of words."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from tree_sitter import Language, Node, Parser

UNKNOWN = "\N{OBJECT REPLACEMENT CHARACTER}"
"""Stands in a word for what cannot be known without running the script."""

QUIET = frozenset({"comment", "heredoc_body", "heredoc_end", "heredoc_start", "file_descriptor", "\n"})


class ScriptUnclear(Exception):
    """The script cannot be followed; the message says why, ``line`` where."""

    def __init__(self, message: str, line: int = 1) -> None:
        super().__init__(message)
        self.line = line


@cache
def _language() -> Language:
    import tree_sitter_bash

    return Language(tree_sitter_bash.language())


def parse(source: bytes) -> Node:
    """The root of the script's tree. Raises ScriptUnclear where the syntax is not understood."""
    root = Parser(_language()).parse(source).root_node
    if root.has_error and b"<>" in source:  # the grammar lacks it; as long, and nothing is read or written either way
        root = Parser(_language()).parse(source.replace(b"<>", b"< ")).root_node
    if root.has_error:
        fault = next((node for node in descend(root) if node.is_error or node.is_missing), root)
        raise ScriptUnclear("its syntax is not understood", line_of(fault))
    return root


def clause_of(node: Node) -> tuple[list[Node], list[Node]]:
    """The conditions and the commands of an ``if``, ``elif`` or ``else``."""
    conditions: list[Node] = []
    body: list[Node] = []
    place = body if node.type == "else_clause" else conditions
    for part in node.children:
        if part.type == "then":
            place = body
        elif part.is_named and part.type not in (*QUIET, "elif_clause", "else_clause"):
            place.append(part)
    return conditions, body


def descend(node: Node) -> Iterator[Node]:
    """The node and all below it, in the order of the text."""
    pending = [node]
    while pending:
        here = pending.pop()
        yield here
        pending.extend(reversed(here.children))


def field_of(node: Node, name: str) -> Node:
    """A part that must be there. Raises ScriptUnclear."""
    found = node.child_by_field_name(name)
    if found is None:
        raise ScriptUnclear(f"a {node.type.replace('_', ' ')} without its {name}", line_of(node))
    return found


def line_of(node: Node) -> int:
    """The line on which the node begins, from 1."""
    return node.start_point[0] + 1


def text_of(node: Node | None) -> str:
    """The node's text as it stands; empty for none."""
    return "" if node is None or node.text is None else node.text.decode(errors="replace")


def unescaped(word: str) -> str:
    """Backslashes outside quotes."""
    out, characters = [], iter(word)
    for character in characters:
        if character == "\\":
            following = next(characters, "")
            out.append("" if following == "\n" else following)
        else:
            out.append(character)
    return "".join(out)


def unquoted(text: str) -> str:
    """Backslashes inside double quotes: they quote only what is special there (POSIX, 2.2.3)."""
    out, characters = [], iter(text)
    for character in characters:
        following = next(characters, "") if character == "\\" else ""
        out.append(character if character != "\\" else following if following in '$`"\\' else f"\\{following}")
    return "".join(out)
