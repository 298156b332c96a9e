"""What would be lost with a container's writable layer: files that look like data or logs, and where they belong.

Pure: looks at directories, changes nothing. The layer may change meanwhile and is not trusted: no link is followed, and
at most so many entries are looked at.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tare.diagnosis.places import (
    PROGRAM_ROOTS,
    data_root,
    is_log,
    is_transient_directory,
    is_transient_file,
    named_as_data,
)

LARGE = 1 << 20
"""Bytes from which a new file in a program's directory counts, whatever it is called."""
GROWN = 64 << 10
"""Bytes that a file of the image must have grown by to count in a program's directory."""
SMALLEST_LOG = 4096
_MAX_DEPTH = 64
_MAX_OPENED = 500
_MAGIC = (
    (b"SQLite format 3\0", "SQLite database"),
    (b"REDIS0", "Redis database"),
    (b"\x00\x01\x00\x00Standard Jet DB", "Access database"),
)
_MARKERS = {
    "PG_VERSION": "PostgreSQL database",
    "ibdata1": "MySQL or MariaDB database",
    "WiredTiger": "MongoDB database",
    "appendonly.aof": "Redis database",
    "data.mdb": "LMDB database",
}
_MAGIC_SIZE = 20


@dataclass(slots=True)
class Loss:
    """Files in one directory that look like data. ``path`` is absolute in the container; ``size`` bytes.

    ``kind`` is ``data``, ``logs`` or the name of a kind of database. ``alone``: the files lie among a program's own, so
    that the directory cannot be a volume as it is.
    """

    path: str
    kind: str = "data"
    size: int = 0
    files: int = 0
    alone: bool = False


@dataclass(slots=True)
class Findings:
    """``complete`` is false when there was more than was looked at: sizes are lower bounds then."""

    losses: list[Loss] = field(default_factory=list)
    complete: bool = True


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    size: int
    kind: str
    weak: str = ""
    """The program's directory in which it lies; empty where the place itself says that it is data."""


def find_losses(
    upper: Path, lowers: Sequence[Path] = (), *, working_directory: str = "", limit: int = 100_000
) -> Findings:
    """Look through ``upper``; ``lowers`` are the image's layers, the topmost last. Blocks. Raises OSError."""
    walk = _Walk(lowers, working_directory.strip("/"), limit)
    with contextlib.ExitStack() as stack:
        root = _directory(str(upper), stack)
        layers = [_directory(str(path), stack) for path in reversed(lowers)]
        files = list(walk.files(root, layers, "", 0))
    return Findings(_grouped(files, walk.markers), complete=walk.left > 0)


class _Walk:
    def __init__(self, lowers: Sequence[Path], working_directory: str, limit: int) -> None:
        self._lowers = [str(path) for path in reversed(lowers)]
        self._working = working_directory
        self._opened = 0
        self.left = limit
        self.markers: dict[str, str] = {}

    def files(self, fd: int, layers: Sequence[int], path: str, depth: int) -> Iterator[_File]:
        """The files below the directory ``fd`` that look like data; ``layers`` are the image's, the topmost first."""
        directories: list[str] = []
        with os.scandir(fd) as entries:
            for entry in entries:
                if self.left <= 0:
                    return
                self.left -= 1
                inner = f"{path}/{entry.name}" if path else entry.name
                if entry.is_dir(follow_symlinks=False):
                    if not is_transient_directory(inner):
                        directories.append(entry.name)
                elif entry.is_file(follow_symlinks=False) and not is_transient_file(inner):
                    with contextlib.suppress(OSError):
                        before = _before(layers, entry.name)
                        found = self._judge(fd, entry.name, inner, entry.stat(follow_symlinks=False), before)
                        if found is not None:
                            yield found
        if depth >= _MAX_DEPTH:
            return
        for name in sorted(directories, key=_likely_first):
            with contextlib.ExitStack() as stack:
                try:
                    child = _directory(name, stack, fd)
                except OSError:
                    continue  # gone, or not a directory any more
                below: list[int] = []
                for layer in layers:
                    with contextlib.suppress(OSError):
                        below.append(_directory(name, stack, layer))
                yield from self.files(child, below, f"{path}/{name}" if path else name, depth + 1)

    def _judge(
        self, fd: int, name: str, path: str, info: os.stat_result, before: os.stat_result | None
    ) -> _File | None:
        size = min(info.st_size, info.st_blocks * 512) or min(info.st_size, 4096)
        if not info.st_size:
            return None
        if before is not None and (before.st_size, before.st_mtime_ns) == (info.st_size, info.st_mtime_ns):
            return None  # only its owner or mode was changed
        kind = self._kind(fd, name, path, info)
        weak = self._program_directory(path)
        if weak is None:
            if kind == "logs" and size < SMALLEST_LOG:
                return None
            return _File(path, size, kind)
        if kind not in ("data", "logs"):
            return _File(path, size, kind, weak)
        if before is not None:
            grown = info.st_size - before.st_size >= GROWN
            return _File(path, size, kind, weak) if grown and (kind == "logs" or named_as_data(path, weak)) else None
        if kind == "logs" and size < SMALLEST_LOG:
            return None
        if named_as_data(path, weak) or (info.st_size >= LARGE and path.partition("/")[0] not in PROGRAM_ROOTS):
            return _File(path, size, kind, weak)
        return None

    def _program_directory(self, path: str) -> str | None:
        """The directory of programs in which ``path`` lies; None where the place says that it is data."""
        working = self._working
        if working and (path == working or path.startswith(working + "/")):
            place = data_root(path)
            inside_data = place and place != working.split("/")[0] and not working.startswith(place)
            return None if inside_data else working
        root = data_root(path)
        if not root:
            parts = path.split("/")
            return "/".join(parts[:2]) if parts[0] == "opt" and len(parts) > 3 else posixpath.dirname(path)
        if root == "root" or root.startswith("home/"):
            inner = path[len(root) + 1 :]
            return root if inner.startswith(".") else None
        if root.count("/") == 0 and root != "data" and self._in_image(root) and not named_as_data(path, ""):
            return root  # a program's own directory at the top, such as /app
        return None

    def _kind(self, fd: int, name: str, path: str, info: os.stat_result) -> str:
        marker = _MARKERS.get(name)
        if marker is not None:
            self.markers.setdefault(posixpath.dirname(path), marker)
            return marker
        if info.st_size >= 512 and self._opened < _MAX_OPENED and not is_log(path):
            self._opened += 1
            head = _head(fd, name)
            for magic, kind in _MAGIC:
                if head.startswith(magic):
                    return kind
        return "logs" if is_log(path) else "data"

    def _in_image(self, path: str) -> bool:
        return any(os.path.lexists(f"{lower}/{path}") for lower in self._lowers)


def _directory(name: str, stack: contextlib.ExitStack, parent: int | None = None) -> int:
    """Open a directory, itself no link, until ``stack`` is closed. Raises OSError."""
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    stack.callback(os.close, fd)
    return fd


def _before(layers: Sequence[int], name: str) -> os.stat_result | None:
    """The file as the image has it."""
    for layer in layers:
        try:
            info = os.stat(name, dir_fd=layer, follow_symlinks=False)
        except OSError:
            continue
        return info if stat.S_ISREG(info.st_mode) else None
    return None


def _head(fd: int, name: str) -> bytes:
    try:
        opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
    except OSError:
        return b""
    try:
        return os.read(opened, _MAGIC_SIZE)
    finally:
        os.close(opened)


def _likely_first(name: str) -> tuple[int, str]:
    """Places of data before those of programs, so that a walk that is cut short has seen them."""
    return (1 if name in PROGRAM_ROOTS else 0, name)


def _grouped(files: Iterable[_File], markers: dict[str, str]) -> list[Loss]:
    groups: dict[tuple[str, bool], Loss] = {}
    logs = [file.path for file in files if file.kind == "logs" and file.path.startswith("var/log/")]
    log_root = _log_root(logs)
    for file in files:
        place, alone = _place(file, log_root, markers)
        loss = groups.setdefault((place, alone), Loss(path="/" + place, kind=file.kind, alone=alone))
        loss.size += file.size
        loss.files += 1
        if loss.kind in ("data", "logs") and file.kind != loss.kind:
            loss.kind = "data" if file.kind == "logs" else file.kind
    for (place, _), loss in groups.items():
        inside = [kind for path, kind in markers.items() if path == place or path.startswith(f"{place}/")]
        if inside:
            loss.kind = inside[0]
    return sorted(_merged(groups.values()), key=lambda loss: (-loss.size, loss.path))


def _merged(losses: Iterable[Loss]) -> list[Loss]:
    """Losses of which none lies in another's directory."""
    kept: list[Loss] = []
    for loss in sorted(losses, key=lambda loss: (loss.alone, loss.path)):
        above = next((one for one in kept if not one.alone and loss.path.startswith(one.path + "/")), None)
        if above is None:
            kept.append(loss)
            continue
        above.size += loss.size
        above.files += loss.files
        if above.kind in ("data", "logs"):
            above.kind = loss.kind if loss.kind not in ("data", "logs") else "data"
    return kept


def _place(file: _File, log_root: str, markers: dict[str, str]) -> tuple[str, bool]:
    """The directory (or lone file) that would have to be a volume."""
    if file.kind == "logs" and file.path.startswith("var/log/"):
        return log_root, False
    if not file.weak:
        return data_root(file.path) or posixpath.dirname(file.path), False
    parents = posixpath.dirname(file.path)
    database = next((path for path in markers if parents == path or parents.startswith(path + "/")), "")
    if database:
        return database, False
    inner = posixpath.relpath(file.path, file.weak).split("/")
    if len(inner) > 1 and not inner[0].startswith(".."):
        return posixpath.join(file.weak, inner[0]), False
    return file.path, True


def _log_root(paths: Sequence[str]) -> str:
    """``var/log/x`` when all logs lie there, else ``var/log``."""
    directories = {"/".join(path.split("/")[:3]) if path.count("/") > 2 else "var/log" for path in paths}
    return directories.pop() if len(directories) == 1 else "var/log"
