"""How much a source may take: time, bytes, files. They stop archive bombs and servers that never end."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceLimits:
    """Sizes in bytes. The ratio of an archive (unpacked to compressed) counts from ``ratio_from`` bytes on.

    ``download`` is for one file or repository, ``seconds`` for one fetch, ``cache`` for fetched sources that are kept.
    """

    archive_entries: int = 1_000_000
    archive_bytes: int = 64 << 30
    archive_ratio: int = 200
    ratio_from: int = 256 << 20
    download: int = 32 << 30
    seconds: int = 3600
    cache: int = 4 << 30
