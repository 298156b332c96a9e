"""Process file descriptors: wait for the end of any process without polling and without mixing up recycled ids."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from types import TracebackType


class PidFd:
    """A handle on one process (pidfd_open(2)); closes with the context manager.

    Raises ProcessLookupError when there is no process with this id.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._fd = os.pidfd_open(pid)

    def __enter__(self) -> PidFd:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the descriptor; the process is left alone."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def command_line(self) -> list[str]:
        """The arguments of this very process; empty when it has ended."""
        try:
            data = Path(f"/proc/{self.pid}/cmdline").read_bytes()
            signal.pidfd_send_signal(self._fd, 0)  # still ours: the id cannot have been reused
        except (FileNotFoundError, ProcessLookupError):
            return []
        return [os.fsdecode(part) for part in data.split(b"\0")[:-1]]

    def send_signal(self, number: int) -> bool:
        """Send signal ``number``; False when the process has ended already."""
        try:
            signal.pidfd_send_signal(self._fd, number)
        except ProcessLookupError:
            return False
        return True

    async def wait_ended(self) -> None:
        """Return when the process has ended (the descriptor becomes readable then)."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        fd = os.dup(self._fd)  # the loop knows one callback per descriptor, and several may wait

        def readable() -> None:
            loop.remove_reader(fd)
            if not ended.done():
                ended.set_result(None)

        try:
            loop.add_reader(fd, readable)
            await ended
        finally:
            loop.remove_reader(fd)
            os.close(fd)
