"""Carry bytes between this process's standard streams and an attached process."""

from __future__ import annotations

import os
import sys
import threading

from tare.cli.terminal import CHUNK, write_out
from tare.client.streams import Attached
from tare.client.transport import drive
from tare.errors import Unavailable
from tare.model.detach_keys import Detached, DetachFilter, parse_detach_keys


async def relay(attached: Attached, *, tty: bool, stdin: bool, detach_keys: str | None) -> None:
    """Until the process's output ends; None for ``detach_keys`` looks for none, an empty text for the default.

    Raises Detached when they are typed. For a client without a loop: a thread carries the input.
    """
    typed = _Input(attached, keys=detach_keys) if stdin else None
    if typed is not None:
        typed.start()
    try:
        async for stream, data in attached.output(tty=tty):
            write_out(stream, data)
    except Unavailable:  # what is read of a connection that the thread is closing may fail
        if typed is None or not typed.detached:
            raise
    if typed is not None and typed.detached:
        raise Detached


class _Input(threading.Thread):
    """Standard input on its way to the process."""

    def __init__(self, attached: Attached, *, keys: str | None) -> None:
        super().__init__(name="stdin", daemon=True)  # reading a terminal cannot be called off
        self._attached = attached
        self._keys = DetachFilter(parse_detach_keys(keys)) if keys is not None and sys.stdin.isatty() else None
        self.detached = False

    def run(self) -> None:
        """See ``Thread``."""
        try:
            while data := _read():
                drive(self._attached.write(self._keys.feed(data) if self._keys else data))
            self._attached.close_stdin()
        except Detached:
            self.detached = True
            self._attached.close()
        except OSError:
            return  # the process has ended; its output says how


def _read() -> bytes:
    try:
        return os.read(0, CHUNK)
    except OSError:
        return b""
