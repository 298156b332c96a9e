"""Archives that ADD unpacks."""

from __future__ import annotations

import bz2
import lzma
import posixpath
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from tare.archive.compression import Compression, decompress, detect
from tare.archive.entry import Entry, Kind
from tare.archive.expansion import Counted
from tare.archive.tar_stream import BLOCK, is_tar_header, iter_entries
from tare.archive.tar_writer import TarWriter
from tare.base.readers import Readable
from tare.build.ops.rootfs import Owner, is_directory, lstat, resolve
from tare.build.sources.archive import bomb, unpacked
from tare.build.sources.limits import SourceLimits
from tare.errors import DataCorrupt, InvalidArgument

_MAGIC = 6  # bytes that tell a compression
_CHUNK = 1 << 20
_GZIP_ONLY = 16 + zlib.MAX_WBITS


@dataclass(frozen=True, slots=True)
class Archive:
    """A tar archive on the host; ``name`` is what errors call it."""

    host: str
    name: str
    limits: SourceLimits


def open_archive(host: str, name: str, limits: SourceLimits) -> Archive | None:
    """The file as an archive if it is a tar, plain or compressed (by content, not by name), else None.

    ``name`` is what errors call it.
    """
    archive = Archive(host, name, limits)
    try:
        header = _first_block(host)
    except (DataCorrupt, OSError, EOFError, lzma.LZMAError, zlib.error, ValueError):
        return None
    return archive if is_tar_header(header) else None


def _first_block(host: str) -> bytes:
    """The first 512 bytes, decompressed, also of a file that is cut off later: whoever unpacks it then says so."""
    with Path(host).open("rb") as file:
        kind = detect(file.read(_MAGIC))
        file.seek(0)
        decoder: Any
        match kind:
            case Compression.GZIP:
                decoder = zlib.decompressobj(_GZIP_ONLY)
            case Compression.BZIP2:
                decoder = bz2.BZ2Decompressor()
            case Compression.XZ:
                decoder = lzma.LZMADecompressor()
            case _:
                return _Stream(file, decompress(file)).read(BLOCK)
        block = b""
        while len(block) < BLOCK and not decoder.eof and (data := file.read(_CHUNK)):
            block += decoder.decompress(data, BLOCK - len(block))
        return block


class _Stream:
    """A decompressed file; closes the file with it."""

    def __init__(self, file: BinaryIO, source: Readable) -> None:
        self._file = file
        self._source = source

    def read(self, size: int = -1, /) -> bytes:
        parts: list[bytes] = []
        left = size
        while left:
            data = self._source.read(left)
            if not data:
                break
            parts.append(data)
            left -= len(data)
        return b"".join(parts)

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def open_stream(archive: Archive) -> _Stream:
    """The archive's bytes, decompressed where they are compressed; reading more than the limits raises."""
    file = Path(archive.host).open("rb")  # noqa: SIM115 - closed with the stream
    try:
        compressed = Counted(file)
        return _Stream(file, unpacked(decompress(compressed), compressed, archive.limits, archive.name))
    except BaseException:
        file.close()
        raise


def write_archive(
    archive: Archive, root: Path, destination: str, writer: TarWriter, known: set[str], *, owner: Owner | None
) -> int:
    """Add the archive's members below ``destination``; returns the bytes of file content.

    A member that is to lie behind a symbolic link of the image or the archive goes where the link leads; one with an
    absolute path lies below ``destination`` like the others. Raises DataCorrupt, InvalidArgument for an archive that
    unpacks to too much.
    """
    top = resolve(root, destination)
    size = entries = 0
    links: dict[str, str | None] = {}
    with open_stream(archive) as stream:
        for entry, content in iter_entries(stream):
            entries += 1
            if entries > archive.limits.archive_entries:
                raise bomb(archive.name, f"more than {archive.limits.archive_entries} entries", "max_archive_entries")
            if not entry.path:
                continue
            placed = _placed(entry, root, top, links)
            links[placed.path] = placed.target if placed.kind is Kind.SYMLINK else None
            if posixpath.basename(placed.path).startswith(".wh."):
                raise InvalidArgument(f"{archive.name}: member {entry.path} has a name that no layer can hold")
            if owner is not None:
                placed = replace(placed, uid=owner.uid, gid=owner.gid)
            for directory in _missing_parents(placed, root, known):
                writer.add(directory)
            writer.add(placed, content)
            known.add(placed.path)
            size += placed.size
    return size


def _missing_parents(entry: Entry, root: Path, known: set[str]) -> Iterator[Entry]:
    """Directories above ``entry`` that neither the image nor the layer has, as root's; they are ``known`` then."""
    parts = entry.path.split("/")[:-1]
    for count in range(1, len(parts) + 1):
        path = "/".join(parts[:count])
        if path not in known:
            known.add(path)
            if lstat(root, path) is None:
                yield Entry(path=path, kind=Kind.DIRECTORY, mode=0o755, mtime=entry.mtime)


def _placed(entry: Entry, root: Path, top: str, links: Mapping[str, str | None]) -> Entry:
    path = f"{top}/{entry.path}" if top else entry.path
    above, _, name = path.rpartition("/")
    parent = resolve(root, above, written=links)
    path = f"{parent}/{name}" if parent else name
    if entry.kind is Kind.DIRECTORY:
        followed = resolve(root, path, written=links)
        if is_directory(lstat(root, followed)) and followed not in links:
            path = followed
    target = entry.target
    if entry.kind is Kind.HARDLINK:
        above, _, name = (f"{top}/{target}" if top else target).rpartition("/")
        parent = resolve(root, above, written=links)
        target = f"{parent}/{name}" if parent else name
    mode = 0o777 if entry.kind is Kind.SYMLINK else entry.mode  # links have no mode of their own, symlink(7)
    return replace(entry, path=path, target=target, mode=mode)
