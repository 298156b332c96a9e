from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from tare.archive.tar_writer import TarWriter
from tare.build.cache.records import BuildCache, Part, Result, make_key
from tare.build.dockerfile.source import Source, SourceRange
from tare.build.failures import BuildStepFailed
from tare.build.graph import Place
from tare.build.ops.add import Archive, open_archive, write_archive
from tare.build.ops.operation import located
from tare.build.phrasing import healthcheck, quoted, run_command
from tare.build.sources.limits import SourceLimits
from tare.errors import NotFound
from tare.oci.image import Healthcheck
from tare.store.store import Store


def tar_bytes() -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        info = tarfile.TarInfo("x")
        info.size = 1
        archive.addfile(info, io.BytesIO(b"x"))
    return sink.getvalue()


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_archives_are_known_by_content(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    (tmp_path / "file").write_bytes(pack(tar_bytes()))
    assert open_archive(str(tmp_path / "file"), "file", SourceLimits()) is not None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text",
        bytes(1024),
        gzip.compress(b"text", mtime=0),
        gzip.compress(tar_bytes(), mtime=0)[:40],
        b"BZh9rubbish",
    ],
)
def test_other_files_are_no_archives(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file.tar.gz").write_bytes(data)
    assert open_archive(str(tmp_path / "file.tar.gz"), "file", SourceLimits()) is None


def write_empty(sink: BinaryIO) -> None:
    sink.write(bytes(1024))


async def test_cache_records(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    try:
        cache = BuildCache(store)
        key = make_key({"op": "x", "n": [1]})
        assert key.digest == make_key({"n": [1], "op": "x"}).digest
        assert await cache.find(key) is None
        layer = await store.layers.write(write_empty)
        part = Part(kind="layer", key=str(layer.diff_id))
        await cache.put(key, Result(part=part, chain=(part,), bytes=3, created=5.0))
        assert await cache.find(key) == Result(part=part, chain=(part,), bytes=3, created=5.0)
        await cache.touch([key.digest])
        store.layers.path(layer.diff_id).unlink()
        assert await cache.find(key) is None
        gone = make_key({"op": "y"})
        await cache.put(gone, Result(part=Part(kind="snapshot", key="none")))
        assert await cache.find(gone) is None
    finally:
        await store.close()


def test_step_failure_tells_output_and_place() -> None:
    source = Source("Dockerfile", ("FROM x", "RUN make"))
    error = BuildStepFailed(("sh", "-c", "make"), 2, output=["a", "b"], source=source, where=SourceRange(2, 2))
    assert str(error).splitlines() == [
        'process "sh -c make" did not complete successfully: exit code: 2',
        "   > a",
        "   > b",
        "Dockerfile:2",
        "   1 | FROM x",
        "   2 | RUN make",
        "     | ^^^",
    ]


def test_located_errors_keep_their_class_and_hint() -> None:
    place = Place(Source("D", ("COPY a /",)), SourceRange(1, 1))
    error = located(NotFound("a: gone", hint="look", code="c"), place, mark="a")
    assert isinstance(error, NotFound)
    assert (error.hint, error.code) == ("look", "c")
    assert error.message == "a: gone\nD:1\n   1 | COPY a /\n     |      ^"


def test_phrasing() -> None:
    assert quoted(["a", 'b "c"']) == '["a" "b \\"c\\""]'
    assert run_command(("sh", "-c", "x"), {}) == "sh -c x"
    check = Healthcheck(test=["CMD", "x"], interval=5 * 10**9, timeout=90 * 10**9, retries=3)
    assert healthcheck(check) == 'HEALTHCHECK &{["CMD" "x"] "5s" "1m30s" "0s" "0s" \'\\x03\'}'


def test_an_archive_that_is_cut_off_is_still_one(tmp_path: Path) -> None:
    content = gzip.compress(tar_bytes())
    (tmp_path / "cut.tar.gz").write_bytes(content[:-9])
    assert open_archive(str(tmp_path / "cut.tar.gz"), "cut", SourceLimits()) is not None


def test_members_of_an_archive_lie_below_the_destination(tmp_path: Path) -> None:
    sink, source = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=source, mode="w") as archive:
        for name in ("/abs", "new/deep/file"):
            archive.addfile(tarfile.TarInfo(name))
        link = tarfile.TarInfo("link")
        link.type, link.linkname, link.mode = tarfile.SYMTYPE, "abs", 0o644
        archive.addfile(link)
    (tmp_path / "a.tar").write_bytes(source.getvalue())
    (tmp_path / "root").mkdir()
    writer = TarWriter(sink)
    source_archive = Archive(str(tmp_path / "a.tar"), "a.tar", SourceLimits())
    write_archive(source_archive, tmp_path / "root", "/d", writer, {"d"}, owner=None)
    writer.finish()
    sink.seek(0)
    with tarfile.open(fileobj=sink) as layer:
        assert [member.name for member in layer] == ["d/abs", "d/new", "d/new/deep", "d/new/deep/file", "d/link"]
        assert layer.getmember("d/link").mode == 0o777


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ('"\\', '\\"\\\\'),
        ("\t\x01\x7f", "\\t\\x01\\x7f"),
        ("é☺\u2028", "é☺\\u2028"),
        ("\ud800", "\ufffd"),
    ],
)
def test_texts_are_quoted_as_go_does(text: str, shown: str) -> None:
    assert quoted([text]) == f'["{shown}"]'


def test_retries_are_shown_as_a_character() -> None:
    assert healthcheck(Healthcheck(test=["NONE"], retries=300)).endswith("'Ĭ'}")
    assert healthcheck(Healthcheck(test=["NONE"], retries=39)).endswith("'\\''}")
    assert healthcheck(Healthcheck(test=["NONE"], retries=2**31 - 1)).endswith("'\ufffd'}")
