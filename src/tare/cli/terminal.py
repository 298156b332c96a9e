"""The terminal and standard streams while a process is attached."""

from __future__ import annotations

import os
import signal
import sys
import termios
import tty
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tare.errors import InvalidArgument

CHUNK = 32 * 1024
_UNPROXIED = {"SIGCHLD", "SIGPIPE", "SIGURG", "SIGWINCH", "SIGKILL", "SIGSTOP"}


def detach_keys(option: str) -> str:
    """The detach keys that count: ``option``, or else ``detachKeys`` of the Docker client's configuration.

    Raises InvalidArgument when they are no keys, or when the configuration cannot be read.
    """
    from tare.model.detach_keys import parse_detach_keys

    text = option or _configured_keys()
    parse_detach_keys(text)
    return text


def _configured_keys() -> str:
    import json

    from tare.client.docker_config import config_path

    path = config_path()
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        raise InvalidArgument(f"cannot read the detach keys of {path}: {error}", hint="correct the file") from error
    keys = found.get("detachKeys", "") if isinstance(found, dict) else ""
    return keys if isinstance(keys, str) else ""


@contextmanager
def raw_mode(*, wanted: bool) -> Iterator[None]:
    """Hand every key to the process as it is typed; the terminal's settings come back in any case."""
    if not (wanted and sys.stdin.isatty()):
        yield
        return
    fd = sys.stdin.fileno()
    saved = termios.tcgetattr(fd)
    tty.setraw(fd)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, saved)


def require_terminal(*, tty_wanted: bool, stdin_wanted: bool) -> None:
    """Raises InvalidArgument when a terminal is asked for and standard input is none, as Docker does."""
    if tty_wanted and stdin_wanted and not sys.stdin.isatty():
        raise InvalidArgument("the input device is not a TTY")


def window_size() -> tuple[int, int] | None:
    """Height and width of the terminal in characters; None without one."""
    try:
        size = os.get_terminal_size(sys.stdout.fileno())
    except (OSError, ValueError):
        return None
    return (size.lines, size.columns) if size.lines and size.columns else None


def write_out(fd: int, data: bytes) -> None:
    """All of ``data`` to a standard stream."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


class Signals:
    """Signal handlers that make requests; those from before come back at the end.

    Python runs them between the steps of the main thread, and a read that a signal has interrupted goes on afterwards.
    """

    def __init__(self) -> None:
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Signals:
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def on_resize(self, resize: Callable[[int, int], Coroutine[Any, Any, None]]) -> None:
        """Call ``resize(height, width)`` now and whenever the window changes."""

        def tell() -> None:
            size = window_size()
            if size is not None:
                _quietly(resize(*size))

        self._add(signal.SIGWINCH, tell)
        tell()

    def proxy(self, send: Callable[[str], Coroutine[Any, Any, None]]) -> None:
        """Pass every signal that can be caught on to ``send``, by name."""
        for number in signal.valid_signals():
            if not isinstance(number, signal.Signals) or number.name in _UNPROXIED or number >= signal.SIGRTMIN:
                continue
            if number in (signal.SIGTTIN, signal.SIGTTOU, signal.SIGTSTP, signal.SIGCONT):
                continue  # job control of this process, not of the container's
            name = number.name
            self._add(number, lambda name=name: _quietly(send(name)))  # type: ignore[misc]

    def _add(self, number: signal.Signals, act: Callable[[], None]) -> None:
        before = signal.signal(number, lambda *_: act())
        self._before.setdefault(number, before)


def _quietly(request: Coroutine[Any, Any, None]) -> None:
    from tare.client.transport import drive
    from tare.errors import TareError

    with suppress(TareError):  # the process has ended in between
        drive(request)
