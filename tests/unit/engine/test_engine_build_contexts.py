"""Main contexts: what is built from, and that nothing of it stays."""

from __future__ import annotations

import asyncio
import io
import os
import tarfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tare.build.events import BuildEvent
from tare.build.sources.fetcher import Sources
from tare.engine.build_contexts import BuildContexts, MainContext
from tare.engine.requests import BuildJob
from tare.errors import DataCorrupt, InvalidArgument, NotFound, TareError, Unsupported

DOCKERFILE = "FROM scratch\n"


def tar_of(**files: str) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.uid, info.gid = len(text), os.getuid(), os.getgid()
            archive.addfile(info, io.BytesIO(text.encode()))
    return sink.getvalue()


async def chunks(*data: bytes) -> AsyncIterator[bytes]:
    for item in data:
        yield item


async def opened(tmp_path: Path, **fields: Any) -> tuple[MainContext, set[str]]:
    """The context, and the names that it had while it was open."""
    contexts, said = BuildContexts(Sources(tmp_path / "sources"), tmp_path / "scratch"), list[BuildEvent]()
    async with AsyncExitStack() as stack:
        found = await contexts.open(BuildJob(**fields), said.append, stack)
        names = {item.name for item in found.directory.iterdir()} if found.directory else set()
    return found, names


def left(tmp_path: Path) -> list[Path]:
    scratch = tmp_path / "scratch"
    return list(scratch.iterdir()) if scratch.exists() else []


async def test_a_sent_tar(tmp_path: Path) -> None:
    data = tar_of(Dockerfile=DOCKERFILE, page="x")
    found, names = await opened(tmp_path, tar=chunks(data[:700], data[700:]))
    assert (found.dockerfile, found.ignore_text, names) == (DOCKERFILE, "", {"Dockerfile", "page"})
    assert left(tmp_path) == []
    found, _ = await opened(tmp_path, tar=chunks(data), dockerfile_text="FROM other\n")
    assert found.dockerfile == "FROM other\n"


@pytest.mark.parametrize(
    ("rules", "hidden"),
    [
        ("page\n", ""),
        ("Docker*\n", "Dockerfile"),
        ("**\n!page\n", ".dockerignore\nDockerfile"),
        ("*\n!Dockerfile\n", ".dockerignore"),
    ],
)
async def test_what_a_sent_tar_hides(tmp_path: Path, rules: str, hidden: str) -> None:
    data = tar_of(**{"Dockerfile": DOCKERFILE, "page": "x", ".dockerignore": rules})
    found, _ = await opened(tmp_path, tar=chunks(data))
    assert found.ignore_text == hidden


async def test_names_with_special_letters_are_hidden_as_they_are(tmp_path: Path) -> None:
    data = tar_of(**{"D[1]*": DOCKERFILE, ".dockerignore": "D*\n"})
    found, _ = await opened(tmp_path, tar=chunks(data), dockerfile="D[1]*")
    assert found.ignore_text == "D\\[1\\]\\*"


async def test_an_upload_that_breaks_off(tmp_path: Path) -> None:
    data = tar_of(Dockerfile=DOCKERFILE, page="x" * 100_000)

    async def broken() -> AsyncIterator[bytes]:
        yield data[:2000]
        raise ConnectionResetError("gone")

    with pytest.raises((ConnectionResetError, DataCorrupt)):
        await opened(tmp_path, tar=broken())
    with pytest.raises(DataCorrupt, match="build context: tar archive ends within 'page'"):
        await opened(tmp_path, tar=chunks(data[:2000]))
    assert left(tmp_path) == []


async def test_an_upload_that_is_cancelled(tmp_path: Path) -> None:
    started = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield tar_of(Dockerfile=DOCKERFILE, page="x" * 100_000)[:2000]
        started.set()
        await asyncio.Event().wait()

    task = asyncio.ensure_future(opened(tmp_path, tar=endless()))
    await started.wait()
    task.cancel()
    with pytest.raises((asyncio.CancelledError, DataCorrupt)):
        await task
    assert left(tmp_path) == []


async def test_only_a_dockerfile(tmp_path: Path) -> None:
    found, _ = await opened(tmp_path, dockerfile_text=DOCKERFILE)
    assert (found.directory, found.dockerfile) == (None, DOCKERFILE)


async def test_directories(tmp_path: Path) -> None:
    place = tmp_path / "context"
    place.mkdir()
    (place / "dockerfile").write_text(DOCKERFILE)
    (place / "F").write_text("FROM f\n")
    (place / "F.dockerignore").write_text("x\n")
    found, _ = await opened(tmp_path, context=place)
    assert (found.dockerfile, found.name, found.ignore_text) == (DOCKERFILE, "dockerfile", None)
    found, _ = await opened(tmp_path, context=place, dockerfile="F")
    assert (found.dockerfile, found.ignore_text) == ("FROM f\n", "x\n")


@pytest.mark.parametrize(
    ("fields", "kind", "message"),
    [
        ({}, InvalidArgument, "no build context"),
        ({"context": Path("/nowhere/at/all")}, NotFound, "path '/nowhere/at/all' not found"),
        ({"context": Path("/etc/passwd")}, InvalidArgument, "'/etc/passwd' is not a directory"),
        ({"remote": "file:///etc"}, Unsupported, "the protocol 'file' is not fetched"),
        ({"remote": "ext::sh -c id"}, InvalidArgument, "is no address"),
        ({"remote": "https://h/r.git#-x"}, InvalidArgument, "invalid ref"),
    ],
)
async def test_bad_contexts(tmp_path: Path, fields: dict[str, Any], kind: type[TareError], message: str) -> None:
    with pytest.raises(kind) as caught:
        await opened(tmp_path, **fields)
    assert message in caught.value.message and (caught.value.hint or kind is NotFound)


async def test_bad_dockerfiles(tmp_path: Path) -> None:
    place = tmp_path / "context"
    (place / "directory").mkdir(parents=True)
    (place / "binary").write_bytes(b"\xff\xfe")
    (place / "large").write_bytes(bytes((4 << 20) + 1))
    (place / "out").symlink_to("../secret")
    (tmp_path / "secret").write_text("FROM secret\n")
    for name, message in (
        ("none", "open none: no such file"),
        ("binary/x", "no such file"),
        ("directory", "is a directory"),
        ("binary", "not UTF-8"),
        ("large", "this is no Dockerfile"),
        ("out", "open out: no such file"),
        ("../secret", "open ../secret: no such file"),
    ):
        with pytest.raises(TareError, match=message):
            await opened(tmp_path, context=place, dockerfile=name)
