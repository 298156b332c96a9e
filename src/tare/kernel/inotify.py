"""File system events (inotify(7)) for asyncio."""

from __future__ import annotations

import asyncio
import ctypes
import functools
import os
import struct
from pathlib import Path
from types import TracebackType

IN_MODIFY = 0x2
IN_ATTRIB = 0x4
IN_CLOSE_WRITE = 0x8
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_MOVE_SELF = 0x800
IN_ONESHOT = 0x80000000


@functools.cache
def _libc() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    library.inotify_init1.argtypes = [ctypes.c_int]
    library.inotify_add_watch.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32]
    library.inotify_rm_watch.argtypes = [ctypes.c_int, ctypes.c_int]
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


_EVENT = struct.Struct("iIII")  # descriptor, mask, cookie, length of the name that follows


class FileWatcher:
    """Tells once for each question that a file was written to, renamed or deleted; one descriptor for all files.

    A file that nobody asks about again costs nothing, however fast it is written to. For the event loop's thread.
    """

    def __init__(self) -> None:
        self._fd = -1
        self._waiting: dict[int, list[asyncio.Future[object]]] = {}

    def once(self, path: Path) -> asyncio.Future[object]:
        """A future that is set by the next change of the file at ``path``; look at the file after asking.

        Raises OSError naming the path, also when the host's limit of watches (inotify(7)) is reached.
        """
        if self._fd < 0:
            self._open()
        mask = IN_MODIFY | IN_MOVE_SELF | IN_ONESHOT
        watch: int = _libc().inotify_add_watch(self._fd, os.fsencode(path), mask)
        if watch < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"inotify_add_watch: {os.strerror(number)}", str(path))
        future = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(watch, []).append(future)
        future.add_done_callback(lambda _: self._forget(watch, future))
        return future

    def close(self) -> None:
        """Cancel what waits."""
        for futures in list(self._waiting.values()):
            for future in list(futures):
                future.cancel()
        self._waiting.clear()
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        self._fd = _libc().inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._fd < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"inotify_init1: {os.strerror(number)}")
        asyncio.get_running_loop().add_reader(self._fd, self._drain)

    def _forget(self, watch: int, future: asyncio.Future[object]) -> None:
        futures = self._waiting.get(watch)
        if futures is None or future not in futures:
            return
        futures.remove(future)
        if not futures:
            del self._waiting[watch]
            _libc().inotify_rm_watch(self._fd, watch)

    def _drain(self) -> None:
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        position = 0
        while position < len(data):
            watch, _, _, length = _EVENT.unpack_from(data, position)
            position += _EVENT.size + length
            for future in self._waiting.pop(watch, ()):
                if not future.done():
                    future.set_result(None)
