"""What a build context holds: each path with the ignore rule that decided about it."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tare.build.ops.context import RuleFilter
from tare.build.ops.select import Tree

Kind = Literal["file", "directory", "link", "other"]


@dataclass(frozen=True, slots=True)
class ContextEntry:
    """One path, relative to the context.

    ``size`` is in bytes (0 for what is no file), ``rule`` the rule that leaves it out or brings it back
    (``.dockerignore:3 (*.log)``), empty where none matches. A ``pruned`` directory is left out with all that is in it:
    it has not been looked into.
    """

    path: str
    kind: Kind
    size: int
    included: bool
    rule: str = ""
    pruned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextSummary:
    """How many ``files`` (with links) are in and how many ``bytes`` they have, how many paths are ``out``.

    ``pruned`` counts directories that were not looked into, ``rules`` what each rule has left out. ``ignore_file`` is
    the name of the file with the rules, empty where there is none.
    """

    files: int
    bytes: int
    out: int
    pruned: int
    rules: dict[str, int]
    ignore_file: str


class ContextListing:
    """Walks a context; directories that cannot have anything in them are not entered."""

    def __init__(self, tree: Tree) -> None:
        self._root = os.fspath(tree.root)
        self._filter = tree.filter if isinstance(tree.filter, RuleFilter) else None
        self._files = 0
        self._bytes = 0
        self._pruned = 0
        self._rules: Counter[str] = Counter()

    def entries(self) -> Iterator[ContextEntry]:
        """Every path, names sorted, a directory before what is in it. Blocks; raises OSError."""
        pending = self._children("")
        while pending:
            entry = pending.pop()
            self._count(entry)
            yield entry
            if entry.kind == "directory" and not entry.pruned:
                pending.extend(self._children(entry.path))

    @property
    def summary(self) -> ContextSummary:
        """The totals, once all entries have been taken."""
        return ContextSummary(
            files=self._files,
            bytes=self._bytes,
            out=sum(self._rules.values()),
            pruned=self._pruned,
            rules=dict(self._rules.most_common()),
            ignore_file=self._filter.name if self._filter else "",
        )

    def _children(self, directory: str) -> list[ContextEntry]:
        """The entries of a directory, last name first; none where it has gone meanwhile."""
        try:
            with os.scandir(os.path.join(self._root, directory)) as found:  # noqa: PTH118 - strings, hot path
                items = sorted(found, key=lambda item: os.fsencode(item.name), reverse=True)
        except FileNotFoundError:
            return []
        return [self._entry(f"{directory}/{item.name}" if directory else item.name, item) for item in items]

    def _entry(self, path: str, item: os.DirEntry[str]) -> ContextEntry:
        status = item.stat(follow_symlinks=False)
        kind = _kind(status.st_mode)
        size = status.st_size if kind == "file" else 0
        if self._filter is None:
            return ContextEntry(path, kind, size, included=True)
        out, rule = self._filter.decide(path)
        pruned = out and kind == "directory" and self._filter.prunable(path)
        return ContextEntry(path, kind, size, not out, rule, pruned)

    def _count(self, entry: ContextEntry) -> None:
        if not entry.included:
            self._rules[entry.rule] += 1
            self._pruned += entry.pruned
        elif entry.kind != "directory":
            self._files += 1
            self._bytes += entry.size


def _kind(mode: int) -> Kind:
    if stat.S_ISDIR(mode):
        return "directory"
    if stat.S_ISREG(mode):
        return "file"
    return "link" if stat.S_ISLNK(mode) else "other"
