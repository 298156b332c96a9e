"""Content hashes of files, remembered by what stat tells, so that an unchanged file is read once."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from tare.base.atomic import write_atomic

_SETTLED_NS = 50_000_000
"""A file changed less than this before it was hashed may change again within one clock tick: not remembered."""

_LIMIT = 500_000  # remembered files; beyond it the oldest half is forgotten

_Known = tuple[int, int, int, int, int, str]  # device, inode, size, mtime_ns, ctime_ns, sha256


class HashCache:
    """Hashes by absolute path; safe to use from several threads. Kept in ``file`` between runs of the engine.

    Files below one of ``passing`` are seen there once only (views of stages, unpacked contexts): not remembered.
    """

    def __init__(self, file: Path, passing: Iterable[Path] = ()) -> None:
        self._file = file
        self._passing = tuple(f"{os.fspath(path)}/" for path in passing)
        self._lock = threading.Lock()
        self._known: dict[str, _Known] | None = None
        self._dirty = False
        self.reads = 0

    def sha256(self, path: str, status: os.stat_result) -> str:
        """The hex digest of a regular file whose lstat is ``status``. Raises OSError."""
        identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        known = self._load().get(path)
        if known is not None and tuple(known[:5]) == identity:
            return known[5]
        digest = _hash_file(path)
        self.reads += 1
        newest = max(status.st_mtime_ns, status.st_ctime_ns)
        if time.time_ns() - newest > _SETTLED_NS and not path.startswith(self._passing):
            with self._lock:
                self._load()[path] = (*identity, digest)
                self._dirty = True
        return digest

    def save(self) -> None:
        """Write to disk if something changed; a loss only costs reading files again."""
        with self._lock:
            if not self._dirty or self._known is None:
                with contextlib.suppress(FileNotFoundError):
                    os.utime(self._file)
                return
            if len(self._known) > _LIMIT:
                self._known = dict(list(self._known.items())[_LIMIT // 2 :])
            data = msgspec.msgpack.encode(self._known)
            self._dirty = False
        self._file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(self._file, data, durable=False)

    def facts(self) -> os.stat_result | None:
        """What stat tells of the file (its mtime is when it was last used); None where there is none."""
        try:
            return self._file.stat()
        except FileNotFoundError:
            return None

    def clear(self) -> None:
        """Forget everything, on disk too."""
        with self._lock:
            self._known, self._dirty = {}, False
            self._file.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Delete what a killed engine was writing."""
        for path in self._file.parent.glob(f".{self._file.name}.*"):
            path.unlink(missing_ok=True)

    def _load(self) -> dict[str, _Known]:
        if self._known is None:
            try:
                self._known = msgspec.msgpack.decode(self._file.read_bytes(), type=dict[str, _Known])
            except (OSError, msgspec.MsgspecError):
                self._known = {}
        return self._known


def _hash_file(path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
