"""The build context: a directory of which ``.dockerignore`` hides a part."""

from __future__ import annotations

import threading
from pathlib import Path

from tare.build.dockerfile.dockerignore import IgnoreRules
from tare.build.ops.select import Filter, Tree
from tare.errors import InvalidArgument, NotFound

_MAX_IGNORE = 4 << 20  # bytes of an ignore file

IGNORE_FILE = ".dockerignore"


class RuleFilter:
    """Ignore rules as a filter; safe to use from several threads. ``name`` is that of the file with the rules."""

    def __init__(self, rules: IgnoreRules, name: str) -> None:
        self._rules = rules
        self.name = name
        self._lock = threading.Lock()

    @property
    def rules(self) -> IgnoreRules:
        """The rules themselves; not to be used while others use the filter."""
        return self._rules

    def excluded(self, path: str) -> bool:
        """Whether ``path`` is left out."""
        with self._lock:
            return self._rules.matches(path, is_dir=False)

    def prunable(self, path: str) -> bool:
        """Whether nothing below ``path`` can be in."""
        with self._lock:
            return self._rules.can_prune(path)

    def decide(self, path: str) -> tuple[bool, str]:
        """Whether ``path`` is left out, and the rule that says so or brings it back; empty where none matches."""
        with self._lock:
            decision = self._rules.decide(path)
        rule = decision.rule
        return decision.ignored, f"{self.name}:{rule.line} ({rule.text})" if rule is not None else ""

    def explain(self, path: str) -> str:
        """The rule that decides about ``path``."""
        return self.decide(path)[1] or self.name


def parse_rules(text: str, name: str) -> Filter | None:
    """The filter that ``text`` describes; None when it leaves nothing out. Raises InvalidArgument naming the line."""
    rules = IgnoreRules.parse(text, name)
    return RuleFilter(rules, name) if rules else None


def open_context(directory: Path | None, ignore_text: str | None, dockerfile_name: str) -> Tree | None:
    """The context's tree. ``<Dockerfile>.dockerignore`` beside the Dockerfile goes before ``.dockerignore``.

    Raises NotFound when ``directory`` does not exist, InvalidArgument when it is no directory or a rule is wrong.
    """
    if directory is None:
        return None
    if not directory.is_dir():
        if directory.exists():
            raise InvalidArgument(f"build context {directory} is not a directory")
        raise NotFound(f"build context {directory}: no such directory")
    name = f"{dockerfile_name}{IGNORE_FILE}"
    if ignore_text is None:
        ignore_text, name = _read_ignore(directory, dockerfile_name)
    return Tree(directory.resolve(), keep_owner=False, filter=parse_rules(ignore_text, name))


def _read_ignore(directory: Path, dockerfile_name: str) -> tuple[str, str]:
    for name in (f"{Path(dockerfile_name).name}{IGNORE_FILE}", IGNORE_FILE):
        path = directory / name
        if path.is_file():
            with path.open("rb") as stream:
                data = stream.read(_MAX_IGNORE + 1)
            if len(data) > _MAX_IGNORE:
                raise InvalidArgument(f"{path} is larger than {_MAX_IGNORE} bytes")
            return data.decode(errors="replace"), name
    return "", IGNORE_FILE
