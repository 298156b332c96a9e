"""Archives as sources: unpacked within limits, into a directory that nothing of them leaves."""

from __future__ import annotations

import posixpath
from pathlib import Path

from tare.archive.compression import Compression, decompress, detect
from tare.archive.entry import Entry, Kind
from tare.archive.expansion import Counted, Expanded, ExpansionLimits
from tare.archive.tar_reader import extract_tree
from tare.archive.tar_stream import BLOCK, Limits, is_tar_header
from tare.base.readers import Readable
from tare.build.sources.limits import SourceLimits
from tare.errors import DataCorrupt, InvalidArgument


def unpacked(source: Readable, compressed: Counted, limits: SourceLimits, what: str) -> Expanded:
    """The bytes of an archive, uncompressed, as long as they stay within the limits.

    ``compressed`` counts what they are made from. Reading raises InvalidArgument (``archive-bomb``).
    """
    bounds = ExpansionLimits(size=limits.archive_bytes, ratio=limits.archive_ratio, ratio_from=limits.ratio_from)
    settings = {"size": "max_archive_bytes", "ratio": "max_archive_ratio"}
    return Expanded(source, compressed, bounds, lambda excess, limit: bomb(what, excess, settings[limit]))


def bomb(what: str, excess: str, setting: str) -> InvalidArgument:
    """The error for an archive that unpacks to too much."""
    return InvalidArgument(
        f"{what}: the archive unpacks to {excess}",
        hint=f"if it is meant to, raise {setting} in the section build of the configuration",
        code="archive-bomb",
    )


def unpack_context(stream: Readable, directory: Path, limits: SourceLimits, what: str) -> None:
    """Unpack a tar, plain or compressed, into ``directory``; ``what`` names it in errors. Blocks.

    Raises DataCorrupt for a damaged or cut archive, InvalidArgument for a bomb or for entries and links that lead out.
    """
    compressed = Counted(stream)
    try:
        source = unpacked(decompress(compressed), compressed, limits, what)
        extract_tree(source, directory, limits=Limits(members=limits.archive_entries), check=_stays_inside)
        while compressed.read(1 << 16):
            pass  # what follows the end of the archive, so that the sender is not cut off
    except DataCorrupt as error:
        raise _explained(error, limits, what) from error


def _explained(error: DataCorrupt, limits: SourceLimits, what: str) -> DataCorrupt | InvalidArgument:
    if error.code == "tar-members":
        return bomb(what, f"more than {limits.archive_entries} entries", "max_archive_entries")
    if error.code == "tar-outside":
        hint = "make the archive with relative paths inside the context"
        return InvalidArgument(f"{what}: {error.message}", hint=hint, code="context-escape")
    hint = error.hint or "it is damaged, was cut short, or is no tar archive: make or send it again"
    return DataCorrupt(f"{what}: {error.message}", hint=hint, code=error.code or "archive-damaged")


def _stays_inside(entry: Entry) -> None:
    """Refuse a symbolic link that leads above the root, as Docker does; absolute ones begin at the root."""
    if entry.kind is not Kind.SYMLINK or entry.target.startswith("/"):
        return
    parent = posixpath.dirname(entry.path)
    if posixpath.normpath(posixpath.join(parent, entry.target)).split("/")[0] == "..":
        raise DataCorrupt(
            f"invalid symlink {entry.path[:200]!r} -> {entry.target[:200]!r}: it leads outside", code="tar-outside"
        )


def is_archive(head: bytes) -> bool:
    """Whether a file that begins with ``head`` (512 bytes suffice) is a tar or compressed."""
    return detect(head) is not Compression.NONE or is_tar_header(head[:BLOCK])
