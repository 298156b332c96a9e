from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
from pathlib import Path
from typing import BinaryIO, cast

import pytest
import zstandard

from tare.archive.compression import Compression, compressed_size, compressor, decompress, detect
from tare.errors import DataCorrupt, InvalidArgument

DATA = b"layer " * 100_000 + os.urandom(1000)
PACKED = {
    Compression.NONE: DATA,
    Compression.GZIP: gzip.compress(DATA),
    Compression.ZSTD: zstandard.ZstdCompressor().compress(DATA),
    Compression.BZIP2: bz2.compress(DATA),
    Compression.XZ: lzma.compress(DATA),
}


def read_all(data: bytes) -> bytes:
    stream = decompress(io.BytesIO(data))
    parts = []
    while chunk := stream.read(50_000):
        parts.append(chunk)
    return b"".join(parts)


@pytest.mark.parametrize("kind", list(Compression))
def test_kinds_are_told_by_their_first_bytes_and_read(kind: Compression) -> None:
    assert detect(PACKED[kind][:6]) is kind
    assert read_all(PACKED[kind]) == DATA


@pytest.mark.parametrize("data", [b"", b"x", b"\x1f\x8b", b"12345"])
def test_short_and_plain_streams_pass(data: bytes) -> None:
    assert read_all(data) == data


def test_several_members_and_frames_are_one_stream() -> None:
    assert read_all(gzip.compress(b"a") + gzip.compress(b"b")) == b"ab"
    assert read_all(zstandard.compress(b"a") + zstandard.compress(b"b")) == b"ab"


@pytest.mark.parametrize("kind", [kind for kind in Compression if kind is not Compression.NONE])
def test_damage_and_early_ends_are_named(kind: Compression) -> None:
    whole = PACKED[kind]
    if kind is not Compression.ZSTD:
        with pytest.raises(DataCorrupt, match=f"damaged {kind} stream"):
            read_all(whole[: len(whole) // 2])
    with pytest.raises(DataCorrupt, match=f"damaged {kind} stream"):
        read_all(whole[:6] + b"\xff" * 200)


@pytest.mark.parametrize("kind", [Compression.NONE, Compression.GZIP, Compression.ZSTD])
def test_writing_is_deterministic_and_leaves_the_sink_open(kind: Compression, tmp_path: Path) -> None:
    results = []
    for _ in range(2):
        sink = io.BytesIO()
        with compressor(sink, kind) as stream:
            stream.write(DATA[:1000])
            stream.write(DATA[1000:])
        results.append(sink.getvalue())
    assert results[0] == results[1]
    assert read_all(results[0]) == DATA
    path = tmp_path / "f"
    path.write_bytes(DATA)
    if kind is Compression.NONE:
        assert compressed_size(path, "none") == len(DATA)
    else:
        assert abs(compressed_size(path, kind) - len(results[0])) < 2000


def test_kinds_that_are_only_read() -> None:
    with (
        pytest.raises(InvalidArgument, match="only gzip and zstd"),
        compressor(cast(BinaryIO, io.BytesIO()), Compression.XZ),
    ):
        pass
