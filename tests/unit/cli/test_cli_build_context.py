"""PATH and -f of ``build``."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tare.cli.build_context import Context, is_remote, read_context
from tare.cli.build_request import read_contexts
from tare.errors import InvalidArgument, NotFound


def tar_bytes() -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        info = tarfile.TarInfo("Dockerfile")
        info.size = 13
        archive.addfile(info, io.BytesIO(b"FROM scratch\n"))
    return sink.getvalue()


def sent(found: Context) -> bytes:
    assert found.body is not None
    return b"".join(found.body)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_a_tar_on_standard_input(pack: Callable[[bytes], bytes]) -> None:
    data = pack(tar_bytes())
    found = read_context("-", "", io.BytesIO(data))
    assert (found.context, found.remote, found.dockerfile, found.dockerfile_text) == ("", "", "Dockerfile", None)
    assert sent(found) == data
    assert read_context("-", "sub/F", io.BytesIO(data)).dockerfile == "sub/F"


def test_a_tar_with_a_dockerfile_of_this_host(tmp_path: Path) -> None:
    (tmp_path / "F").write_text("FROM x\n")
    found = read_context("-", str(tmp_path / "F"), io.BytesIO(tar_bytes()))
    assert found.dockerfile_text == "FROM x\n" and sent(found) == tar_bytes()


def test_a_dockerfile_on_standard_input() -> None:
    text = "FROM scratch\n" + "LABEL a=b\n" * 500
    found = read_context("-", "", io.BytesIO(text.encode()))
    assert (found.dockerfile_text, found.body, found.context) == (text, None, "")


@pytest.mark.parametrize(
    ("given", "data", "message"),
    [
        ("-", b"FROM x", "can't use stdin for both"),
        ("F", b"FROM x", "ambiguous Dockerfile source"),
        ("", b"", "it is empty"),
        ("", b"\xff\xfe", "failed to read dockerfile -"),
        ("/nowhere/F", tar_bytes(), "/nowhere/F"),
    ],
)
def test_bad_standard_input(given: str, data: bytes, message: str) -> None:
    with pytest.raises((InvalidArgument, NotFound)) as caught:
        read_context("-", given, io.BytesIO(data))
    assert message in caught.value.message and caught.value.hint


def test_directories(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "F").write_text("FROM outside\n")
    (tmp_path / "d/F2").write_text("FROM inside\n")
    here = str(tmp_path / "d")
    assert read_context(here, "") == Context(context=here)
    assert read_context(here, "F2") == Context(context=here, dockerfile="F2")
    assert read_context(here, str(tmp_path / "d/F2")) == Context(context=here, dockerfile="F2")
    assert read_context(here, "https://h/F").dockerfile == "https://h/F"
    outside = read_context(here, str(tmp_path / "F"))
    assert (outside.dockerfile_text, outside.dockerfile) == ("FROM outside\n", str(tmp_path / "F"))
    piped = read_context(here, "-", io.BytesIO(b"FROM piped\n"))
    assert (piped.context, piped.dockerfile_text) == (here, "FROM piped\n")
    for path, given, message in (
        (str(tmp_path / "none"), "", 'path ".*/none" not found'),
        (str(tmp_path / "F"), "", "is not a directory"),
        (here, "/nowhere/F", "Dockerfile path: /nowhere/F"),
        (here, "none", "Dockerfile path"),
        ("ext::sh -c id", "", "not found"),
        ("--upload-pack=x", "", "not found"),
    ):
        with pytest.raises(NotFound, match=message):
            read_context(path, given)


@pytest.mark.parametrize(
    "path", ["https://h/r.git#v:d", "git@h:r", "github.com/a/b", "ssh://git@h/r", "http://h/x.tgz", "file:///x"]
)
def test_addresses(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_remote(path)
    assert read_context(path, "") == Context(remote=path)
    assert read_context(path, "sub/F") == Context(remote=path, dockerfile="sub/F")
    assert read_context(path, "-", io.BytesIO(b"FROM x")).dockerfile_text == "FROM x"
    (tmp_path / "F").write_text("FROM here\n")
    assert read_context(path, str(tmp_path / "F")).dockerfile_text == "FROM here\n"


def test_a_directory_that_looks_like_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "git@h:r").mkdir()
    monkeypatch.chdir(tmp_path)
    assert read_context("git@h:r", "").context == str(tmp_path / "git@h:r")


def test_named_contexts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "d").mkdir()
    monkeypatch.chdir(tmp_path)
    given = ["a=d", "b=https://h/r.git", "c=docker-image://x", "e=oci-layout://l:v1", "f=git@h:r", "g=target:x"]
    assert read_contexts(given) == {
        "a": str(tmp_path / "d"),
        "b": "https://h/r.git",
        "c": "docker-image://x",
        "e": f"oci-layout://{tmp_path}/l:v1",
        "f": "git@h:r",
        "g": "target:x",
    }
    for text, message in (("x", "expected key=value"), ("x=", "expected key=value"), ("x=none", "none not found")):
        with pytest.raises((InvalidArgument, NotFound), match=message):
            read_contexts([text])
