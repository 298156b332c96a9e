"""Programs under a pseudo-terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence

CLOSE_SECONDS = 30


class Terminal:
    """A program under a pseudo-terminal of ``size`` (rows, columns)."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str], size: tuple[int, int] = (31, 97)) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        self.process = subprocess.Popen(
            argv, stdin=slave, stdout=slave, stderr=slave, env=dict(environment), start_new_session=True
        )
        os.close(slave)
        self.seen = b""

    def until(self, words: bytes) -> bytes:
        """Read until ``words`` come or the terminal closes."""
        while words not in self.seen:
            try:
                data = os.read(self.master, 65536)
            except OSError:
                break
            if not data:
                break
            self.seen += data
        assert words in self.seen, self.seen
        before, _, self.seen = self.seen.partition(words)
        return before

    def send(self, text: bytes) -> None:
        """Type ``text``."""
        os.write(self.master, text)

    def resize(self, rows: int, columns: int) -> None:
        """Change the window's size."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process.send_signal(signal.SIGWINCH)  # the program has no controlling terminal

    def close(self) -> int:
        """Wait for the program's end; returns its exit status."""
        try:
            return self.process.wait(CLOSE_SECONDS)
        finally:
            self.kill()
            os.close(self.master)

    def kill(self) -> None:
        """End the program; quiet when it has ended."""
        self.process.kill()
        self.process.wait()
