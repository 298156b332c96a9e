"""File system events (inotify(7)) for asyncio."""

from __future__ import annotations

import asyncio
import ctypes
import functools
import os
from pathlib import Path
from types import TracebackType

IN_MODIFY = 0x2
IN_ATTRIB = 0x4
IN_CLOSE_WRITE = 0x8
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_MOVE_SELF = 0x800


@functools.cache
def _libc() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    library.inotify_init1.argtypes = [ctypes.c_int]
    library.inotify_add_watch.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32]
    return library


class Inotify:
    """Says *that* something happened to the watched paths since the last wait, not what: callers look themselves.

    A context manager, to be entered on the event loop.
    """

    def __init__(self) -> None:
        self._fd = -1
        self._changed = asyncio.Event()

    def __enter__(self) -> Inotify:
        self._fd = _libc().inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._fd < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"inotify_init1: {os.strerror(number)}")
        asyncio.get_running_loop().add_reader(self._fd, self._drain)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)
        self._fd = -1

    def watch(self, path: Path, mask: int) -> None:
        """Report the events of ``mask`` on ``path``. Raises OSError naming the path."""
        if _libc().inotify_add_watch(self._fd, os.fsencode(path), mask) < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"inotify_add_watch: {os.strerror(number)}", str(path))

    async def wait_changed(self) -> None:
        """Return when an event has come since the last return."""
        await self._changed.wait()
        self._changed.clear()

    def _drain(self) -> None:
        try:
            while os.read(self._fd, 65536):
                pass
        except BlockingIOError:
            pass
        self._changed.set()
