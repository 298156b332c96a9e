"""Compressed streams: gzip and zstd both ways, bzip2 and xz for reading."""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, cast

from tare.base.readers import CHUNK, Readable
from tare.errors import DataCorrupt, InvalidArgument

_GZIP_LEVEL = 1  # isal's default trade; about zlib's level 3 in size at several times the speed
_ZSTD_LEVEL = 3
_ZSTD_WINDOW_LIMIT = 1 << 27  # bytes of memory a frame may ask for; what zstd(1) allows by default


class Compression(StrEnum):
    """How a stream is compressed."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"
    BZIP2 = "bzip2"
    XZ = "xz"


_MAGIC = (
    (b"\x1f\x8b\x08", Compression.GZIP),
    (b"\x28\xb5\x2f\xfd", Compression.ZSTD),
    (b"BZh", Compression.BZIP2),
    (b"\xfd7zXZ\x00", Compression.XZ),
)


def detect(head: bytes) -> Compression:
    """The compression that a stream's first bytes (6 suffice) show; zstd's skippable frames count as zstd."""
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if len(head) >= 4 and head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50:
        return Compression.ZSTD
    return Compression.NONE


def decompress(stream: Readable) -> Readable:
    """The uncompressed bytes of a stream whose compression is told by its first bytes.

    Reading raises DataCorrupt for damaged data and for a stream that ends too early, except for zstd, where an early
    end shows only as missing bytes. Nothing is bounded here: the reader of the result decides how much is too much.
    """
    head = _read_head(stream)
    source = cast(BinaryIO, _Rejoined(head, stream))
    match detect(head):
        case Compression.NONE:
            return source
        case Compression.GZIP:
            from isal import igzip

            unpacked = igzip.IGzipFile(fileobj=source, mode="rb")  # type: ignore[no-untyped-call]
            return _Checked(unpacked, "gzip")
        case Compression.ZSTD:
            import zstandard

            decoder = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_LIMIT)
            return _Checked(decoder.stream_reader(source, read_across_frames=True), "zstd")
        case Compression.BZIP2:
            return _Checked(bz2.BZ2File(source), "bzip2")
        case Compression.XZ:
            return _Checked(lzma.LZMAFile(source), "xz")


@contextmanager
def compressor(sink: BinaryIO, kind: Compression) -> Iterator[BinaryIO]:
    """A stream whose bytes arrive compressed in ``sink``, which stays open; equal input gives equal output.

    The end of the block completes it. Raises InvalidArgument for kinds that are only read.
    """
    if kind is Compression.NONE:
        yield sink
    elif kind is Compression.GZIP:
        from isal import igzip

        gzip = igzip.IGzipFile("", "wb", _GZIP_LEVEL, sink, 0)  # type: ignore[no-untyped-call]  # time 0
        with gzip as stream:
            yield cast(BinaryIO, stream)
    elif kind is Compression.ZSTD:
        import zstandard

        with zstandard.ZstdCompressor(level=_ZSTD_LEVEL).stream_writer(sink, closefd=False) as writer:
            yield cast(BinaryIO, writer)
    else:
        raise InvalidArgument(f"cannot write {kind}: only gzip and zstd are written")


def compressed_size(path: Path, kind: Compression | str) -> int:
    """How many bytes the file would have, compressed; blocks. Raises OSError."""
    kind = Compression(kind)
    counter = _Counter()
    with path.open("rb", buffering=0) as source, compressor(cast(BinaryIO, counter), kind) as stream:
        while chunk := source.read(CHUNK):
            stream.write(chunk)
    return counter.size


class _Counter(io.RawIOBase):
    def __init__(self) -> None:
        super().__init__()
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: object, /) -> int:
        length = memoryview(data).nbytes  # type: ignore[arg-type]
        self.size += length
        return length


class _Rejoined(io.RawIOBase):
    """A stream with its first bytes put back."""

    def __init__(self, head: bytes, stream: Readable) -> None:
        super().__init__()
        self._head = head
        self._stream = stream

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        if not self._head:
            return self._stream.read(size)
        if size < 0:
            data, self._head = self._head + self._stream.read(size), b""
            return data
        data, self._head = self._head[:size], self._head[size:]
        return data

    def readinto(self, buffer: object, /) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        data = self.read(view.nbytes)
        view[: len(data)] = data
        return len(data)


class _Checked:
    """Names damage in the engine's terms."""

    def __init__(self, source: Readable, kind: str) -> None:
        self._source = source
        self._kind = kind

    def read(self, size: int = -1, /) -> bytes:
        try:
            return self._source.read(size)
        except (EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
            raise DataCorrupt(f"damaged {self._kind} stream: {error}") from error
        except OSError as error:
            if error.errno is not None:
                raise
            raise DataCorrupt(f"damaged {self._kind} stream: {error}") from error
        except Exception as error:
            if type(error).__name__ in ("ZstdError", "IsalError", "error"):  # both modules are imported late
                raise DataCorrupt(f"damaged {self._kind} stream: {error}") from error
            raise


def _read_head(stream: Readable) -> bytes:
    head = b""
    while len(head) < 6 and (more := stream.read(6 - len(head))):
        head += more
    return head
