"""Parts of a live file tree as tars: what is read may be changed by somebody else at any time.

Every step goes from an open directory to a name in it and never through a path that somebody could bend; links are
followed only where the caller asks, as if the tree's root were ``/``.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tare.archive.confined import open_beneath, resolve_in_root
from tare.archive.entry import Entry, Kind
from tare.archive.tar_reader import OPAQUE_MARKER, OPAQUE_XATTR, WHITEOUT_PREFIX
from tare.archive.tar_writer import TarWriter

_KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFCHR: Kind.CHARACTER,
    stat.S_IFBLK: Kind.BLOCK,
    stat.S_IFIFO: Kind.FIFO,
}
_CAPABILITY = "security.capability"  # the one attribute that Docker's archives carry
_OVERLAY = "trusted.overlay."  # the overlay file system's own, which must not steer another one
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NAME_ONLY = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceStat:
    """What stands at a path: ``mode`` as stat(2) has it, ``mtime_ns`` in nanoseconds; ``link_target`` resolved."""

    name: str
    size: int
    mode: int
    mtime_ns: int
    link_target: str


def clean_path(path: str) -> str:
    """``path`` from the root, lexically cleaned; a last ``/`` or ``/.`` stays, as it says something."""
    cleaned = posixpath.normpath(posixpath.join("/", path))
    cleaned = "/" + cleaned.lstrip("/")
    if path.endswith(("/.",)) or path == ".":
        return cleaned.rstrip("/") + "/."
    if path.endswith("/") and cleaned != "/":
        return cleaned + "/"
    return cleaned


def stat_resource(root: Path, path: str) -> ResourceStat:
    """What stands at ``path`` inside ``root``; a link itself, unless the path ends in a slash. Raises OSError."""
    place = clean_path(path)
    with _Root(root) as top:
        fd = open_beneath(top, place, _NAME_ONLY)
        try:
            found = os.fstat(fd)
        finally:
            os.close(fd)
    target = ""
    if stat.S_ISLNK(found.st_mode):
        target = "/" + os.fspath(resolve_in_root(root, place).relative_to(root)).removeprefix(".")
    return ResourceStat(
        name=base_name(place),
        size=found.st_size,
        mode=found.st_mode,
        mtime_ns=found.st_mtime_ns,
        link_target=target,
    )


def base_name(place: str) -> str:
    """The last part of a cleaned path: ``/`` of the root, ``.`` where the path ends so."""
    return place.rstrip("/").rpartition("/")[2] or "/"


def write_resource(
    root: Path, path: str, writer: TarWriter, *, first_id: int = 0, name: str = "", all_attributes: bool = False
) -> None:
    """Add what stands at ``path`` inside ``root``; members' names begin with ``name``, or the last part of the path.

    A file's further names are hard links to the first; sockets are left out. What vanishes meanwhile is left out, a
    file that shrinks is filled with zeros, one that grows is cut: the archive stays whole. ``first_id`` is seen
    where the owner's id is 0 (id-mapped mounts). Of the extended attributes only capabilities are kept, as in Docker,
    unless ``all_attributes``. Raises OSError.
    """
    place = clean_path(path)
    with _Root(root) as top:
        fd = open_beneath(top, place, _NAME_ONLY)
        try:
            tree = _Whole(writer, first_id) if all_attributes else _Tree(writer, first_id)
            name = name or base_name(place)
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                tree.add_directory(fd, name)
            else:
                tree.add(fd, name)
        finally:
            os.close(fd)


def write_members(root: Path, writer: TarWriter, *, first_id: int = 0) -> None:
    """Add everything below ``root``, names without a leading slash (``docker export``). Raises OSError."""
    with _Root(root) as top:
        _Tree(writer, first_id).add_members(top, "")


def write_changes(upper: Path, writer: TarWriter, wanted: Callable[[str], bool]) -> None:
    """Add an overlay upper directory as the members of an OCI layer (layer.md, "Whiteouts"); it may be in use.

    Only members whose path is ``wanted`` are added; nothing below an unwanted directory is looked at. Raises OSError.
    """
    with _Root(upper) as top:
        _Layer(writer, wanted).add_members(top, "")


class _Root:
    def __init__(self, root: Path) -> None:
        self._root = root
        self._fd = -1

    def __enter__(self) -> int:
        self._fd = os.open(self._root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return self._fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


class _Tree:
    def __init__(self, writer: TarWriter, first_id: int = 0) -> None:
        self._writer = writer
        self._first_id = first_id
        self._first_names: dict[tuple[int, int], str] = {}

    def add_directory(self, fd: int, path: str) -> None:
        self.add(fd, path)
        self.add_members(fd, path)

    def add_members(self, fd: int, path: str) -> None:
        """Depth first, on a stack of names: a deep tree needs neither recursion nor many descriptors."""
        opened = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
        stack: list[tuple[int, str, list[str]]] = [(opened, path, _names(opened))]
        try:
            while stack:
                directory, prefix, names = stack[-1]
                if not names:
                    os.close(stack.pop()[0])
                    continue
                name = names.pop()
                member = f"{prefix.rstrip('/')}/{name}" if prefix else name
                below = self._add_name(directory, name, member)
                if below is not None:
                    stack.append((below, member, _names(below)))
        finally:
            for directory, _, _ in stack:
                os.close(directory)

    def _add_name(self, directory: int, name: str, member: str) -> int | None:
        try:
            fd = os.open(name, _NAME_ONLY, dir_fd=directory)
        except FileNotFoundError:
            return None
        try:
            self.add(fd, member)
            if not stat.S_ISDIR(os.fstat(fd).st_mode):
                return None
            return os.open(".", _DIRECTORY, dir_fd=fd)
        except FileNotFoundError:
            return None
        finally:
            os.close(fd)

    def add(self, fd: int, path: str) -> None:
        status = os.fstat(fd)
        kind = _KINDS.get(stat.S_IFMT(status.st_mode))
        if kind is None:
            return
        target = ""
        if kind is Kind.SYMLINK:
            target = os.readlink("", dir_fd=fd)
        elif kind is not Kind.DIRECTORY and status.st_nlink > 1:
            first = self._first_names.setdefault((status.st_dev, status.st_ino), path)
            if first != path:
                kind, target = Kind.HARDLINK, first
        is_device = kind in (Kind.CHARACTER, Kind.BLOCK)
        entry = Entry(
            path=path,
            kind=kind,
            mode=stat.S_IMODE(status.st_mode),
            uid=max(0, status.st_uid - self._first_id),
            gid=max(0, status.st_gid - self._first_id),
            mtime=status.st_mtime_ns // 1_000_000_000,
            size=status.st_size if kind is Kind.FILE else 0,
            target=target,
            major=os.major(status.st_rdev) if is_device else 0,
            minor=os.minor(status.st_rdev) if is_device else 0,
            xattrs=self.attributes(fd) if kind in (Kind.FILE, Kind.DIRECTORY) else {},
        )
        if kind is not Kind.FILE:
            self._writer.add(entry)
            return
        # The descriptor stands for the file itself: no other one can be opened by its name.
        content = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._writer.add(entry, _Exactly(content, entry.size))
        finally:
            os.close(content)

    def attributes(self, fd: int) -> dict[str, bytes]:
        return _attributes(fd, lambda name: name == _CAPABILITY)


class _Whole(_Tree):
    def attributes(self, fd: int) -> dict[str, bytes]:
        return _attributes(fd, lambda name: not name.startswith(_OVERLAY))


class _Layer(_Tree):
    def __init__(self, writer: TarWriter, wanted: Callable[[str], bool]) -> None:
        super().__init__(writer)
        self._wanted = wanted

    def _add_name(self, directory: int, name: str, member: str) -> int | None:
        return super()._add_name(directory, name, member) if self._wanted(member) else None

    def add(self, fd: int, path: str) -> None:
        status = os.fstat(fd)
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            parent, slash, name = path.rpartition("/")
            self._mark(f"{parent}{slash}{WHITEOUT_PREFIX}{name}")
            return
        super().add(fd, path)
        if stat.S_ISDIR(status.st_mode) and _attributes(fd, lambda name: name == OPAQUE_XATTR):
            self._mark(f"{path}/{OPAQUE_MARKER}")

    def _mark(self, path: str) -> None:
        self._writer.add(Entry(path=path, kind=Kind.FILE, mode=0), _Exactly(-1, 0))

    def attributes(self, fd: int) -> dict[str, bytes]:
        return _attributes(fd, lambda name: name == _CAPABILITY or _is_user(name))


def _is_user(name: str) -> bool:
    """Whether an extended attribute is the user's own, not the overlay file system's."""
    return name.startswith("user.") and not name.startswith("user.overlay.")


class _Exactly:
    """The first ``size`` bytes of a file that may shrink or grow while it is read."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self._left = size

    def read(self, size: int = -1, /) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        if not wanted:
            return b""
        data = os.read(self._fd, wanted) or bytes(wanted)
        self._left -= len(data)
        return data


def _names(fd: int) -> list[str]:
    """The names in a directory, last first."""
    return sorted(os.listdir(fd), key=os.fsencode, reverse=True)


def _attributes(fd: int, kept: Callable[[str], bool]) -> dict[str, bytes]:
    itself = f"/proc/self/fd/{fd}"
    try:
        return {name: os.getxattr(itself, name) for name in sorted(os.listxattr(itself)) if kept(name)}
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP, errno.EPERM):
            return {}
        raise
