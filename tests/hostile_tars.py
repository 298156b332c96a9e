"""Tars byte by byte, as no honest program writes them."""

from __future__ import annotations

BLOCK = 512
END = bytes(2 * BLOCK)
# offset and length of a header's fields, tar(5)
FIELDS = {
    "name": (0, 100),
    "mode": (100, 8),
    "uid": (108, 8),
    "gid": (116, 8),
    "size": (124, 12),
    "mtime": (136, 12),
    "type": (156, 1),
    "target": (157, 100),
    "magic": (257, 8),
    "major": (329, 8),
    "minor": (337, 8),
    "prefix": (345, 155),
}


def header(name: bytes = b"victim", flag: bytes = b"0", size: int | bytes = 0, **fields: bytes) -> bytes:
    """A header with a right checksum; ``fields`` are raw bytes by the names of :data:`FIELDS`."""
    block = bytearray(BLOCK)
    values = {
        "name": name[:100],
        "mode": b"0000644\0",
        "uid": b"0000000\0",
        "gid": b"0000000\0",
        "size": size if isinstance(size, bytes) else b"%011o\0" % size,
        "mtime": b"00000000000\0",
        "type": flag,
        "magic": b"ustar\x0000",
        **fields,
    }
    for field, value in values.items():
        offset, length = FIELDS[field]
        block[offset : offset + length] = value[:length].ljust(length, b"\0")
    return signed(block)


def signed(block: bytes | bytearray) -> bytes:
    """The header with its checksum made right."""
    out = bytearray(block)
    out[148:156] = b" " * 8
    out[148:156] = b"%06o\0 " % sum(out)
    return bytes(out)


def member(name: bytes, data: bytes = b"", flag: bytes = b"0", **fields: bytes) -> bytes:
    """A header and its content, padded."""
    return header(name, flag, len(data), **fields) + padded(data)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def link(name: bytes, target: bytes, flag: bytes = b"2") -> bytes:
    """A symbolic link, with ``flag`` 1 a hard link."""
    return member(name, flag=flag, target=target)


def directory(name: bytes) -> bytes:
    return member(name, flag=b"5", mode=b"0000755\0")


def pax(records: dict[bytes, bytes], flag: bytes = b"x") -> bytes:
    """An extended header for the member that follows (``g``: for all)."""
    return member(b"pax", pax_records(records), flag)


def pax_records(records: dict[bytes, bytes]) -> bytes:
    out = b""
    for key, value in records.items():
        rest = b" " + key + b"=" + value + b"\n"
        length = len(rest) + 1
        while len(b"%d" % length) + len(rest) != length:
            length = len(b"%d" % length) + len(rest)
        out += b"%d" % length + rest
    return out


def long_name(name: bytes, flag: bytes = b"L") -> bytes:
    """GNU's form of a long name, with ``flag`` K of a long link target."""
    return member(b"././@LongLink", name + b"\0", flag)
