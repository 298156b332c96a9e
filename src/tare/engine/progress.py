"""Progress of long operations as the Engine API's messages."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tare.build.request import Progress

Tell = Callable[[dict[str, Any]], None]

_BAR = 50  # characters of Docker's bar
_INTERVAL = 0.1  # seconds between two messages about the bytes of one transfer, as in Docker
_UNITS = ("B", "kB", "MB", "GB", "TB")


class StatusLines:
    """Turns ``(id, text)`` into status messages; one line per id, rewritten on terminals.

    From an id's second text on the message carries ``progressDetail``: clients whose output is no terminal leave such
    messages out (as they do with Docker's download bars), so that a log shows one line per id and not hundreds.
    """

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._seen: Counter[str] = Counter()

    def __call__(self, identifier: str, text: str) -> None:
        """Report ``text`` as the present state of ``identifier``."""
        message: dict[str, Any] = {"status": text, "id": identifier}
        if self._seen[identifier]:
            message["progressDetail"] = {"current": self._seen[identifier], "units": "done"}
        self._seen[identifier] += 1
        self._tell(message)


def build_progress(tell: Progress) -> Tell:
    """Takes messages of transfers and tells a build what they say."""

    def told(message: dict[str, Any]) -> None:
        if "status" not in message:
            return
        detail = message.get("progressDetail") or {}
        in_bytes = "units" not in detail
        current, total = (int(detail.get(name, 0)) if in_bytes else 0 for name in ("current", "total"))
        tell(str(message.get("id", "")), str(message["status"]), current, total)

    return told


def transfer_message(identifier: str, status: str, current: int = 0, total: int = 0) -> dict[str, Any]:
    """What Docker says of a transfer: ``current`` of ``total`` bytes, with the bar that its older clients print."""
    detail = {name: value for name, value in (("current", current), ("total", total)) if value > 0}
    message: dict[str, Any] = {"status": status, "progressDetail": detail}
    if detail:
        message["progress"] = _bar(current, total)
    return {**message, "id": identifier}


def _bar(current: int, total: int) -> str:
    """As ``JSONProgress.String`` of moby's jsonmessage for 200 columns."""
    if total <= 0:
        return f"{_size(current):>8}"
    filled = min(int(current / total * 100) // 2, _BAR)
    numbers = f"{_size(current):>8}" if current > total else f"{_size(current):>8}/{_size(total)}"
    return f"[{'=' * filled}>{' ' * (_BAR - filled)}] {numbers}"


def _size(count: float) -> str:
    """As ``HumanSize`` of go-units: four digits, powers of 1000."""
    unit = 0
    while count >= 1000 and unit < len(_UNITS) - 1:
        count, unit = count / 1000, unit + 1
    return f"{count:.4g}{_UNITS[unit]}"


class Transfer:
    """How one blob's transfer goes, told to all who wait for it; who comes later is told the present state first."""

    def __init__(self, identifier: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._identifier = identifier
        self._clock = clock
        self._audience: list[Tell] = []
        self._last: dict[str, Any] | None = None
        self._moved = -_INTERVAL

    def say(self, status: str) -> None:
        """A new state."""
        self._tell(transfer_message(self._identifier, status))

    def move(self, status: str, current: int, total: int) -> None:
        """``current`` of ``total`` bytes; told once in a while, and when it is done."""
        if self._clock() - self._moved < _INTERVAL and current != total:
            return
        self._moved = self._clock()
        message = transfer_message(self._identifier, status, current, total)
        if message != self._last:
            self._tell(message)

    @contextmanager
    def told(self, tell: Tell) -> Iterator[None]:
        """Let ``tell`` hear of it for the time of the block."""
        self._audience.append(tell)
        try:
            if self._last is not None:
                tell(self._last)
            yield
        finally:
            self._audience.remove(tell)

    def _tell(self, message: dict[str, Any]) -> None:
        self._last = message
        for tell in self._audience:
            tell(message)
