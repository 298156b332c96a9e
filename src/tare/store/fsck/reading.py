"""Reads stored files from beginning to end: their digest, and what a layer's tar says of its directory. Blocks."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tare.archive.expected import ExpectedTree, read_expected
from tare.base.readers import CHUNK
from tare.errors import DataCorrupt
from tare.model import Digest
from tare.store.threads import Abort

_NOTE = 32 << 20  # bytes after which progress is told and the page cache is given back what was read


@dataclass(frozen=True, slots=True)
class Seen:
    """What lies at a path: ``digest`` is None when it is no readable file, and ``what`` says what it is then.

    ``identity`` tells whether it still is the same file; ``tree`` is what a layer has, ``flaw`` why there is none.
    """

    what: str
    size: int = 0
    digest: Digest | None = None
    identity: tuple[int, int, int, int] = (0, 0, 0, 0)
    tree: ExpectedTree | None = None
    flaw: str = ""


def examine(
    path: Path,
    abort: Abort,
    note: Callable[[int], None],
    *,
    tree: bool = False,
    content: bool = False,
) -> Seen:
    """Read the file at ``path``; with ``tree`` as a layer, with ``content`` each of its files is hashed.

    ``note`` is told how many bytes were read. Raises Aborted.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return Seen("missing")
    except OSError as error:
        return Seen(f"no file that can be read ({error.strerror})")
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return Seen("no regular file")
        reader = _Reader(fd, abort, note)
        found, flaw = None, ""
        try:
            if tree:
                found = read_expected(reader, content=content, check=abort.check)
        except DataCorrupt as error:
            flaw = error.message
        while reader.read(CHUNK):
            pass
        reader.end()
        return Seen("a file", reader.size, reader.digest, identity(status), found, flaw)
    except OSError as error:  # a failing disk
        return Seen(f"no file that can be read ({error.strerror})")
    finally:
        os.close(fd)


def identity(status: os.stat_result) -> tuple[int, int, int, int]:
    """What tells a file from its successor of the same name."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class _Reader:
    def __init__(self, fd: int, abort: Abort, note: Callable[[int], None]) -> None:
        self._fd = fd
        self._abort = abort
        self._note = note
        self._hash = hashlib.sha256()
        self._buffer = b""
        self._position = 0
        self._noted = 0
        self.size = 0

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes, large pieces from the disk and small ones out of them."""
        if self._position == len(self._buffer):
            self._fill()
        end = len(self._buffer) if size < 0 else min(self._position + size, len(self._buffer))
        data = self._buffer[self._position : end]
        self._position = end
        return data

    @property
    def digest(self) -> Digest:
        return Digest(self._hash.hexdigest())

    def end(self) -> None:
        """Tell of the rest."""
        self._note(self.size - self._noted)
        self._noted = self.size

    def _fill(self) -> None:
        self._abort.check()
        self._buffer, self._position = os.read(self._fd, CHUNK), 0
        self.size += len(self._buffer)
        self._hash.update(self._buffer)
        if self.size - self._noted >= _NOTE:
            os.posix_fadvise(self._fd, self._noted, self.size - self._noted, os.POSIX_FADV_DONTNEED)
            self.end()
