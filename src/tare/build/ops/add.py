"""What ADD can beyond COPY: local archives are unpacked, URLs are fetched."""

from __future__ import annotations

import asyncio
import bz2
import hashlib
import lzma
import posixpath
import shutil
import tempfile
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from tare.archive.compression import Compression, decompress, detect
from tare.archive.entry import Entry, Kind
from tare.archive.tar_stream import iter_entries
from tare.archive.tar_writer import TarWriter
from tare.base.readers import Readable
from tare.base.shielding import finish
from tare.build.ops.rootfs import Owner, is_directory, lstat, resolve
from tare.errors import DataCorrupt, InvalidArgument, Unavailable

_BZIP2, _XZ = b"BZh", b"\xfd7zXZ\0"
_CHECKSUM_AT, _HEADER = 148, 512
_CHUNK = 1 << 20
_GZIP_ONLY = 16 + zlib.MAX_WBITS


@dataclass(frozen=True, slots=True)
class Archive:
    """A tar archive on the host."""

    host: str


@dataclass(frozen=True, slots=True)
class Download:
    """A fetched file; ``mtime`` in seconds is the server's, 0 where it does not tell."""

    name: str
    file: Path
    sha256: str
    size: int
    mtime: int


def open_archive(host: str) -> Archive | None:
    """The file as an archive if it is a tar, plain or compressed (by content, not by name), else None."""
    try:
        header = _first_block(host)
    except (DataCorrupt, OSError, EOFError, lzma.LZMAError, zlib.error, ValueError):
        return None
    return Archive(host) if _is_tar_header(header) else None


def _first_block(host: str) -> bytes:
    """The first 512 bytes, decompressed, also of a file that is cut off later: whoever unpacks it then says so."""
    with Path(host).open("rb") as file:
        kind = detect(file.read(len(_XZ)))
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
                return _Stream(file, decompress(file)).read(_HEADER)
        block = b""
        while len(block) < _HEADER and not decoder.eof and (data := file.read(_CHUNK)):
            block += decoder.decompress(data, _HEADER - len(block))
        return block


def _is_tar_header(header: bytes) -> bool:
    if len(header) < _HEADER or not any(header):
        return False
    field = header[_CHECKSUM_AT : _CHECKSUM_AT + 8].strip(b" \0")
    try:
        stored = int(field, 8)
    except ValueError:
        return False
    return stored == sum(header) - sum(header[_CHECKSUM_AT : _CHECKSUM_AT + 8]) + 8 * 32


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


def open_stream(host: str) -> _Stream:
    """The file's bytes, decompressed where it is compressed (gzip, bzip2, xz, zstd)."""
    file = Path(host).open("rb")  # noqa: SIM115 - closed with the stream
    try:
        magic = file.read(len(_XZ))
        file.seek(0)
        if magic.startswith(_BZIP2):
            return _Stream(file, bz2.BZ2File(file))
        if magic == _XZ:
            return _Stream(file, lzma.LZMAFile(file))
        return _Stream(file, decompress(file))
    except BaseException:
        file.close()
        raise


def write_archive(
    archive: Archive, root: Path, destination: str, writer: TarWriter, known: set[str], *, owner: Owner | None
) -> int:
    """Add the archive's members below ``destination``; returns the bytes of file content.

    A member that is to lie behind a symbolic link of the image or the archive goes where the link leads; one with an
    absolute path lies below ``destination`` like the others. Raises DataCorrupt.
    """
    top = resolve(root, destination)
    size = 0
    links: dict[str, str | None] = {}
    with open_stream(archive.host) as stream:
        for entry, content in iter_entries(stream, allow_absolute=True):
            if not entry.path:
                continue
            placed = _placed(entry, root, top, links)
            links[placed.path] = placed.target if placed.kind is Kind.SYMLINK else None
            if posixpath.basename(placed.path).startswith(".wh."):
                raise InvalidArgument(f"{archive.host}: member {entry.path} has a name that no layer can hold")
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


@asynccontextmanager
async def fetch(urls: tuple[str, ...], checksum: str) -> AsyncIterator[list[Download]]:
    """Fetch the URLs into a temporary directory that lives as long as the block.

    Raises Unavailable naming the URL, DataCorrupt when ``checksum`` (``sha256:<hex>``) does not match.
    """
    if not urls:
        yield []
        return
    directory = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="tare-add-"))
    try:
        found = []
        for number, url in enumerate(urls):
            download = await _fetch_one(url, directory / str(number))
            if checksum and checksum != f"sha256:{download.sha256}":
                raise DataCorrupt(f"{url}: sha256:{download.sha256}, expected {checksum}", code="checksum-mismatch")
            found.append(download)
        yield found
    finally:
        await finish(asyncio.to_thread(shutil.rmtree, directory), what=f"delete {directory}")


async def _fetch_one(url: str, file: Path) -> Download:
    import aiohttp

    name = posixpath.basename(unquote(urlsplit(url).path)) or "index"
    hashed = hashlib.sha256()
    size = 0
    try:
        async with aiohttp.ClientSession(trust_env=True) as session, session.get(url) as response:
            if response.status >= 400:
                raise Unavailable(f"{url}: the server answered {response.status} {response.reason}")
            with file.open("wb") as sink:
                async for chunk in response.content.iter_chunked(_CHUNK):
                    hashed.update(chunk)
                    size += len(chunk)
                    sink.write(chunk)
            mtime = _http_time(response.headers.get("Last-Modified", ""))
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Unavailable(f"{url}: {error}", hint="check the address and the network") from error
    return Download(name, file, hashed.hexdigest(), size, mtime)


def _append(file: Path, chunk: bytes) -> None:
    with file.open("ab") as sink:
        sink.write(chunk)


def _http_time(text: str) -> int:
    try:
        return int(parsedate_to_datetime(text).timestamp())
    except (TypeError, ValueError):
        return 0
