"""Space that is kept for what makes space: without it, a full disk would refuse the very removal that frees it."""

from __future__ import annotations

import logging
import os
from pathlib import Path

logger = logging.getLogger(__name__)

RESERVE_BYTES = 1 << 20
"""For some dozens of transactions: each appends the pages that it changes, 4 KB each, to the write-ahead log."""


class Reserve:
    """A file that holds nothing but its space. For one thread, the writer's; every method blocks for a file's work."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held = False

    def release(self) -> bool:
        """Give the space up; False when it is given up already."""
        self._held = False
        try:
            self._path.unlink()
        except FileNotFoundError:
            return False
        logger.warning("the disk of %s is full: the space that is kept for removals is in use now", self._path.parent)
        return True

    def regain(self) -> None:
        """Hold the space again, as soon as the disk has it."""
        if self._held:
            return
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, RESERVE_BYTES)
            finally:
                os.close(fd)
            self._held = True
        except OSError:  # the disk is full still
            self._path.unlink(missing_ok=True)
