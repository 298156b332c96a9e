"""Keeping secrets out of a step's output: commands like to print what they were given."""

from __future__ import annotations

from collections.abc import Iterable

MASK = b"****"
MIN_LENGTH = 6
"""Bytes; shorter values would mask ordinary words."""


class Mask:
    """Replaces secret values in one stream of output, also where they are cut by the borders of chunks."""

    def __init__(self, secrets: Iterable[bytes]) -> None:
        values = {secret.strip() for secret in secrets}  # a file's last line break is not part of what it holds
        self._values = sorted((value for value in values if len(value) >= MIN_LENGTH), key=len, reverse=True)
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """What may be shown now; an end that could be the beginning of a secret is kept back."""
        if not self._values:
            return data
        data = self._replace(self._rest + data)
        kept = max((_overlap(data, value) for value in self._values), default=0)
        self._rest = data[len(data) - kept :]
        return data[: len(data) - kept]

    def finish(self) -> bytes:
        """What was kept back."""
        rest, self._rest = self._rest, b""
        return rest

    def _replace(self, data: bytes) -> bytes:
        for value in self._values:
            data = data.replace(value, MASK)
        return data


def _overlap(data: bytes, value: bytes) -> int:
    """Length of the longest end of ``data`` that begins ``value``."""
    for length in range(min(len(data), len(value) - 1), 0, -1):
        if data.endswith(value[:length]):
            return length
    return 0
