"""Tar archives, deterministic and fast: equal entries give equal bytes.

Headers are ustar (POSIX.1-2008, pax, "ustar Interchange Format"); what does not fit goes into a pax extended header
with sorted records. Extended attributes are ``SCHILY.xattr.*`` records, as in OCI layers.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import BinaryIO

from tare.archive.entry import Entry, Kind
from tare.base.readers import CHUNK, Readable
from tare.errors import DataCorrupt, InternalError

BLOCK = 512
RECORD = 20 * BLOCK  # archives are padded to full records, as tar(1) does
_MAX_OCTAL_7 = 0o7777777
_MAX_OCTAL_11 = 0o77777777777
_TYPES = {
    Kind.FILE: b"0",
    Kind.HARDLINK: b"1",
    Kind.SYMLINK: b"2",
    Kind.CHARACTER: b"3",
    Kind.BLOCK: b"4",
    Kind.DIRECTORY: b"5",
    Kind.FIFO: b"6",
}
_DEVICES = (Kind.CHARACTER, Kind.BLOCK)
_MAGIC_AND_NAMES = b"ustar\00000" + bytes(64)  # magic, version, empty user and group names
_NO_DEVICE = b"0000000\0" * 2
_SPACES = b"        "
_ZEROS = bytes(BLOCK)


class TarWriter:
    """Writes members in the order given; the caller sorts.

    ``sink`` stays open. An archive is complete only after :meth:`finish`.
    """

    def __init__(self, sink: BinaryIO) -> None:
        self._write = sink.write
        self._fill: Callable[[int, int], int] = getattr(sink, "fill", self._fill_by_copy)
        self._position = 0

    def add(self, entry: Entry, content: Readable | None = None) -> None:
        """Append a member; a file's ``content`` must give ``entry.size`` bytes.

        Raises DataCorrupt when the content is shorter or longer than announced.
        """
        size = entry.size if entry.kind is Kind.FILE else 0
        header = member_header(entry)
        self._write(header)
        self._position += len(header)
        if size or content is not None:
            self._copy(entry, size, content)

    def add_file(self, entry: Entry, fd: int) -> None:
        """Append a file with the content of the descriptor ``fd``, from where it stands; raises as :meth:`add` does.

        A sink with a method ``fill(fd, limit)`` reads the file itself, into its own buffers.
        """
        header = member_header(entry)
        self._write(header)
        left = entry.size
        while left:
            count = self._fill(fd, left)
            if not count:
                raise _ended(entry, left)
            left -= count
        if os.read(fd, 1):
            raise _longer(entry, entry.size)
        self._position += len(header) + entry.size
        self._pad(entry.size)

    def _fill_by_copy(self, fd: int, limit: int) -> int:
        data = os.read(fd, min(limit, CHUNK))
        self._write(data)
        return len(data)

    def finish(self) -> None:
        """Write the end marker and the padding."""
        end = self._position + 2 * BLOCK
        padding = -end % RECORD
        self._write(bytes(2 * BLOCK + padding))
        self._position = end + padding

    def _copy(self, entry: Entry, size: int, content: Readable | None) -> None:
        if content is None:
            raise InternalError(f"{entry.path}: {size} bytes announced, no content given")
        left = size
        while left:
            chunk = content.read(min(left, CHUNK))
            if not chunk:
                raise _ended(entry, left)
            self._write(chunk)
            left -= len(chunk)
        if content.read(1):
            raise _longer(entry, size)
        self._position += size
        self._pad(size)

    def _pad(self, size: int) -> None:
        padding = -size % BLOCK
        if padding:
            self._write(_ZEROS[:padding])
            self._position += padding


def _ended(entry: Entry, left: int) -> DataCorrupt:
    return DataCorrupt(f"{entry.path}: ends {left} bytes early", hint="the file changed while it was read")


def _longer(entry: Entry, size: int) -> DataCorrupt:
    return DataCorrupt(f"{entry.path}: longer than {size} bytes", hint="the file changed while it was read")


def member_header(entry: Entry) -> bytes:
    """The member's ustar header, after a pax header where it is needed.

    A file's content, padded to :data:`BLOCK`, comes behind it; two empty blocks end an archive.
    """
    size = entry.size if entry.kind is Kind.FILE else 0
    path = entry.path.encode("utf-8", "surrogateescape")
    if entry.kind is Kind.DIRECTORY:
        path = path.rstrip(b"/") + b"/" if path else b"./"
    target = entry.target.encode("utf-8", "surrogateescape")
    records: dict[str, bytes] = {}
    name, prefix = path, b""
    if len(path) > 100 or not path.isascii():
        name, prefix, fits = _split_name(path)
        if not fits or not path.isascii():
            records["path"] = path
            name, prefix = path.decode("ascii", "replace").encode("ascii", "replace")[:100], b""
    if len(target) > 100 or not target.isascii():
        records["linkpath"] = target
        target = target.decode("ascii", "replace").encode("ascii", "replace")[:100]
    uid = _fit(records, "uid", entry.uid, _MAX_OCTAL_7)
    gid = _fit(records, "gid", entry.gid, _MAX_OCTAL_7)
    length = _fit(records, "size", size, _MAX_OCTAL_11)
    mtime = _fit(records, "mtime", entry.mtime, _MAX_OCTAL_11)
    for attribute, value in entry.xattrs.items():
        records[f"SCHILY.xattr.{attribute}"] = value
    device = _NO_DEVICE
    if entry.kind in _DEVICES:
        device = b"%07o\0%07o\0" % (entry.major, entry.minor)
    header = _ustar(name, entry.mode & 0o7777, uid, gid, length, mtime, _TYPES[entry.kind], target, device, prefix)
    return _pax_header(records, name) + header if records else header


def _fit(records: dict[str, bytes], key: str, value: int, maximum: int) -> int:
    if 0 <= value <= maximum:
        return value
    records[key] = b"%d" % value
    return 0


def _split_name(path: bytes) -> tuple[bytes, bytes, bool]:
    """Split at a slash into name (at most 100 bytes) and prefix (at most 155)."""
    if len(path) > 256:
        return path[:100], b"", False
    cut = path.find(b"/", len(path) - 101, len(path) - 1)
    if cut <= 0 or cut > 155:
        return path[:100], b"", False
    return path[cut + 1 :], path[:cut], True


def _ustar(  # noqa: PLR0917 - the fields in the header's order
    name: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    kind: bytes,
    target: bytes,
    device: bytes,
    prefix: bytes,
) -> bytes:
    head = name.ljust(100, b"\0") + b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, uid, gid, size, mtime)
    tail = kind + target.ljust(100, b"\0") + _MAGIC_AND_NAMES + device + prefix.ljust(167, b"\0")
    checksum = sum(head) + sum(tail) + 256  # the checksum field itself counts as eight spaces
    return head + b"%06o\0 " % checksum + tail


def _pax_header(records: dict[str, bytes], name: bytes) -> bytes:
    body = b"".join(_record(key, records[key]) for key in sorted(records))
    base = (b"PaxHeaders.0/" + name.rstrip(b"/").rpartition(b"/")[2])[:100]
    header = _ustar(base, 0o644, 0, 0, len(body), 0, b"x", b"", _NO_DEVICE, b"")
    return header + body + bytes(-len(body) % BLOCK)


def _record(key: str, value: bytes) -> bytes:
    """``<length> <key>=<value>\\n`` where length counts itself."""
    rest = b" " + key.encode("utf-8", "surrogateescape") + b"=" + value + b"\n"
    length = len(rest) + len(str(len(rest)))
    while len(str(length)) + len(rest) != length:
        length = len(str(length)) + len(rest)
    return str(length).encode() + rest
