"""Keys that leave a terminal without ending its process."""

from __future__ import annotations

from tare.errors import InvalidArgument

DEFAULT_KEYS = b"\x10\x11"  # ctrl-p, ctrl-q
_CONTROLS = {f"ctrl-{character}": code for code, character in enumerate("@abcdefghijklmnopqrstuvwxyz[\\]^_")}
_NAMED = {**_CONTROLS, "DEL": 127}


class Detached(Exception):
    """The user typed the detach keys."""


def parse_detach_keys(text: str) -> bytes:
    """The bytes of keys such as ``ctrl-a,x``; the default for an empty text.

    Each key is one character, ``DEL``, or ``ctrl-`` with a lower-case letter or one of ``@[\\]^_`` (docker attach,
    "Override the detach sequence"). Raises InvalidArgument.
    """
    if not text:
        return DEFAULT_KEYS
    keys = bytearray()
    for name in text.split(","):
        if len(name) == 1 and name.isascii():
            keys += name.encode()
        elif name in _NAMED:
            keys.append(_NAMED[name])
        else:
            raise InvalidArgument(
                f"Invalid detach keys ({text}) provided",
                hint=f"{name!r} is no key; give characters or ctrl-<letter>, with commas between them",
            )
    return bytes(keys)


class DetachFilter:
    """Finds the detach keys in what is typed; half of them is held back until the next key."""

    def __init__(self, keys: bytes = DEFAULT_KEYS) -> None:
        self._keys = keys
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What to pass on. Raises Detached."""
        data = self._held + data
        if self._keys in data:
            raise Detached
        keep = next((n for n in range(len(self._keys) - 1, 0, -1) if data.endswith(self._keys[:n])), 0)
        self._held = data[len(data) - keep :]
        return data[: len(data) - keep]

    def flush(self) -> bytes:
        """What was held back and, as the input has ended, is only input."""
        held, self._held = self._held, b""
        return held
