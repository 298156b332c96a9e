"""Which files a COPY, ADD or bind mount means: walking a source tree without leaving it.

The tree is the build context (with ignore rules, owners reset to root) or a stage's root file system (owners kept).
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tare.build.ops.hashes import HashCache
from tare.build.ops.manifests import Facts
from tare.build.ops.patterns import compile_component, has_wildcard
from tare.build.ops.rootfs import is_directory, lstat, resolve
from tare.errors import InvalidArgument


class Filter(Protocol):
    """Decides what of a tree is not there."""

    def excluded(self, path: str) -> bool:
        """Whether ``path`` (relative, no leading slash) is left out."""
        ...

    def prunable(self, path: str) -> bool:
        """Whether nothing below the excluded directory ``path`` can be in."""
        ...


@dataclass(frozen=True, slots=True)
class _Shifted:
    """A filter whose paths begin at ``base``, for a tree's paths; ``base`` itself is never left out."""

    filter: Filter
    base: str

    def excluded(self, path: str) -> bool:
        below = self._below(path)
        return bool(below) and self.filter.excluded(below)

    def prunable(self, path: str) -> bool:
        below = self._below(path)
        return bool(below) and self.filter.prunable(below)

    def _below(self, path: str) -> str:
        return path[len(self.base) :].lstrip("/") if f"{path}/".startswith(f"{self.base}/") or not self.base else ""


@dataclass(frozen=True, slots=True)
class Exclude:
    """What ``--exclude`` leaves out: patterns from ``base`` (in the tree), or from each match where that is None."""

    filter: Filter | None
    base: str | None = None

    def at(self, match: str) -> Filter | None:
        """The filter for paths of the tree, below the match at ``match``."""
        return None if self.filter is None else _Shifted(self.filter, match if self.base is None else self.base)


_NOTHING = Exclude(None)


@dataclass(frozen=True, slots=True)
class Item:
    """One file of a selection: ``rel`` is relative to the match, ``""`` for the match itself."""

    rel: str
    host: str
    status: os.stat_result
    target: str = ""
    xattrs: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Match:
    """What one source or one name of a wildcard stands for; ``items`` begin with the match itself.

    ``group`` is the number of the source that it belongs to.
    """

    path: str
    items: tuple[Item, ...]
    group: int = 0

    @property
    def name(self) -> str:
        """The last component of the name that was asked for."""
        return self.path.rpartition("/")[2]

    @property
    def is_directory(self) -> bool:
        """Whether the contents are meant rather than a file."""
        return stat.S_ISDIR(self.items[0].status.st_mode)


class SourceMissing(Exception):
    """A source without wildcard that does not exist or is excluded (``excluded_path``, else empty)."""

    def __init__(self, source: str, excluded_path: str = "") -> None:
        super().__init__(source)
        self.source = source
        self.excluded_path = excluded_path


@dataclass(frozen=True, slots=True)
class Tree:
    """A source tree. ``keep_owner`` is false for the context, of which owners and extended attributes are dropped, as
    they are another machine's; ``filter`` None means that nothing is left out."""

    root: Path
    keep_owner: bool
    filter: Filter | None = None
    found: dict[object, list[Match]] = field(default_factory=dict, compare=False)
    """What was selected before: a build hashes the files first and writes them afterwards."""

    def select(self, sources: Sequence[str], exclude: Exclude | None = None, *, deep: bool = False) -> list[Match]:
        """The files that ``sources`` (patterns) stand for, in their order, names sorted.

        ``exclude`` leaves out more (``--exclude``); with ``deep`` the component ``**`` stands for any number of
        directories. Raises SourceMissing, InvalidArgument for a bad pattern, OSError.
        """
        extra = exclude or _NOTHING
        found: list[Match] = []
        for group, source in enumerate(sources):
            pattern = source.strip("/")
            if has_wildcard(pattern):
                paths = dict.fromkeys(self._expand(pattern.split("/"), deep=deep))
                matches = [self._match(path, path, extra) for path in paths]
            else:
                matches = [self._literal(source, pattern, extra)]
            found.extend(Match(match.path, match.items, group) for match in matches if match.items)
        return found

    def _literal(self, source: str, path: str, extra: Exclude) -> Match:
        clean = "/".join(part for part in os.path.normpath("/" + path).split("/") if part)
        resolved = resolve(self.root, clean)
        if lstat(self.root, resolved) is None:
            raise SourceMissing(source)
        match = self._match(clean, resolved, extra)
        if not match.items:
            raise SourceMissing(source, excluded_path=resolved)
        return match

    def _match(self, shown: str, path: str, exclude: Exclude) -> Match:
        resolved = resolve(self.root, path)
        status = lstat(self.root, resolved)
        extra = exclude.at(resolved)
        if status is None:
            if _is_out(self.filter, resolve(self.root, path, follow_last=False)):
                return Match(shown, ())
            raise SourceMissing(shown)
        if not stat.S_ISDIR(status.st_mode):
            kept = not (_is_out(self.filter, resolved) or _is_out(extra, resolved))
            return Match(shown, (self._item("", resolved, status),) if kept else ())
        items = [self._item("", resolved, status), *self._walk(resolved, extra)]
        if len(items) == 1 and resolved and (_is_out(self.filter, resolved) or _is_out(extra, resolved)):
            return Match(shown, ())
        return Match(shown, tuple(items))

    def _walk(self, top: str, extra: Filter | None) -> Iterator[Item]:
        """Everything below ``top``; an excluded directory shows up only if something in it is kept."""
        pending: list[str] = [top]
        waiting: dict[str, Item] = {}
        prefix = len(top) + 1 if top else 0
        while pending:
            directory = pending.pop()
            names = sorted(os.listdir(self._host(directory)), key=os.fsencode)  # noqa: PTH208 - strings, hot path
            below: list[str] = []
            for name in names:
                path = f"{directory}/{name}" if directory else name
                status = os.lstat(self._host(path))
                out = _is_out(self.filter, path) or _is_out(extra, path)
                if stat.S_ISDIR(status.st_mode):
                    item = self._item(path[prefix:], path, status)
                    if not out:
                        yield from _release(waiting, path[prefix:])
                        yield item
                        below.append(path)
                    elif not (_is_prunable(self.filter, path) or _is_prunable(extra, path)):
                        waiting[path[prefix:]] = item
                        below.append(path)
                elif not out and not stat.S_ISSOCK(status.st_mode):
                    yield from _release(waiting, path[prefix:])
                    yield self._item(path[prefix:], path, status)
            pending.extend(reversed(below))

    def _item(self, rel: str, path: str, status: os.stat_result) -> Item:
        host = self._host(path)
        target = os.readlink(host) if stat.S_ISLNK(status.st_mode) else ""  # noqa: PTH115
        return Item(rel, host, status, target, read_xattrs(host) if self.keep_owner else {})

    def _host(self, path: str) -> str:
        return f"{self.root}/{path}"

    def _expand(self, parts: list[str], done: str = "", *, deep: bool = False, walks: bool = False) -> Iterator[str]:
        """Existing paths that match the components; a path may come twice with ``deep``.

        From the first wildcard on (``walks``) links to directories are not entered.
        """
        if not parts:
            yield done
            return
        part, rest = parts[0], parts[1:]
        if part in ("", "."):
            yield from self._expand(rest, done, deep=deep, walks=walks)
            return
        if deep and part == "**":
            yield from self._expand(rest or ["*"], done, deep=deep, walks=True)
            for below in self._directories(done):
                yield from self._expand(parts, below, deep=deep, walks=True)
            return
        parent = resolve(self.root, done)
        if not has_wildcard(part):
            path = f"{done}/{part}" if done else part
            status = lstat(self.root, resolve(self.root, path, follow_last=False))
            if status is not None and (is_directory(status) or not rest or not walks):
                yield from self._expand(rest, path, deep=deep, walks=walks)
            return
        expression = compile_component(part)
        try:
            names = sorted(os.listdir(self._host(parent)), key=os.fsencode)  # noqa: PTH208
        except (FileNotFoundError, NotADirectoryError):
            return
        for name in names:
            path = f"{done}/{name}" if done else name
            if expression.fullmatch(name) is None:
                continue
            if not rest or is_directory(lstat(self.root, resolve(self.root, path, follow_last=False))):
                yield from self._expand(rest, path, deep=deep, walks=True)

    def _directories(self, path: str) -> Iterator[str]:
        """Directories in ``path``, links to directories not among them; excluded trees are not entered."""
        parent = self._host(resolve(self.root, path))
        names = sorted(os.listdir(parent), key=os.fsencode) if os.path.isdir(parent) else []  # noqa: PTH112, PTH208
        for name in names:
            below = f"{path}/{name}" if path else name
            status = lstat(self.root, below)
            if status is not None and stat.S_ISDIR(status.st_mode) and not _is_prunable(self.filter, below):
                yield below


def _is_out(rules: Filter | None, path: str) -> bool:
    return rules is not None and bool(path) and rules.excluded(path)


def _is_prunable(rules: Filter | None, path: str) -> bool:
    return rules is not None and rules.excluded(path) and rules.prunable(path)


def _release(waiting: dict[str, Item], rel: str) -> Iterator[Item]:
    """Directories above ``rel`` that were held back until something in them is kept."""
    parts = rel.split("/")
    for count in range(1, len(parts)):
        item = waiting.pop("/".join(parts[:count]), None)
        if item is not None:
            yield item


def read_xattrs(host: str) -> dict[str, bytes]:
    """The attributes that belong into a layer: ``user.*`` and file capabilities."""
    try:
        names = os.listxattr(host, follow_symlinks=False)
        return {
            name: os.getxattr(host, name, follow_symlinks=False)
            for name in sorted(names)
            if name.startswith("user.") or name == "security.capability"
        }
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.ENODATA):
            return {}
        raise


def content_digest(
    matches: Sequence[Match], hashes: HashCache, *, keep_owner: bool, files: dict[str, Facts] | None = None
) -> str:
    """sha256 over names, kinds, modes, owners, sizes, contents, link targets and attributes; times do not count.

    What went into it is put into ``files`` by path.
    """
    total = hashlib.sha256()
    for match in matches:
        total.update(b"match\0" + os.fsencode(match.name) + b"\0")
        for item in match.items:
            status = item.status
            mode = status.st_mode
            owner = f"{status.st_uid}:{status.st_gid}" if keep_owner else "0:0"
            content = ""
            if stat.S_ISREG(mode):
                content = f"{status.st_size}:{hashes.sha256(item.host, status)}"
            elif stat.S_ISBLK(mode) or stat.S_ISCHR(mode):
                content = str(status.st_rdev)
            line = f"{mode:o}\0{owner}\0{content}\0"
            total.update(os.fsencode(item.rel) + b"\0" + line.encode() + os.fsencode(item.target) + b"\0")
            for name, value in item.xattrs.items():
                total.update(name.encode() + b"=" + str(len(value)).encode() + b":" + value)
            total.update(b"\n")
            if files is not None:
                path = f"{match.path}/{item.rel}" if item.rel else match.path
                xattrs = repr(dict(item.xattrs)) if item.xattrs else ""
                files[_printable(path)] = (f"{mode:o}", owner, content or _printable(item.target), xattrs)
    return "sha256:" + total.hexdigest()


def _printable(path: str) -> str:
    """Names need not be UTF-8, documents must be."""
    return path if path.isprintable() else os.fsencode(path).decode(errors="backslashreplace")


def check_names(matches: Sequence[Match], fail: Callable[[str], InvalidArgument]) -> None:
    """Refuse names that a layer cannot hold, since they would delete files of the image."""
    for match in matches:
        for item in match.items:
            if (item.rel or match.name).rpartition("/")[2].startswith(".wh."):
                raise fail(f"{match.path}/{item.rel}".rstrip("/"))
