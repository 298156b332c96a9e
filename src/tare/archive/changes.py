"""What an overlay upper directory changes in the tree below it, as ``docker diff`` tells it."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from tare.archive.tar_reader import OPAQUE_XATTR


class ChangeKind(IntEnum):
    """The Engine API's numbers (API 1.51, ``ChangeType``)."""

    MODIFIED = 0
    ADDED = 1
    DELETED = 2


@dataclass(frozen=True, slots=True)
class Change:
    """One changed path, relative to the root and without a leading slash."""

    path: str
    kind: ChangeKind


def list_changes(upper: Path, lower: Path, *, mount_points: Collection[str] = ()) -> list[Change]:
    """The differences, sorted, each directory before what is in it; ``lower`` is the mounted tree below.

    A directory counts as changed when its mode, owner or time is another. ``mount_points`` are places that the runtime
    makes for its own mounts: empty ones that are new do not count, nor does the time of the directory they are in.
    What vanishes meanwhile is left out. Raises OSError.
    """
    return sorted(_Comparison(os.fspath(upper), os.fspath(lower), frozenset(mount_points)).run(), key=_order)


def _order(change: Change) -> list[str]:
    return change.path.split("/")


class _Comparison:
    def __init__(self, upper: str, lower: str, mount_points: frozenset[str]) -> None:
        self._upper = upper
        self._lower = lower
        self._mount_points = mount_points

    def run(self) -> Iterator[Change]:
        pending = [""]
        while pending:
            directory = pending.pop()
            try:
                names = _names(f"{self._upper}/{directory}")
            except (FileNotFoundError, NotADirectoryError):
                continue
            for name in names:
                path = f"{directory}/{name}" if directory else name
                status = _lstat(f"{self._upper}/{path}")
                if status is None:
                    continue
                yield from self._compare(path, status)
                if stat.S_ISDIR(status.st_mode):
                    pending.append(path)

    def _compare(self, path: str, status: os.stat_result) -> Iterator[Change]:
        below = _lstat(f"{self._lower}/{path}")
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            if below is not None:
                yield Change(path, ChangeKind.DELETED)
            return
        if below is None:
            if not self._is_mount_point(path, status):
                yield Change(path, ChangeKind.ADDED)
            return
        if not (stat.S_ISDIR(status.st_mode) and stat.S_ISDIR(below.st_mode)):
            yield Change(path, ChangeKind.MODIFIED)
            return
        if self._is_opaque(path):
            yield Change(path, ChangeKind.MODIFIED)
            yield from self._hidden(path)
        elif not self._is_same(path, status, below):
            yield Change(path, ChangeKind.MODIFIED)

    def _is_same(self, path: str, status: os.stat_result, below: os.stat_result) -> bool:
        if (status.st_mode, status.st_uid, status.st_gid) != (below.st_mode, below.st_uid, below.st_gid):
            return False
        if status.st_mtime_ns == below.st_mtime_ns:
            return True
        names = [f"{path}/{name}" for name in _names(f"{self._upper}/{path}")]
        return bool(names) and all(self._is_only_mount_point(name) for name in names)

    def _is_only_mount_point(self, path: str) -> bool:
        status = _lstat(f"{self._upper}/{path}")
        if status is None or _lstat(f"{self._lower}/{path}") is not None:
            return False
        return self._is_mount_point(path, status)

    def _is_mount_point(self, path: str, status: os.stat_result) -> bool:
        if path not in self._mount_points:
            return False
        if not stat.S_ISDIR(status.st_mode):
            return stat.S_ISREG(status.st_mode) and not status.st_size
        return all(
            (below := _lstat(f"{self._upper}/{path}/{name}")) is not None
            and self._is_mount_point(f"{path}/{name}", below)
            for name in _names(f"{self._upper}/{path}")
        )

    def _is_opaque(self, path: str) -> bool:
        try:
            return os.getxattr(f"{self._upper}/{path}", OPAQUE_XATTR, follow_symlinks=False) == b"y"
        except OSError:
            return False

    def _hidden(self, path: str) -> Iterator[Change]:
        """What was in a directory that has been removed and made again."""
        above = set(_names(f"{self._upper}/{path}"))
        for name in _names(f"{self._lower}/{path}"):
            if name not in above:
                yield Change(f"{path}/{name}", ChangeKind.DELETED)


def _lstat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _names(directory: str) -> list[str]:
    return os.listdir(directory)  # noqa: PTH208 - many short strings
