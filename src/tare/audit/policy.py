"""Policies: which findings are accepted and why, how bad each rule is, what must be there."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from tare.audit.files import finding
from tare.audit.findings import SEVERITIES, Finding, Severity
from tare.audit.rules import RULES
from tare.errors import InvalidArgument

_UNITS = {"": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]i?b)?", re.IGNORECASE)


class _Ignore(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    rule: str | list[str]
    reason: str
    path: str = ""
    expires: str = ""


class _Require(msgspec.Struct, rename="kebab", forbid_unknown_fields=True, kw_only=True):
    distroless: bool = False
    labels: list[str] = []
    max_size: int | str = 0
    healthcheck: bool = False


class _Document(msgspec.Struct, rename="kebab", forbid_unknown_fields=True, kw_only=True):
    fail_on: str = ""
    programs: list[str] = []
    severity: dict[str, str] = {}
    ignore: list[_Ignore] = []
    require: _Require = msgspec.field(default_factory=_Require)


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """Findings that are accepted: of these rules, at paths that fit the pattern (None: everywhere), until a day."""

    rules: frozenset[str]
    path: re.Pattern[str] | None
    reason: str
    expires: datetime.date | None
    position: int

    def fits(self, one: Finding) -> bool:
        """Whether the finding is meant."""
        return one.rule in self.rules and (self.path is None or self.path.fullmatch(one.path) is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """What must be so: labels that are set, a size in bytes at most (0: any), a health check."""

    labels: tuple[str, ...] = ()
    max_size: int = 0
    healthcheck: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A policy that has been read. ``fail_on`` is None where it says nothing."""

    fail_on: Severity | None = None
    programs: tuple[str, ...] = ()
    severities: Mapping[str, Severity] = field(default_factory=dict)
    accepted: tuple[Acceptance, ...] = ()
    requirements: Requirements = Requirements()
    distroless: bool = False

    def apply(self, findings: Sequence[Finding], today: datetime.date) -> tuple[list[Finding], list[str]]:
        """The findings with the policy's severities and reasons, and notes about accepted that excuse nothing."""
        used: set[int] = set()
        judged, notes = [], []
        for one in findings:
            changed = replace(one, severity=self.severities.get(one.rule, one.severity))
            for acceptance in self.accepted:
                if acceptance.fits(one):
                    used.add(acceptance.position)
                    if acceptance.expires is None or today <= acceptance.expires:
                        changed = replace(changed, ignored=acceptance.reason)
            judged.append(changed)
        for acceptance in self.accepted:
            name = f"ignore[{acceptance.position}]"
            if acceptance.position not in used:
                notes.append(f"policy: {name} ({', '.join(sorted(acceptance.rules))}) fits no finding")
            elif acceptance.expires is not None and today > acceptance.expires:
                judged.append(finding("policy-expired", name, f"expired on {acceptance.expires}: {acceptance.reason}"))
        return judged, notes

    def check_required(self, labels: Mapping[str, str], size: int, *, healthcheck: bool) -> Iterator[Finding]:
        """What is required and not there."""
        wanted = self.requirements
        for label in wanted.labels:
            if label not in labels:
                yield finding("policy-required", f"label {label}", "the image does not have it")
        if wanted.max_size and size > wanted.max_size:
            yield finding("policy-required", "max-size", f"the layers have {size} bytes, at most {wanted.max_size}")
        if wanted.healthcheck and not healthcheck:
            yield finding("policy-required", "healthcheck", "there is none")


def read_policy(document: object) -> Policy:
    """Read a policy's document. Raises InvalidArgument naming the place, the cause and what there is."""
    try:
        read = msgspec.convert(document, _Document)
    except msgspec.ValidationError as error:
        place = "document" if " - at " not in str(error) else f"{str(error).rpartition('`$.')[2][:-1]}"
        cause = str(error).partition(" - at ")[0]
        raise _wrong(place, f"{cause[:1].lower()}{cause[1:]}", "docs/audit.md has the form") from error
    return Policy(
        fail_on=read_severity(read.fail_on, "policy: fail-on") if read.fail_on else None,
        programs=tuple(read.programs),
        severities={
            _rule(name, "severity"): read_severity(word, f"policy: severity.{name}")
            for name, word in read.severity.items()
        },
        accepted=tuple(_acceptance(one, position) for position, one in enumerate(read.ignore)),
        requirements=Requirements(
            labels=tuple(read.require.labels),
            max_size=_bytes(read.require.max_size),
            healthcheck=read.require.healthcheck,
        ),
        distroless=read.require.distroless,
    )  # fmt: skip


def read_severity(word: str, place: str) -> Severity:
    """A severity by its name. Raises InvalidArgument."""
    try:
        return SEVERITIES[word.lower()]
    except KeyError:
        hint = f"there are {', '.join(SEVERITIES)}"
        raise InvalidArgument(f"{place}: {word!r} is no severity", hint=hint, code="policy-invalid") from None


def _acceptance(one: _Ignore, position: int) -> Acceptance:
    place = f"ignore[{position}]"
    names = [one.rule] if isinstance(one.rule, str) else one.rule
    if not one.reason.strip():
        raise _wrong(place, "the reason is empty", "say why the finding is accepted")
    expires = None
    if one.expires:
        try:
            expires = datetime.date.fromisoformat(one.expires)
        except ValueError as error:
            raise _wrong(place, f"expires: {one.expires!r} is no day", "write it as 2027-01-31") from error
    return Acceptance(
        rules=frozenset(_rule(name, place) for name in names),
        path=_pattern(one.path) if one.path else None,
        reason=one.reason,
        expires=expires,
        position=position,
    )


def _rule(name: str, place: str) -> str:
    if name not in RULES:
        import difflib

        near = difflib.get_close_matches(name, RULES, n=1)
        raise _wrong(place, f"there is no rule {name!r}", f"did you mean {near[0]}?" if near else "tare audit --rules")
    return name


def _pattern(glob: str) -> re.Pattern[str]:
    """``*`` and ``?`` stay within a directory, ``**`` does not."""
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", glob)
    words = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(words.get(part, re.escape(part)) for part in parts), re.DOTALL)


def _bytes(value: int | str) -> int:
    if isinstance(value, int):
        return value
    match = _SIZE.fullmatch(value.strip())
    if match is None:
        raise _wrong("require.max-size", f"{value!r} is no size", "a number of bytes, or such as 50MB or 20MiB")
    return int(float(match[1]) * _UNITS[(match[2] or "").lower()])


def _wrong(place: str, cause: str, hint: str) -> InvalidArgument:
    return InvalidArgument(f"policy: {place}: {cause}", hint=hint, code="policy-invalid")
