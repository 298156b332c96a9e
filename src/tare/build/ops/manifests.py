"""The files behind a content key, kept so that a changed key can be explained file by file."""

from __future__ import annotations

import shutil
import threading
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from tare.base.atomic import write_atomic
from tare.store.usage import disk_usage

_LIMIT = 400  # manifests that are kept; the oldest go first
_FAST = 1  # compression level: these are written after every build that saw new content

Facts = tuple[str, str, str, str]
"""A file: mode (octal, with its type), ``uid:gid``, content (size and sha256, device number or link target), xattrs."""


class Manifests:
    """Manifests by content key in ``directory``; safe to use from several threads."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._pending: dict[str, Mapping[str, Facts]] = {}

    def note(self, digest: str, files: Mapping[str, Facts]) -> None:
        """Remember what the key ``digest`` was made from, until :meth:`save`."""
        with self._lock:
            self._pending[digest] = files

    def save(self) -> None:
        """Write what is new to disk; blocks. A loss only costs an explanation."""
        with self._writing:
            with self._lock:
                pending, self._pending = self._pending, {}
            fresh = {digest: files for digest, files in pending.items() if not self._path(digest).exists()}
            if not fresh:
                return
            self._directory.mkdir(parents=True, exist_ok=True)
            for digest, files in fresh.items():
                data = zlib.compress(msgspec.msgpack.encode(files), _FAST)
                write_atomic(self._path(digest), data, durable=False)
            self._forget_oldest()

    def load(self, digest: str) -> Mapping[str, Facts] | None:
        """The files by path; None when they are not known any more. Blocks."""
        with self._lock:
            if (files := self._pending.get(digest)) is not None:
                return files
        try:
            data = zlib.decompress(self._path(digest).read_bytes())
            return msgspec.msgpack.decode(data, type=dict[str, Facts])
        except (OSError, zlib.error, msgspec.MsgspecError):
            return None

    def usage(self) -> int:
        """Bytes on disk."""
        return disk_usage(self._directory)

    def written(self) -> float:
        """When one was written last, in seconds since 1970; 0 where there are none."""
        try:
            return self._directory.stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def clear(self) -> None:
        """Forget everything, on disk too."""
        with self._writing:
            with self._lock:
                self._pending.clear()
            shutil.rmtree(self._directory, ignore_errors=True)

    def sweep(self) -> None:
        """Delete what a killed engine was writing."""
        for path in self._directory.glob(".*"):
            path.unlink(missing_ok=True)

    def _path(self, digest: str) -> Path:
        return self._directory / digest.rpartition(":")[2]

    def _forget_oldest(self) -> None:
        known = sorted(self._directory.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        for path in known[: max(0, len(known) - _LIMIT)]:
            path.unlink(missing_ok=True)


def changed_files(before: Mapping[str, Facts], after: Mapping[str, Facts]) -> list[tuple[str, str]]:
    """The paths that differ, sorted, each with what happened to it: ``added``, ``removed``, ``changed``, ``mode …``."""
    found = [(path, "removed") for path in before.keys() - after.keys()]
    found += [(path, "added") for path in after.keys() - before.keys()]
    for path in before.keys() & after.keys():
        if before[path] != after[path]:
            found.append((path, _difference(before[path], after[path])))
    return sorted(found)


def _difference(before: Facts, after: Facts) -> str:
    if before[2] != after[2]:
        return "changed"
    if before[0] != after[0]:
        return f"mode {before[0][-4:]} → {after[0][-4:]}"
    if before[1] != after[1]:
        return f"owner {before[1]} → {after[1]}"
    return "extended attributes changed"


def differences(pairs: Iterable[tuple[str, str]], most: int) -> str:
    """The first ``most`` of :func:`changed_files` in words, and how many more there are."""
    listed = list(pairs)
    shown = ", ".join(path if what == "changed" else f"{path} ({what})" for path, what in listed[:most])
    return shown + (f" and {len(listed) - most} more" if len(listed) > most else "")
