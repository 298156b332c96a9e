"""Waiting for what a program does to files (inotify(7)), without looking again and again."""

from __future__ import annotations

import ctypes
import os
import select
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tare.kernel.inotify import IN_CREATE, IN_DELETE, IN_MODIFY, IN_MOVED_TO

__all__ = ["IN_CREATE", "IN_DELETE", "IN_MODIFY", "IN_MOVED_TO", "FileEvents", "watching"]


class FileEvents:
    """What happens in directories from the moment that they are watched."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(os.O_CLOEXEC)
        assert self._fd >= 0, os.strerror(ctypes.get_errno())

    def watch(self, path: Path, mask: int) -> None:
        """Wait for these events on ``path``, too."""
        number = self._libc.inotify_add_watch(self._fd, os.fsencode(path), ctypes.c_uint32(mask))
        assert number >= 0, f"{path}: {os.strerror(ctypes.get_errno())}"

    def wait(self, seconds: float = 60.0) -> None:
        """Return once something has happened since the last return."""
        ready, _, _ = select.select([self._fd], [], [], seconds)
        assert ready, "nothing happened"
        os.read(self._fd, 1 << 16)

    def drain(self) -> None:
        """Forget what has happened so far."""
        while select.select([self._fd], [], [], 0)[0]:
            os.read(self._fd, 1 << 16)

    def __enter__(self) -> FileEvents:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


@contextmanager
def watching(path: Path, mask: int) -> Iterator[FileEvents]:
    """The events of ``mask`` on ``path`` for the length of the block."""
    with FileEvents() as events:
        events.watch(path, mask)
        yield events
