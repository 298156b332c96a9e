"""Archives that ADD unpacks."""

from __future__ import annotations

import lzma
import posixpath
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from tare.archive.compression import decompress
from tare.archive.entry import Entry, Kind
from tare.archive.tar_stream import BLOCK, iter_entries
from tare.archive.tar_writer import TarWriter
from tare.base.readers import Readable
from tare.build.ops.rootfs import Owner, is_directory, lstat, resolve
from tare.build.sources.archive import Counted, Unpacked, bomb, is_tar_header
from tare.build.sources.limits import SourceLimits
from tare.errors import DataCorrupt, InvalidArgument


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
        with open_stream(archive) as stream:
            header = stream.read(BLOCK)
    except (DataCorrupt, OSError, EOFError, lzma.LZMAError, ValueError):
        return None
    return archive if is_tar_header(header) else None


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
        return _Stream(file, Unpacked(decompress(compressed), compressed, archive.limits, archive.name))
    except BaseException:
        file.close()
        raise


def write_archive(
    archive: Archive, root: Path, destination: str, writer: TarWriter, known: set[str], *, owner: Owner | None
) -> int:
    """Add the archive's members below ``destination``; returns the bytes of file content.

    A member that is to lie behind a symbolic link of the image goes where the link leads. Raises DataCorrupt,
    InvalidArgument for an archive that unpacks to too much.
    """
    top = resolve(root, destination)
    size = entries = 0
    with open_stream(archive) as stream:
        for entry, content in iter_entries(stream):
            entries += 1
            if entries > archive.limits.archive_entries:
                raise bomb(archive.name, f"more than {archive.limits.archive_entries} entries", "max_archive_entries")
            if not entry.path:
                continue
            placed = _placed(entry, root, top)
            if posixpath.basename(placed.path).startswith(".wh."):
                raise InvalidArgument(f"{archive.name}: member {entry.path} has a name that no layer can hold")
            if owner is not None:
                placed = replace(placed, uid=owner.uid, gid=owner.gid)
            writer.add(placed, content)
            known.add(placed.path)
            size += placed.size
    return size


def _placed(entry: Entry, root: Path, top: str) -> Entry:
    path = f"{top}/{entry.path}" if top else entry.path
    above, _, name = path.rpartition("/")
    parent = resolve(root, above)
    path = f"{parent}/{name}" if parent else name
    if entry.kind is Kind.DIRECTORY:
        followed = resolve(root, path)
        if is_directory(lstat(root, followed)):
            path = followed
    target = entry.target
    if entry.kind is Kind.HARDLINK:
        above, _, name = (f"{top}/{target}" if top else target).rpartition("/")
        parent = resolve(root, above)
        target = f"{parent}/{name}" if parent else name
    return replace(entry, path=path, target=target)
