"""Progress of long operations as the Engine API's messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

Tell = Callable[[dict[str, Any]], None]


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


_BAR = 50  # characters
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def transferred(status: str, identifier: str, current: int, total: int) -> dict[str, Any]:
    """The message that ``current`` of ``total`` bytes are there, with the bar that Docker's daemon draws into it."""
    full = min(_BAR, int(current / total * 100) // 2) if total else _BAR
    bar = f"[{'=' * full}>{' ' * (_BAR - full)}] {_decimal(current):>8}/{_decimal(total)}"
    detail = {"current": current, "total": total}
    return {"status": status, "progressDetail": detail, "progress": bar, "id": identifier}


def _decimal(size: float) -> str:
    """Bytes with four significant digits, as go-units' HumanSize."""
    index = 0
    while size >= 1000 and index < len(_UNITS) - 1:
        size /= 1000
        index += 1
    return f"{size:.4g}{_UNITS[index]}"
