"""Copy a tree that is being written: all of it while its users run, then what has changed while they stand still.

A file counts as unchanged between the passes when its inode number, size and both times are the same, and the times are
older than the flush before the first pass: from there on the kernel write-protects clean pages, so that also a write
through mmap(2) changes the times (msync(2), "mtime and ctime … will be updated").
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tare.base.trees import remove_tree
from tare.kernel.filesystem import copy_data, reflink, sync_filesystem
from tare.store.usage import disk_usage

_CLOCK_SLACK = 100_000_000  # nanoseconds; the kernel stamps files with a clock that lags up to a tick behind
_PRIVATE_XATTRS = "trusted.overlay."
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

Check = Callable[[], None]


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a file was when it was copied, and when (nanoseconds) the flush before that copy began."""

    mark: tuple[int, ...]
    flushed: int


@dataclass(frozen=True, slots=True)
class _Look:
    """Owner, mode, times and extended attributes."""

    status: os.stat_result
    xattrs: dict[str, bytes]

    @classmethod
    def of(cls, path: str) -> _Look:
        return cls(os.lstat(path), _xattrs(path))

    def apply(self, target: str) -> None:
        status = self.status
        os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
        if not stat.S_ISLNK(status.st_mode):
            os.chmod(target, stat.S_IMODE(status.st_mode))  # noqa: PTH101
        for name, value in self.xattrs.items():  # after the owner, whose change drops capabilities
            os.setxattr(target, name, value, follow_symlinks=False)
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)


@dataclass(slots=True)
class TreeCopy:
    """One copy of ``source`` in the empty directory ``target``.

    :meth:`running_pass` once or more often, :meth:`frozen_pass`, :meth:`finish`.

    Owner, mode, times (nanoseconds), extended attributes with ACLs, holes, hard links, devices and fifos are kept;
    sockets are left out, as nobody listens behind a copy of one. ``check`` is called between files and ends the copy by
    raising. Everything blocks; OSError passes.
    """

    source: str
    target: str
    check: Check = lambda: None
    reflinked: bool | None = None
    _seen: dict[str, _Seen] = field(default_factory=dict)
    _directories: dict[str, _Look] = field(default_factory=dict)
    _flushed: int = 0

    def running_pass(self) -> None:
        """Flush and copy what is not copied yet; what changes or vanishes meanwhile is left to the next pass."""
        self._flushed = time.time_ns()
        sync_filesystem(self.source)
        self._walk()

    def frozen_pass(self) -> None:
        """Copy what has changed, remove what has gone. The tree must stand still."""
        self._walk()
        self._remove_vanished()

    def finish(self) -> int:
        """Set what directories look like, make the copy durable; returns its bytes on disk, as du(1) counts them."""
        # Last: members change their directory's times, and would inherit its default ACL.
        for relative in reversed(self._directories):
            self._directories[relative].apply(self._places(relative)[1])
        sync_filesystem(self.target)
        return disk_usage(Path(self.target))

    @property
    def method(self) -> str:
        """``reflink`` when every file shares its data with the source, else ``copy``."""
        return "reflink" if self.reflinked else "copy"

    def _walk(self) -> None:
        self._directories = {}
        found: dict[str, _Seen] = {}
        first_names: dict[tuple[int, int], str] = {}
        pending = [""]
        while pending:
            relative = pending.pop()
            source, target = self._places(relative)
            try:
                look = _Look.of(source)
                with os.scandir(source) as listing:
                    names = [item.name for item in listing]
            except FileNotFoundError:
                continue
            self._make_directory(target)
            self._directories[relative] = look
            for name in names:
                self.check()
                path = f"{relative}/{name}" if relative else name
                try:
                    if self._member(path, found, first_names):
                        pending.append(path)
                except FileNotFoundError:
                    found.pop(path, None)
        self._seen = found

    def _member(self, path: str, found: dict[str, _Seen], first_names: dict[tuple[int, int], str]) -> bool:
        """Bring one member up to date; True for a directory, whose members follow."""
        source, target = self._places(path)
        status = os.lstat(source)
        if stat.S_ISDIR(status.st_mode):
            found[path] = _Seen((), 0)
            return True
        if stat.S_ISSOCK(status.st_mode):
            return False
        mark = (status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if status.st_nlink > 1:
            first = first_names.setdefault((status.st_dev, status.st_ino), path)
            if first != path:
                self._link(first, target)
                found[path] = _Seen(mark, self._flushed)
                return False
        known, newest = self._seen.get(path), max(status.st_mtime_ns, status.st_ctime_ns)
        if known is None or known.mark != mark or newest >= known.flushed - _CLOCK_SLACK:
            _remove(target)
            self._copy(source, target, status)
            known = _Seen(mark, self._flushed)
        found[path] = known
        return False

    def _copy(self, source: str, target: str, status: os.stat_result) -> None:
        if stat.S_ISREG(status.st_mode):
            self._copy_file(source, target)
        elif stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(source), target)  # noqa: PTH115, PTH211 - the text as it is
        else:
            os.mknod(target, status.st_mode, status.st_rdev)
        _Look(status, _xattrs(source)).apply(target)

    def _copy_file(self, source: str, target: str) -> None:
        source_fd = os.open(source, _READ)
        try:
            target_fd = os.open(target, _CREATE, 0o600)
            try:
                if self.reflinked is False or not reflink(source_fd, target_fd):
                    self.reflinked = False
                    copy_data(source_fd, target_fd)
                else:
                    self.reflinked = True
            finally:
                os.close(target_fd)
        finally:
            os.close(source_fd)

    def _link(self, first: str, target: str) -> None:
        original = self._places(first)[1]
        try:
            if os.path.samestat(os.lstat(original), os.lstat(target)):
                return
        except FileNotFoundError:
            pass
        _remove(target)
        os.link(original, target, follow_symlinks=False)

    def _remove_vanished(self) -> None:
        for directory in self._directories:
            target = self._places(directory)[1]
            for name in os.listdir(target):  # noqa: PTH208 - many short strings
                path = f"{directory}/{name}" if directory else name
                if path not in self._seen:
                    _remove(f"{target}/{name}")

    def _make_directory(self, target: str) -> None:
        try:
            status = os.lstat(target)
        except FileNotFoundError:
            os.mkdir(target, 0o700)  # noqa: PTH102
            return
        if not stat.S_ISDIR(status.st_mode):
            os.unlink(target)  # noqa: PTH108
            os.mkdir(target, 0o700)  # noqa: PTH102

    def _places(self, relative: str) -> tuple[str, str]:
        return (f"{self.source}/{relative}", f"{self.target}/{relative}") if relative else (self.source, self.target)


def _remove(path: str) -> None:
    try:
        if stat.S_ISDIR(os.lstat(path).st_mode):
            remove_tree(path)
        else:
            os.unlink(path)  # noqa: PTH108
    except FileNotFoundError:
        return


def _xattrs(path: str) -> dict[str, bytes]:
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        return {}
    wanted = (name for name in names if not name.startswith(_PRIVATE_XATTRS))
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in wanted}
