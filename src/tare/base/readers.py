"""Readers for bytes that are not trusted: bounded in size, verified by digest."""

from __future__ import annotations

import hashlib
from typing import BinaryIO, Protocol

from tare.errors import DataCorrupt

CHUNK = 1 << 20  # bytes per read; large enough that hashing dominates


class Readable(Protocol):
    """Anything with ``read(size) -> bytes``; an empty result is the end."""

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes."""
        ...


class VerifyingReader:
    """Passes bytes on, counting and hashing them; raises DataCorrupt past ``limit`` bytes."""

    def __init__(self, source: Readable, *, what: str, limit: int | None = None) -> None:
        self._source = source
        self._what = what
        self._limit = limit
        self._hash = hashlib.sha256()
        self.size = 0

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes; raises DataCorrupt when more than the limit has come."""
        data = self._source.read(size)
        self.size += len(data)
        if self._limit is not None and self.size > self._limit:
            raise DataCorrupt(f"{self._what}: more than the expected {self._limit} bytes")
        self._hash.update(data)
        return data

    def readable(self) -> bool:
        """Part of the raw-stream protocol that decompressors ask for."""
        return True

    @property
    def sha256(self) -> str:
        """Hex digest of what was read so far."""
        return self._hash.hexdigest()

    def verify(self, *, sha256: str | None = None, size: int | None = None) -> None:
        """Check what was read in full; raises DataCorrupt naming both values."""
        if size is not None and self.size != size:
            raise DataCorrupt(f"{self._what}: {self.size} bytes, expected {size}")
        if sha256 is not None and self.sha256 != sha256:
            raise DataCorrupt(f"{self._what}: sha256 {self.sha256}, expected {sha256}")


def copy_stream(source: Readable, sink: BinaryIO) -> int:
    """Copy everything; returns the number of bytes."""
    total = 0
    while chunk := source.read(CHUNK):
        sink.write(chunk)
        total += len(chunk)
    return total
