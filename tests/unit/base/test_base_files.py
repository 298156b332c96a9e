"""Durable writes and verified reads."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

import pytest

from tare.base.atomic import atomic_writer, fsync_directory, write_atomic
from tare.base.readers import CHUNK, VerifyingReader, copy_stream
from tare.errors import DataCorrupt


def test_write_replaces_content_and_mode(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_atomic(target, "old")
    write_atomic(target, b"new", mode=0o600)
    assert (target.read_bytes(), target.stat().st_mode & 0o777) == (b"new", 0o600)
    assert os.listdir(tmp_path) == ["file"]


def test_text_is_utf8(tmp_path: Path) -> None:
    write_atomic(tmp_path / "file", "ü", durable=False)
    assert (tmp_path / "file").read_bytes() == "ü".encode()


def test_failure_keeps_the_old_content_and_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(RuntimeError, match="in the middle"), atomic_writer(target) as stream:
        stream.write(b"half")
        raise RuntimeError("in the middle")
    assert (os.listdir(tmp_path), target.read_text()) == (["file"], "old")


def test_interruption_leaves_nothing_either(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), atomic_writer(tmp_path / "file"):
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_readers_see_old_content_until_the_end(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with atomic_writer(target) as stream:
        stream.write(b"new")
        stream.flush()
        assert target.read_text() == "old"
    assert target.read_text() == "new"


def test_directory_in_the_way_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomic(tmp_path / "file", b"x")
    assert os.listdir(tmp_path) == ["file"]


def test_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomic(tmp_path / "none" / "file", b"x")
    with pytest.raises(FileNotFoundError):
        fsync_directory(tmp_path / "none")


def test_reader_counts_and_hashes() -> None:
    reader = VerifyingReader(io.BytesIO(b"hello"), what="greeting")
    assert (reader.read(2), reader.read()) == (b"he", b"llo")
    assert (reader.size, reader.sha256) == (5, hashlib.sha256(b"hello").hexdigest())
    reader.verify(sha256=hashlib.sha256(b"hello").hexdigest(), size=5)


def test_reader_refuses_what_is_too_long() -> None:
    reader = VerifyingReader(io.BytesIO(b"hello"), what="greeting", limit=4)
    with pytest.raises(DataCorrupt, match="greeting: more than the expected 4 bytes"):
        copy_stream(reader, io.BytesIO())


def test_reader_accepts_exactly_the_limit() -> None:
    reader = VerifyingReader(io.BytesIO(b"hello"), what="greeting", limit=5)
    assert copy_stream(reader, io.BytesIO()) == 5


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        ({"size": 4}, "greeting: 5 bytes, expected 4"),
        ({"sha256": "0" * 64}, "greeting: sha256 2cf24dba.*, expected 0000"),
    ],
)
def test_reader_names_what_differs(expected: dict[str, object], words: str) -> None:
    reader = VerifyingReader(io.BytesIO(b"hello"), what="greeting")
    reader.read()
    with pytest.raises(DataCorrupt, match=words):
        reader.verify(**expected)  # type: ignore[arg-type]


def test_copy_of_more_than_a_chunk() -> None:
    data, sink = os.urandom(CHUNK + 17), io.BytesIO()
    assert copy_stream(io.BytesIO(data), sink) == CHUNK + 17
    assert sink.getvalue() == data
