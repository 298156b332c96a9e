"""Reads the ruleset that :mod:`tare.network.ruleset` writes, in nft(8)'s notation, into chains and sets.

It knows as much of the notation as that module uses, and says what it does not know: a rule that is misread would make
predictions wrong in silence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from tare.errors import InternalError
from tare.network.packet import is_pattern, normal

_TOKEN = re.compile(r'"[^"]*"|[{},]|[^\s{},]+')
_PRIORITIES = {"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50, "srcnat": 100}
_BASE = re.compile(r"type (\w+) hook (\w+) priority (\w+|-?\d+)(?: ([+-]) (\d+))?;(?: policy (\w+);)?")
_SECTION = re.compile(r"(set|map|chain) (\S+) \{")

Key = tuple[str, ...]


@dataclass
class Elements:
    """A set or map: what is in it by key, single values apart from patterns, so that size costs nothing."""

    exact: dict[Key, str] = field(default_factory=dict)
    patterns: list[tuple[Key, str]] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Add an element in nft's notation: ``"br" . 10.0.0.1 : accept``."""
        left, _, value = text.partition(" : ")
        key = tuple(normal(part.strip().strip('"')) for part in left.split(" . "))
        if any(is_pattern(part) for part in key):
            self.patterns.append((key, value.strip()))
        else:
            self.exact[key] = value.strip()


@dataclass(frozen=True)
class Rule:
    """A rule's words as they are written, and its comment."""

    tokens: tuple[str, ...]
    text: str
    comment: str


@dataclass
class Chain:
    """A chain; ``hook`` is empty for one that others jump to. ``kind`` is ``filter`` or ``nat``."""

    name: str
    rules: list[Rule] = field(default_factory=list)
    kind: str = ""
    hook: str = ""
    priority: int = 0
    policy: str = "accept"


@dataclass
class Table:
    """A table's chains and sets by name."""

    name: str
    chains: dict[str, Chain] = field(default_factory=dict)
    sets: dict[str, Elements] = field(default_factory=dict)

    def at(self, hook: str) -> list[Chain]:
        """The chains of a hook in the order in which packets meet them."""
        found = [chain for chain in self.chains.values() if chain.hook == hook]
        return sorted(found, key=lambda chain: chain.priority)


def read_table(text: str) -> Table:
    """The table of both families (``inet``) that ``text`` defines. Raises InternalError for notation that is not known.

    Tables of one family are left out: they lead what the host's input policy has let in to this one.
    """
    lines = iter(text.splitlines())
    table = Table("")
    wanted = False
    for line in map(str.strip, lines):
        if line.startswith("table ") and line.endswith("{"):
            family, name = line.split()[1:3]
            wanted = family == "inet"
            if wanted:
                table = Table(name)
            continue
        section = _SECTION.fullmatch(line)
        if section is None or not wanted:
            continue  # commands before the definition, the brace that ends it, other families' tables
        body = []
        depth = 1
        for inner in map(str.strip, lines):
            depth += inner.count("{") - inner.count("}")
            if depth == 0:
                break
            body.append(inner)
        kind, name = section.groups()
        if kind == "chain":
            table.chains[name] = _chain(name, body)
        else:
            table.sets[name] = _elements(body)
    return table


def _elements(body: list[str]) -> Elements:
    found = Elements()
    content = re.search(r"elements = \{(.*)\}", " ".join(body))
    for text in content.group(1).split(",") if content else ():
        if text.strip():
            found.add(text.strip())
    return found


def _chain(name: str, body: list[str]) -> Chain:
    chain = Chain(name)
    for line in body:
        base = _BASE.match(line)
        if base is not None:
            chain.kind, chain.hook, priority, sign, offset, policy = base.groups()
            chain.priority = _priority(priority) + int(f"{sign or ''}{offset or 0}")
            chain.policy = policy or "accept"
        elif line and not line.startswith("#"):
            chain.rules.append(_rule(line))
    return chain


def _priority(text: str) -> int:
    if text.lstrip("-").isdecimal():
        return int(text)
    if text not in _PRIORITIES:
        raise InternalError(f"firewall rules: priority {text!r} is not known", code="rule-not-modelled")
    return _PRIORITIES[text]


def _rule(line: str) -> Rule:
    tokens = _TOKEN.findall(line)
    comment = ""
    if "comment" in tokens:
        place = tokens.index("comment")
        comment = tokens[place + 1].strip('"')
        tokens = tokens[:place] + tokens[place + 2 :]
    return Rule(tuple(tokens), re.sub(r'\s*comment "[^"]*"', "", line).strip(), comment)
