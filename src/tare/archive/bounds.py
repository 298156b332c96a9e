"""How much an archive may unpack to: what stops archive bombs wherever archives come from."""

from __future__ import annotations

from dataclasses import dataclass

from tare.base.readers import Readable
from tare.errors import InvalidArgument

BLOCK = 512
_CHECKSUM_AT = 148  # in a tar header, ustar(5)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpansionLimits:
    """Sizes in bytes. The ratio (unpacked to compressed) counts from ``ratio_from`` bytes on."""

    archive_bytes: int = 64 << 30
    archive_ratio: int = 200
    ratio_from: int = 256 << 20


class Counted:
    """A stream that counts what was read."""

    def __init__(self, source: Readable) -> None:
        self._source = source
        self.size = 0

    def read(self, size: int = -1, /) -> bytes:
        """As the stream's."""
        data = self._source.read(size)
        self.size += len(data)
        return data

    def readable(self) -> bool:
        """Part of the raw-stream protocol that decompressors ask for."""
        return True


class Unpacked:
    """The bytes of an archive, uncompressed, as long as they stay within the limits.

    ``compressed`` counts what they are made from. Reading raises InvalidArgument (``archive-bomb``).
    """

    def __init__(self, source: Readable, compressed: Counted, limits: ExpansionLimits, what: str) -> None:
        self._source = source
        self._compressed = compressed
        self._limits = limits
        self._what = what
        self._size = 0

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes."""
        data = self._source.read(size)
        self._size += len(data)
        limits = self._limits
        if self._size > limits.archive_bytes:
            raise bomb(self._what, f"more than {limits.archive_bytes} bytes", "max_archive_bytes")
        if self._size > limits.ratio_from and self._size > limits.archive_ratio * max(self._compressed.size, 1):
            grown = f"{self._size >> 20} MiB from {self._compressed.size} bytes, over {limits.archive_ratio} to 1"
            raise bomb(self._what, grown, "max_archive_ratio")
        return data


def bomb(what: str, excess: str, setting: str) -> InvalidArgument:
    """The error for an archive that unpacks to too much."""
    return InvalidArgument(
        f"{what}: the archive unpacks to {excess}",
        hint=f"if it is meant to, raise {setting} in the section build of the configuration",
        code="archive-bomb",
    )


def is_tar_header(header: bytes) -> bool:
    """Whether a block is the first of a tar archive: its checksum is right."""
    if len(header) < BLOCK or not any(header):
        return False
    field = header[_CHECKSUM_AT : _CHECKSUM_AT + 8].strip(b" \0")
    try:
        stored = int(field, 8)
    except ValueError:
        return False
    return stored == sum(header) - sum(header[_CHECKSUM_AT : _CHECKSUM_AT + 8]) + 8 * 32
