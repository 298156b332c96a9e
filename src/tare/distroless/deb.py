"""Binary packages (deb(5)): read without running anything from them."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import zstandard

from tare.archive.entry import Entry, Kind
from tare.archive.filetree import Content, FileTree, Slice
from tare.archive.tar_stream import Limits, iter_entries
from tare.base.readers import CHUNK, Readable
from tare.distroless.control import parse_paragraphs
from tare.errors import DataCorrupt, TareError

CONTROL_LIMIT = 32 << 20  # bytes of control.tar unpacked
DATA_LIMIT = 8 << 30  # bytes of data.tar unpacked; the archive's largest is below 4 GB
MEMBER_LIMIT = 500_000
_MEMORY_LIMIT = 256 << 20  # bytes that a decompressor may take
_ZST_WINDOW = 128 << 20  # bytes
_ZST_FED = 256  # bytes; they unpack to at most 8 MiB
_AR_MAGIC = b"!<arch>\n"
_DEPTH_LIMIT = 128  # directories in one path; the archive's deepest is below 40
_NAMES_LIMIT = 128 << 20  # bytes of all paths, those of directories that are only implied as well
_TAR_LIMITS = Limits(members=MEMBER_LIMIT, total=DATA_LIMIT, metadata=64 << 10)
_KINDS = (Kind.FILE, Kind.HARDLINK, Kind.SYMLINK, Kind.DIRECTORY, Kind.FIFO)
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]{0,127}")  # Debian Policy 5.6.1
_CAPABILITIES = "security.capability"


@dataclass(frozen=True, slots=True)
class Deb:
    """An opened package: its control fields, its control files by name, its build time, and its data.

    ``built`` is in seconds since the epoch. The content of ``tree`` lies in the uncompressed tar given to
    :func:`read_deb`, which must live as long as the tree is used.
    """

    fields: dict[str, str]
    control: dict[str, bytes]
    built: int
    tree: FileTree

    @property
    def name(self) -> str:
        """The package's name."""
        return self.fields["Package"]


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    offset: int
    size: int
    mtime: int


def read_deb(path: Path, spool: Path) -> Deb:
    """Read the .deb at ``path``, its data unpacked into the new file ``spool``. Blocking.

    Raises DataCorrupt naming the package file for whatever is wrong with it.
    """
    try:
        with path.open("rb") as stream:
            members = list(_ar_members(stream))
            if not members or members[0].name != "debian-binary":
                raise DataCorrupt("not a Debian package")
            version = _slice(stream, members[0]).read(64)
            if not version.startswith(b"2."):
                raise DataCorrupt(f"package format {version[:16]!r} is not known")
            control = _control_files(stream, _find(members, "control.tar"))
            fields = _control_fields(control)
            _decompress(stream, _find(members, "data.tar"), spool)
    except (TareError, OSError, EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DataCorrupt(f"{path.name}: {error}", code="deb-malformed") from error
    try:
        tree = _data_tree(spool, fields["Package"])
    except TareError as error:
        raise DataCorrupt(f"{fields['Package']} ({path.name}): {error}", code="deb-malformed") from error
    return Deb(fields, control, members[0].mtime, tree)


def read_control(path: Path) -> dict[str, str]:
    """The control fields (deb-control(5)) of the .deb at ``path``. Blocking. Raises DataCorrupt naming the file."""
    try:
        with path.open("rb") as stream:
            return _control_fields(_control_files(stream, _find(list(_ar_members(stream)), "control.tar")))
    except (TareError, OSError, EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DataCorrupt(f"{path.name}: {error}", code="deb-malformed") from error


def _ar_members(stream: BinaryIO) -> Iterator[_Member]:
    """Members of an ar archive as dpkg-deb writes it (deb(5)); at most ten."""
    if stream.read(8) != _AR_MAGIC:
        raise DataCorrupt("not an ar archive")
    end = os.fstat(stream.fileno()).st_size
    for _ in range(10):
        header = stream.read(60)
        if not header:
            return
        if len(header) != 60 or header[58:] != b"`\n":
            raise DataCorrupt("damaged ar header")
        try:
            name = header[:16].decode("ascii").strip().rstrip("/")
            size, mtime = int(header[48:58]), int(header[16:28])
        except ValueError as error:
            raise DataCorrupt("damaged ar header") from error
        offset = stream.tell()
        if size < 0 or offset + size > end:
            raise DataCorrupt(f"{name} is truncated")
        yield _Member(name, offset, size, max(mtime, 0))
        stream.seek(offset + size + size % 2)
    raise DataCorrupt("too many members")


def _find(members: list[_Member], stem: str) -> _Member:
    for member in members:
        if member.name in (stem, f"{stem}.gz", f"{stem}.xz", f"{stem}.zst"):
            return member
    raise DataCorrupt(f"has no {stem} in a known compression")


class _MemberReader:
    """The bytes of one ar member."""

    def __init__(self, stream: BinaryIO, member: _Member) -> None:
        self._stream = stream
        self._left = member.size
        stream.seek(member.offset)

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data


def _slice(stream: BinaryIO, member: _Member) -> Readable:
    return _MemberReader(stream, member)


def _plain(stream: BinaryIO, member: _Member) -> Iterator[bytes]:
    """The member's uncompressed bytes in pieces."""
    source = _slice(stream, member)
    match member.name.rpartition(".")[2]:
        case "xz":
            yield from _xz_pieces(source)
        case "gz":
            with gzip.GzipFile(fileobj=source) as unzipped:  # type: ignore[call-overload]
                yield from iter(lambda: unzipped.read(CHUNK), b"")
        case "zst":
            yield from _zst_pieces(source)
        case _:
            yield from iter(lambda: source.read(CHUNK), b"")


def _xz_pieces(source: Readable) -> Iterator[bytes]:
    while True:
        decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY_LIMIT)
        data = source.read(CHUNK)
        if not data:
            return
        while not decompressor.eof:
            piece = decompressor.decompress(data, CHUNK)
            if piece:
                yield piece
            data = source.read(CHUNK) if decompressor.needs_input and not decompressor.eof else b""
            if not data and decompressor.needs_input and not decompressor.eof:
                raise DataCorrupt("compressed data ends early")
        if decompressor.unused_data.strip(b"\0"):
            raise DataCorrupt("data after the end of the compressed stream")


def _zst_pieces(source: Readable) -> Iterator[bytes]:
    """Frames one after the other. A block of four bytes can stand for 128 KiB: what is fed at a time is small."""
    data = source.read(_ZST_FED)
    while data:
        frame = zstandard.ZstdDecompressor(max_window_size=_ZST_WINDOW).decompressobj()
        while not frame.eof:
            if not data:
                raise DataCorrupt("compressed data ends early")
            if piece := frame.decompress(data):
                yield piece
            data = b"" if frame.eof else source.read(_ZST_FED)
        data = frame.unused_data or source.read(_ZST_FED)


def _control_files(stream: BinaryIO, member: _Member) -> dict[str, bytes]:
    data = bytearray()
    for piece in _plain(stream, member):
        data += piece
        if len(data) > CONTROL_LIMIT:
            raise DataCorrupt(f"{member.name} unpacks to more than {CONTROL_LIMIT} bytes")
    files: dict[str, bytes] = {}
    for entry, content in iter_entries(io.BytesIO(data), limits=_TAR_LIMITS, allow_absolute=False):
        if content is not None and "/" not in entry.path:
            files[entry.path] = content.read()
    return files


def _control_fields(control: dict[str, bytes]) -> dict[str, str]:
    if "control" not in control:
        raise DataCorrupt("has no control file")
    paragraphs = parse_paragraphs(control["control"].decode("utf-8", "replace"))
    if len(paragraphs) != 1 or not {"Package", "Version", "Architecture"} <= paragraphs[0].keys():
        raise DataCorrupt("its control file lacks Package, Version or Architecture")
    if not _NAME.fullmatch(paragraphs[0]["Package"]):
        raise DataCorrupt(f"{paragraphs[0]['Package'][:80]!r} is no package name")
    return paragraphs[0]


def _decompress(stream: BinaryIO, member: _Member, spool: Path) -> None:
    total = 0
    with spool.open("xb") as target:
        for piece in _plain(stream, member):
            total += len(piece)
            if total > DATA_LIMIT:
                raise DataCorrupt(f"{member.name} unpacks to more than {DATA_LIMIT} bytes")
            target.write(piece)


def _data_tree(spool: Path, owner: str) -> FileTree:
    tree = FileTree()
    links: list[Entry] = []
    names = 0
    with spool.open("rb") as stream:
        for member, content in iter_entries(stream, limits=_TAR_LIMITS, allow_absolute=False):
            entry = _checked(member)
            before = len(tree)
            if entry.kind is Kind.HARDLINK:
                links.append(entry)
            elif entry.path:
                place: Content = Slice(spool, stream.tell()) if content is not None else b""
                tree.add(entry, place, owner=owner)
            names += len(entry.path) * max(len(tree) - before, 1) + len(entry.target)
            if len(tree) > MEMBER_LIMIT or names > _NAMES_LIMIT:
                raise DataCorrupt(f"more than {MEMBER_LIMIT} members, or {_NAMES_LIMIT} bytes of names")
    for entry in links:
        if entry.target not in tree:
            raise DataCorrupt(f"the hard link {entry.path} names {entry.target}, which is not there")
        tree.add(entry, owner=owner)
    return tree


def _checked(member: Entry) -> Entry:
    """The member as it goes into a tree: of extended attributes only capabilities. Raises DataCorrupt for a device."""
    shown = member.path[:200]
    if member.kind not in _KINDS:
        raise DataCorrupt(f"the member {shown} is neither file, directory nor link")
    if member.path.count("/") >= _DEPTH_LIMIT:
        raise DataCorrupt(f"the member {shown} lies more than {_DEPTH_LIMIT} directories deep")
    xattrs = {_CAPABILITIES: member.xattrs[_CAPABILITIES]} if _CAPABILITIES in member.xattrs else {}
    return replace(member, xattrs=xattrs)
