"""Which paths of a build context are left out (Docker documentation, ".dockerignore file").

Rules are tried in order and the last that matches the path or one of its parent directories decides; a rule with
``!`` in front brings back what earlier rules left out.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass

from tare.build.dockerfile.globs import PathPattern
from tare.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class IgnoreRule:
    """One rule: its pattern, whether it is an exception (``!``), its line from 1 and text for reports."""

    pattern: PathPattern
    exception: bool
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a path is left out, and the rule that decided (None: no rule matched)."""

    ignored: bool
    rule: IgnoreRule | None


class IgnoreRules:
    """All rules of one file, in order.

    Paths are relative to the context, separated by ``/``, without ``.`` components. Remembers what it found for
    directories, so that a walk tests each name once; not for use by several threads.
    """

    def __init__(self, rules: Iterable[IgnoreRule] = ()) -> None:
        self.rules = tuple(rules)
        self._directories: dict[str, tuple[bool, ...]] = {"": (False,) * len(self.rules)}

    @classmethod
    def parse(cls, text: str, name: str = ".dockerignore") -> IgnoreRules:
        """Read a file's text; raises InvalidArgument that names the file and the line."""
        rules: list[IgnoreRule] = []
        for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
            if line.startswith("#") or not line.strip():
                continue
            try:
                rules.append(_rule(line, number))
            except InvalidArgument as error:
                raise InvalidArgument(f"{name}:{number}: {error.message}", hint=error.hint) from error
        return cls(rules)

    @classmethod
    def from_patterns(cls, patterns: Iterable[str]) -> IgnoreRules:
        """Rules from single patterns, such as the values of ``--exclude``; raises InvalidArgument."""
        return cls(_rule(pattern, number) for number, pattern in enumerate(patterns, start=1) if pattern.strip())

    def __bool__(self) -> bool:
        return bool(self.rules)

    def matches(self, path: str, is_dir: bool = False) -> bool:
        """Whether ``path`` is left out. A directory may be left out and still have to be walked (:meth:`can_prune`)."""
        return self.decide(path, is_dir).ignored

    def decide(self, path: str, is_dir: bool = False) -> Decision:
        """Whether ``path`` is left out, and by which rule."""
        ignored, rule = False, None
        for candidate, matched in zip(self.rules, self._matched(path, keep=is_dir), strict=True):
            # An exception to nothing decides nothing.
            if matched and (not candidate.exception or ignored):
                ignored, rule = not candidate.exception, candidate
        return Decision(ignored, rule)

    def can_prune(self, directory: str) -> bool:
        """Whether ``directory`` is left out with all that could be in it, so that it need not be walked."""
        matched = self._matched(directory, keep=True)
        last = max((index for index, found in enumerate(matched) if found), default=-1)
        if last < 0 or self.rules[last].exception:
            return False
        # What leaves the directory out leaves out all below it; only a later exception can bring something back.
        return not any(rule.exception and rule.pattern.may_match_below(directory) for rule in self.rules[last + 1 :])

    def _matched(self, path: str, *, keep: bool) -> tuple[bool, ...]:
        """For each rule, whether it matches the path or a parent of it."""
        known = self._directories.get(path)
        if known is not None:
            return known
        end = 0
        above = self._directories[""]
        while (end := path.find("/", end)) >= 0:
            above = self._extended(path[:end], above, keep=True)
            end += 1
        return self._extended(path, above, keep=keep)

    def _extended(self, path: str, above: tuple[bool, ...], *, keep: bool) -> tuple[bool, ...]:
        known = self._directories.get(path)
        if known is None:
            known = tuple(found or rule.pattern.match(path) for rule, found in zip(self.rules, above, strict=True))
            if keep:
                self._directories[path] = known
        return known


def _rule(line: str, number: int) -> IgnoreRule:
    text = line.strip()
    exception = text.startswith("!")
    pattern = text.removeprefix("!").strip() if exception else text
    if not pattern:
        raise InvalidArgument('illegal exclusion pattern: "!"', hint="write a pattern behind the !")
    cleaned = posixpath.normpath(pattern)
    if len(cleaned.lstrip("/")) > 0:
        cleaned = cleaned.lstrip("/")
    return IgnoreRule(PathPattern.parse(cleaned), exception, number, text)
