"""Checks on single instructions as they are written; they need nothing but the Dockerfile's nodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tare.build.checks import rules
from tare.build.checks.findings import Finding
from tare.build.dockerfile.parser import Node, ParsedFile
from tare.build.dockerfile.source import Source, SourceRange
from tare.build.dockerfile.words import quoted_words, split_blanks


def check_syntax(parsed: ParsedFile, *, before: int | None = None) -> Iterator[Finding]:
    """Findings in the nodes, those above line ``before`` only (where reading the Dockerfile went wrong)."""
    source = parsed.source
    for line in parsed.gaps:
        yield Finding.make(rules.NO_EMPTY_CONTINUATION, source, SourceRange(line, line))
    for node in parsed.nodes:
        if before is not None and node.range.first_line >= before:
            return
        if node.name == "MAINTAINER":
            yield Finding.make(rules.MAINTAINER_DEPRECATED, source, node.range)
        elif node.name == "FROM":
            yield from _from(node, source)
        elif node.name == "ARG":
            words = quoted_words(node.rest, parsed.directives.escape)
            yield from _description(node, "ARG", [word.partition("=")[0] for word in words], source)


def _from(node: Node, source: Source) -> Iterator[Finding]:
    words = split_blanks(node.rest)
    if len(words) != 3:
        return
    _, as_, name = words
    if name != name.lower():
        yield Finding.make(rules.STAGE_NAME_CASING, source, node.range, name=name)
    # A FROM that mixes cases is ConsistentInstructionCasing's.
    if (node.written.islower() and not as_.islower()) or (node.written.isupper() and not as_.isupper()):
        yield Finding.make(rules.FROM_AS_CASING, source, node.range, as_=as_, from_=node.written)
    yield from _description(node, "FROM", [name.lower()], source)


def _description(node: Node, instruction: str, names: list[str], source: Source) -> Iterator[Finding]:
    if not node.comments or not names or node.comments[-1].split(" ")[0] in names:
        return
    name = names[0] if len(names) == 1 else "<arg_key>"
    yield Finding.make(rules.INVALID_DEFINITION_DESCRIPTION, source, node.range, instruction=instruction, name=name)


def check_casing(nodes: Iterable[Node], source: Source) -> Iterator[Finding]:
    """Instructions in another case than most of the file; ARGs above the first FROM do not count."""
    counted: list[Node] = []
    for node in nodes:
        if counted or node.name == "FROM":
            counted.append(node)
    lower = sum(node.written.islower() for node in counted)
    upper = sum(node.written.isupper() for node in counted)
    casing = "lowercase" if lower > upper else "uppercase"
    for node in counted:
        wanted = node.written.lower() if casing == "lowercase" else node.written.upper()
        if node.written != wanted:
            yield Finding.make(
                rules.CONSISTENT_INSTRUCTION_CASING, source, node.range, name=node.written, casing=casing
            )
