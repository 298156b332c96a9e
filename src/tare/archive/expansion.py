"""How far compressed data may grow: what stops archive bombs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tare.base.readers import Readable
from tare.errors import TareError


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpansionLimits:
    """``size`` in bytes of the result; its ``ratio`` to the compressed bytes counts from ``ratio_from`` bytes on."""

    size: int = 64 << 30
    ratio: int = 200
    ratio_from: int = 256 << 20


class Counted:
    """A stream that counts what was read; ``observe`` is told the sum after each read."""

    def __init__(self, source: Readable, observe: Callable[[int], None] | None = None) -> None:
        self._source = source
        self._observe = observe
        self.size = 0

    def read(self, size: int = -1, /) -> bytes:
        """As the stream's."""
        data = self._source.read(size)
        self.size += len(data)
        if self._observe is not None:
            self._observe(self.size)
        return data

    def readable(self) -> bool:
        """Part of the raw-stream protocol that decompressors ask for."""
        return True


class Expanded:
    """Uncompressed bytes as long as they stay within the limits; ``compressed`` counts what they are made from.

    Past the limits reading raises what ``refuse`` makes of the excess (``"more than 5 bytes"``) and of the limit's
    name, ``size`` or ``ratio``.
    """

    def __init__(
        self,
        source: Readable,
        compressed: Counted,
        limits: ExpansionLimits,
        refuse: Callable[[str, str], TareError],
    ) -> None:
        self._source = source
        self._compressed = compressed
        self._limits = limits
        self._refuse = refuse
        self._size = 0

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes."""
        data = self._source.read(size)
        self._size += len(data)
        limits = self._limits
        if self._size > limits.size:
            raise self._refuse(f"more than {limits.size} bytes", "size")
        if self._size > limits.ratio_from and self._size > limits.ratio * max(self._compressed.size, 1):
            grown = f"{self._size >> 20} MiB from {self._compressed.size} bytes, over {limits.ratio} to 1"
            raise self._refuse(grown, "ratio")
        return data
