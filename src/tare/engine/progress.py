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
