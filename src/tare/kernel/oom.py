"""The kernel's notices that a control group ran out of memory, for asyncio.

Sources: Documentation/admin-guide/cgroup-v1/memory.rst, section 10 (``memory.oom_control``, an eventfd(2) that is
registered in ``cgroup.event_control``); cgroup-v2.rst (``memory.events``, whose changes inotify(7) reports).
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Protocol

from tare.kernel.cgroups import CgroupLayout
from tare.kernel.inotify import FileWatcher


class OomNotices(Protocol):
    """The notices of one control group: wait, then take; close in the end. Wait and close on the event loop."""

    async def wait(self) -> None:
        """Return when there may be a notice."""
        ...

    def take(self) -> bool:
        """Whether memory ran out since the last take; False when the group is gone. Blocks for a read of cgroupfs."""
        ...

    def exists(self) -> bool:
        """Whether the group is still there."""
        ...

    def close(self) -> None:
        """Let go of the group; idempotent."""
        ...


def open_notices(layout: CgroupLayout, path: str, watcher: FileWatcher, *, known: bool) -> OomNotices | None:
    """The notices of cgroup ``path``, or None on a host that does not count memory.

    With ``known``, what happened before was taken already. Raises OSError when the group is gone. Blocks for some
    accesses to cgroupfs.
    """
    directory = layout.controller_directory("memory", path)
    if directory is None:
        return None
    if "memory" in layout.v1:
        return _SignalledNotices(directory, known=known)
    return _CountedNotices(directory, watcher, known=known)


class _SignalledNotices:
    """cgroup v1: an eventfd, which the kernel also signals when the group is removed."""

    def __init__(self, directory: Path, *, known: bool) -> None:
        self._control = directory / "memory.oom_control"
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            control = os.open(self._control, os.O_RDONLY | os.O_CLOEXEC)
            try:
                (directory / "cgroup.event_control").write_text(f"{self._fd} {control}")
            finally:
                os.close(control)
            # memory may have run out between the start of the process and the registration
            self._missed = not known and _counter(self._control, "oom_kill") > 0
        except BaseException:
            self.close()
            raise

    async def wait(self) -> None:
        if self._missed:
            return
        loop = asyncio.get_running_loop()
        signalled = asyncio.Event()
        loop.add_reader(self._fd, signalled.set)
        try:
            await signalled.wait()
        finally:
            loop.remove_reader(self._fd)

    def take(self) -> bool:
        try:
            os.eventfd_read(self._fd)
            signalled = True
        except BlockingIOError:
            signalled = False
        missed, self._missed = self._missed, False
        return (signalled or missed) and self._control.exists()

    def exists(self) -> bool:
        return self._control.exists()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class _CountedNotices:
    """cgroup v2: a counter of killed processes, in a file whose changes are told."""

    def __init__(self, directory: Path, watcher: FileWatcher, *, known: bool) -> None:
        self._file = directory / "memory.events"
        self._watcher = watcher
        self._taken = _counter(self._file, "oom_kill") if known else 0
        self._file.stat()

    async def wait(self) -> None:
        changed = self._watcher.once(self._file)
        try:
            if await asyncio.to_thread(_counter, self._file, "oom_kill") <= self._taken:
                await changed
        finally:
            changed.cancel()

    def take(self) -> bool:
        before, self._taken = self._taken, max(self._taken, _counter(self._file, "oom_kill"))
        return self._taken > before

    def exists(self) -> bool:
        return self._file.exists()

    def close(self) -> None:
        """Nothing is held between two waits."""


def _counter(path: Path, name: str) -> int:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    return next((int(words[1]) for words in map(str.split, lines) if words[:1] == [name]), 0)
