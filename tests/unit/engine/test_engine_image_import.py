"""Imports into a real store, from streams and from a real server."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from source_servers import Answer, SourceServer, source_server
from tare.build.sources.limits import SourceLimits
from tare.engine.events import Events
from tare.engine.image_import import ImageImports, ImportRequest
from tare.errors import DataCorrupt, Exhausted, InvalidArgument, NotFound, TareError, Unavailable, Unsupported
from tare.model import Digest, Reference
from tare.store.store import Store


def tar(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


ROOTFS = tar(("etc/motd", b"hello" * 10_000), ("bin/x", b"#!"))
NAME = Reference.parse("made:1")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path / "data")
    yield opened
    await opened.close()


@pytest.fixture
def imports(store: Store, tmp_path: Path) -> ImageImports:
    (tmp_path / "scratch").mkdir()
    return ImageImports(
        store=store, events=Events(), scratch=tmp_path / "scratch", limits=SourceLimits(download=len(ROOTFS))
    )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SourceServer]:
    with source_server(tmp_path) as running:
        yield running


async def check_nothing_stayed(store: Store, tmp_path: Path) -> None:
    assert await store.images.list() == []
    assert list((tmp_path / "scratch").iterdir()) == []
    await store.collect()
    assert list((tmp_path / "data/layers").iterdir()) == list((tmp_path / "data/staging").iterdir()) == []


async def test_the_layer_is_the_archive_as_it_came(imports: ImageImports, store: Store) -> None:
    asked = ImportRequest(name=NAME, platform="linux/arm64/v8", message="why")
    image = await store.images.get(await imports.import_tar(io.BytesIO(gzip.compress(ROOTFS)), asked))
    assert image.diff_ids == (Digest.of(ROOTFS),)
    assert store.layers.path(image.diff_ids[0]).read_bytes() == ROOTFS
    assert (image.config.architecture, image.config.variant, image.config.history[0].comment) == ("arm64", "v8", "why")
    assert image.tags == (NAME,)


async def test_bytes_behind_the_end_of_the_archive_belong_to_it(imports: ImageImports, store: Store) -> None:
    padded = ROOTFS + bytes(3_000_000)
    image = await store.images.get(await imports.import_tar(io.BytesIO(padded), ImportRequest()))
    assert image.diff_ids == (Digest.of(padded),)
    empty = await store.images.get(await imports.import_tar(io.BytesIO(b""), ImportRequest()))
    assert empty.diff_ids == (Digest.of(b""),)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (bytes(range(256)) * 8, "damaged header"),
        (ROOTFS[:20_000], "ends within"),
        (gzip.compress(ROOTFS)[:-200], "damaged gzip stream"),
        (tar(("../../etc/passwd", b"")), "leads outside"),
    ],
    ids=["no tar", "cut", "cut gzip", "outside"],
)
async def test_what_is_no_root_file_system_leaves_nothing(
    imports: ImageImports, store: Store, tmp_path: Path, data: bytes, words: str
) -> None:
    with pytest.raises(DataCorrupt, match=words):
        await imports.import_tar(io.BytesIO(data), ImportRequest(name=NAME))
    await check_nothing_stayed(store, tmp_path)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (ImportRequest(platform="windows/amd64"), "operating system is not supported"),
        (ImportRequest(platform="a/b/c/d"), "invalid platform"),
        (ImportRequest(name=Reference.parse("sha256:x")), "ambiguous tag"),
        (ImportRequest(name=Reference.parse(f"x@sha256:{'0' * 64}")), "cannot import digest reference"),
    ],
)
async def test_wrong_requests_are_refused_before_anything_is_read(
    imports: ImageImports, store: Store, tmp_path: Path, request_: ImportRequest, words: str
) -> None:
    stream = io.BytesIO(ROOTFS)
    with pytest.raises(InvalidArgument, match=words):
        await imports.import_tar(stream, request_)
    assert stream.tell() == 0
    await check_nothing_stayed(store, tmp_path)


async def test_an_address_is_fetched(imports: ImageImports, store: Store, server: SourceServer, tmp_path: Path) -> None:
    server.files["/root.tar.gz"] = Answer(gzip.compress(ROOTFS))
    told: list[dict[str, Any]] = []
    for address in (server.url("/root.tar.gz"), f"{server.address}/root.tar.gz"):
        image = await store.images.get(await imports.import_url(address, ImportRequest(), told.append))
        assert image.diff_ids == (Digest.of(ROOTFS),)
        url = f"http://{address.removeprefix('http://')}"
        assert image.config.history[0].comment == f"Imported from {url}"
        assert told.pop() == {"status": f"Downloading from {url}"}
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize(
    ("path", "answer", "error", "words"),
    [
        ("/missing", None, NotFound, "answered 404"),
        ("/broken", Answer(status=500), Unavailable, "answered 500"),
        ("/cut", Answer(ROOTFS, cut=True), Unavailable, "/cut: "),
        ("/large", Answer(ROOTFS + bytes(512)), Exhausted, "larger than"),
        ("/noise", Answer(b"x" * 1024), DataCorrupt, "damaged header"),
    ],
)
async def test_addresses_that_give_nothing_leave_nothing(
    imports: ImageImports,
    store: Store,
    server: SourceServer,
    tmp_path: Path,
    path: str,
    answer: Answer | None,
    error: type[TareError],
    words: str,
) -> None:
    if answer is not None:
        server.files[path] = answer
    with pytest.raises(error, match=words):
        await imports.import_url(server.url(path), ImportRequest(name=NAME), lambda _: None)
    await check_nothing_stayed(store, tmp_path)


async def test_other_protocols_are_not_fetched(imports: ImageImports) -> None:
    for address in ("file:///etc/passwd", "ftp://127.0.0.1/x"):
        with pytest.raises(Unsupported, match="is not possible"):
            await imports.import_url(address, ImportRequest(), lambda _: None)
