"""``/etc/ld.so.cache``: which libraries glibc's loader knows (format 1.1, glibc ``sysdeps/generic/dl-cache.h``)."""

from __future__ import annotations

import struct

MAGIC = b"glibc-ld.so.cache1.1"
MAX_SIZE = 8 << 20
_OLD_MAGIC = b"ld.so-1.7.0\0"
_MAX_ENTRIES = 50_000


def read_cache(data: bytes) -> dict[str, tuple[str, ...]]:
    """Paths by library name, in the loader's order; empty for a cache of another format or a damaged one."""
    start = 0
    if data.startswith(_OLD_MAGIC):  # the old format in front, the new one after it, aligned to 8 bytes
        (count,) = struct.unpack_from("=I", data.ljust(16, b"\0"), 12)
        start = (16 + count * 12 + 7) & ~7
    if data[start : start + len(MAGIC)] != MAGIC or len(data) < start + 48:
        return {}
    (count,) = struct.unpack_from("=I", data, start + len(MAGIC))
    found: dict[str, tuple[str, ...]] = {}
    for index in range(min(count, _MAX_ENTRIES)):
        at = start + 48 + index * 24
        if at + 24 > len(data):
            break
        _, key, value = struct.unpack_from("=iII", data, at)
        name, path = _text(data, start + key), _text(data, start + value)
        if name and path:
            found[name] = (*found.get(name, ()), path)
    return found


def _text(data: bytes, offset: int) -> str:
    end = data.find(b"\0", offset, offset + 4096)
    return "" if end < 0 else data[offset:end].decode(errors="replace")
