"""What an audit finds, and the table of its rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum


class Severity(IntEnum):
    """How bad it is; the numbers only order them."""

    INFO = 0
    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4

    @property
    def word(self) -> str:
        """The name that people and documents use."""
        return self.name.lower()


SEVERITIES: Mapping[str, Severity] = {severity.word: severity for severity in Severity}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule. ``id`` never changes its meaning; ``why`` and ``fix`` are sentences without a full stop."""

    id: str
    severity: Severity
    title: str
    why: str
    fix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that a rule has found.

    ``path`` is a path in the image, or the name of a setting; ``layer`` counts from 0, -1 where no layer is meant.
    ``what`` says what it is, never what a secret's value is. ``ignored`` has the reason that a policy gives.
    """

    rule: str
    severity: Severity
    path: str
    what: str
    layer: int = -1
    fix: str = ""
    ignored: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerName:
    """A layer as findings name it: its digest, empty for a container's own, and the step that made it."""

    digest: str
    created_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What ``distroless`` has looked at: the closure, each member with its reason."""

    entrypoint: tuple[str, ...]
    closure: tuple[tuple[str, str], ...]
    programs: int
    holds: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The result of an audit. ``findings`` are sorted: the worst first, then by rule and path."""

    findings: tuple[Finding, ...]
    layers: tuple[LayerName, ...] = ()
    files: int = 0
    proof: Proof | None = None
    notes: tuple[str, ...] = field(default=())


def shown(path: str) -> str:
    """A path for people and documents: bytes that are no UTF-8 are replaced, control characters escaped."""
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)


def ordered(findings: list[Finding]) -> tuple[Finding, ...]:
    """The worst first, then by rule, path and layer."""
    return tuple(sorted(findings, key=lambda one: (-one.severity, one.rule, one.path, one.layer, one.what)))
