"""What a layer is when it is unpacked, worked out from its tar alone, and how a directory differs from that.

The rules are those of :mod:`tare.archive.tar_reader`: later members replace earlier ones, whiteouts are character
devices 0/0, a member below a symbolic link lands in the link's target. One record per name is held in memory, no
content.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tare.archive.entry import Entry, Kind
from tare.archive.tar_reader import OPAQUE_MARKER, OPAQUE_XATTR, WHITEOUT_PREFIX, iter_entries
from tare.base.readers import CHUNK, Readable
from tare.errors import DataCorrupt

_LINKS = 40  # symbolic links followed in one path (path_resolution(7))
_NEWEST = 1 << 31  # times that every file system can hold, in seconds
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_METADATA_PREFIX = WHITEOUT_PREFIX * 2
_FORMATS = {
    Kind.FILE: stat.S_IFREG,
    Kind.DIRECTORY: stat.S_IFDIR,
    Kind.SYMLINK: stat.S_IFLNK,
    Kind.CHARACTER: stat.S_IFCHR,
    Kind.BLOCK: stat.S_IFBLK,
    Kind.FIFO: stat.S_IFIFO,
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One path of a directory that is not as the layer has it; ``what`` completes the sentence, "is missing"."""

    path: str
    what: str

    def __str__(self) -> str:
        return f"/{self.path} {self.what}"


@dataclass(slots=True)
class _Member:
    format: int
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    mtime: int = -1
    size: int = 0
    target: str = ""
    device: int = 0
    digest: bytes = b""
    opaque: bool = False
    linked: bool = False
    children: dict[str, _Member] | None = None

    @property
    def is_whiteout(self) -> bool:
        return self.format == stat.S_IFCHR and self.device == 0


class ExpectedTree:
    """The names that a layer adds; make one with :func:`read_expected`."""

    def __init__(self) -> None:
        self._root = _directory()

    def add(self, entry: Entry, digest: bytes = b"") -> None:
        """Take the next member. Raises DataCorrupt for one that could not be unpacked."""
        parent_path, _, name = entry.path.rpartition("/")
        if self._whiteout(entry, parent_path, name):
            return
        if not name:
            if entry.kind is Kind.DIRECTORY:
                _describe(self._root, entry)
            return
        siblings = self._children(parent_path)
        present = siblings.get(name)
        if entry.kind is Kind.HARDLINK:
            siblings.pop(name, None)
            siblings[name] = self._first_name(entry)
            return
        if entry.kind is Kind.DIRECTORY and present is not None and present.children is not None:
            _describe(present, entry)
            return
        made = _directory() if entry.kind is Kind.DIRECTORY else _Member(_FORMATS[entry.kind])
        _describe(made, entry)
        made.digest = digest
        made.opaque = entry.kind is Kind.DIRECTORY and present is not None and present.is_whiteout
        siblings[name] = made

    def differences(self, directory: Path, check: Callable[[], None] = lambda: None) -> Iterator[Difference]:
        """How ``directory`` differs, in no certain order; content is compared where the digests of it were taken.

        ``check`` is called for every name and ends the work by raising. What lies deeper than a path can tell is passed
        over. Blocks.
        """
        first_names: dict[int, tuple[int, int]] = {}
        pending = [("", self._root)]
        top = os.open(directory, _DIRECTORY)
        try:
            while pending:
                path, member = pending.pop()
                check()
                try:
                    yield from self._at(path, member, top, first_names, check)
                    if member.children is None:
                        continue
                    names = _names(path or ".", top)
                except (FileNotFoundError, NotADirectoryError):
                    continue  # has been told
                except OSError as error:
                    if error.errno != errno.ENAMETOOLONG:
                        yield Difference(path, f"cannot be looked at: {error.strerror}")
                    continue
                known, prefix = member.children, f"{path}/" if path else ""
                pending.extend((prefix + name, child) for name, child in known.items())
                yield from (Difference(prefix + name, "is not in the layer") for name in names if name not in known)
        finally:
            os.close(top)

    def _at(
        self,
        path: str,
        member: _Member,
        top: int,
        first_names: dict[int, tuple[int, int]],
        check: Callable[[], None],
    ) -> Iterator[Difference]:
        """How one name differs; raises OSError for one that cannot be looked at."""
        try:
            status = os.stat(path or ".", dir_fd=top, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            yield Difference(path, "is missing")
            return
        if (what := _compare(member, status, path or ".", top, check)) is not None:
            yield Difference(path, what)
        identity = (status.st_dev, status.st_ino)
        if member.linked and first_names.setdefault(id(member), identity) != identity:
            yield Difference(path, "is not the same file as its hard links any more")

    def _whiteout(self, entry: Entry, parent_path: str, name: str) -> bool:
        if not name.startswith(WHITEOUT_PREFIX):
            return False
        if name == OPAQUE_MARKER:
            self._make(parent_path).opaque = True
        elif not name.startswith(_METADATA_PREFIX):
            hidden = name[len(WHITEOUT_PREFIX) :]
            present = self._children(parent_path).setdefault(hidden, _Member(stat.S_IFCHR, mode=0))
            if present.children is not None:
                present.opaque = True  # hides what is below, not what the layer itself has added
        return True

    def _first_name(self, entry: Entry) -> _Member:
        parent, _, name = entry.target.rpartition("/")
        upper = self._find(parent)
        first = upper.children.get(name) if upper is not None and upper.children is not None else None
        if first is None:
            raise DataCorrupt(
                f"tar member {entry.path[:200]!r}: hard link to {entry.target[:200]!r}, which is not there"
            )
        first.linked = True
        return first

    def _children(self, path: str) -> dict[str, _Member]:
        children = self._make(path).children
        assert children is not None
        return children

    def _make(self, path: str) -> _Member:
        """The directory at ``path``, made with its parents where it is missing."""
        if (found := self._find(path)) is not None:
            if found.children is None:
                raise DataCorrupt(f"tar member below {path[:200]!r}, which is no directory")
            return found
        parent_path, _, name = path.rpartition("/")
        siblings = self._children(parent_path)
        if name in siblings:
            raise DataCorrupt(f"tar member below {path[:200]!r}, which leads nowhere")
        siblings[name] = _directory()
        return siblings[name]

    def _find(self, path: str) -> _Member | None:
        """What ``path`` leads to, every symbolic link followed as if the tree were the whole file system."""
        pending = _parts(path)
        stack = [self._root]
        links = 0
        while pending:
            part = pending.pop()
            if part == "..":
                del stack[max(1, len(stack) - 1) :]  # the root's parent is the root
                continue
            children = stack[-1].children
            member = children.get(part) if children is not None else None
            if member is None:
                return None
            if member.format != stat.S_IFLNK:
                stack.append(member)
                continue
            links += 1
            if links > _LINKS:
                return None
            if member.target.startswith("/"):
                del stack[1:]
            pending.extend(_parts(member.target))
        return stack[-1]


def read_expected(stream: Readable, *, content: bool = False, check: Callable[[], None] = lambda: None) -> ExpectedTree:
    """Read a layer to its end; with ``content`` each file's bytes are hashed. Blocks.

    ``check`` is called for every member and ends the work by raising. Raises DataCorrupt as unpacking would.
    """
    tree = ExpectedTree()
    for entry, data in iter_entries(stream):
        check()
        tree.add(entry, _digest(data, check) if content and data is not None else b"")
    return tree


def _parts(path: str) -> list[str]:
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _directory() -> _Member:
    return _Member(stat.S_IFDIR, children={})


def _describe(member: _Member, entry: Entry) -> None:
    member.mode, member.uid, member.gid = entry.mode, entry.uid, entry.gid
    member.mtime = entry.mtime if entry.kind is Kind.FILE and 0 <= entry.mtime < _NEWEST else -1
    member.size, member.target = entry.size, entry.target
    member.device = os.makedev(entry.major, entry.minor)


def _compare(member: _Member, status: os.stat_result, path: str, top: int, check: Callable[[], None]) -> str | None:
    if stat.S_IFMT(status.st_mode) != member.format:
        return "is another kind of file"
    if member.format == stat.S_IFLNK:
        if os.readlink(path, dir_fd=top) != member.target:
            return "points elsewhere"
    elif member.format in (stat.S_IFCHR, stat.S_IFBLK) and status.st_rdev != member.device:
        return "is another device"
    elif member.format == stat.S_IFREG and status.st_size != member.size:
        return f"has {status.st_size} bytes, expected {member.size}"
    if (status.st_uid, status.st_gid) != (member.uid, member.gid):
        return f"is owned by {status.st_uid}:{status.st_gid}, expected {member.uid}:{member.gid}"
    if member.format != stat.S_IFLNK and not member.is_whiteout and stat.S_IMODE(status.st_mode) != member.mode:
        return f"has mode {stat.S_IMODE(status.st_mode):04o}, expected {member.mode:04o}"
    if member.mtime >= 0 and int(status.st_mtime) != member.mtime:
        return "has been written to"
    if member.children is not None and _is_opaque(path, top) != member.opaque:
        return "shows what it must hide" if member.opaque else "hides what it must show"
    if member.digest:
        with os.fdopen(
            os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top), "rb", buffering=0
        ) as file:
            if _digest(file, check) != member.digest:
                return "has other content"
    return None


def _digest(content: Readable, check: Callable[[], None]) -> bytes:
    found = hashlib.sha256()
    while chunk := content.read(CHUNK):
        check()
        found.update(chunk)
    return found.digest()


def _names(path: str, top: int) -> list[str]:
    fd = os.open(path, _DIRECTORY, dir_fd=top)
    try:
        return os.listdir(fd)  # noqa: PTH208 - many short strings
    finally:
        os.close(fd)


def _is_opaque(path: str, top: int) -> bool:
    fd = os.open(path, _DIRECTORY, dir_fd=top)
    try:
        return os.getxattr(fd, OPAQUE_XATTR) == b"y"
    except OSError:
        return False
    finally:
        os.close(fd)
