"""What a layer's tar says its directory must be, beside what unpacking makes of it."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tare.archive.entry import Entry, Kind
from tare.archive.expected import ExpectedTree, read_expected
from tare.archive.tar_reader import OPAQUE_XATTR, extract_layer
from tare.archive.tar_writer import TarWriter
from tare.base.trees import remove_tree
from tare.errors import DataCorrupt

pytestmark = pytest.mark.root

Members = list[tuple[Entry, bytes]]


def member(path: str, kind: Kind = Kind.FILE, data: bytes = b"", **fields: object) -> tuple[Entry, bytes]:
    values: dict[str, object] = {"mode": 0o755 if kind is Kind.DIRECTORY else 0o644, "mtime": 1000, **fields}
    return Entry(path=path, kind=kind, size=len(data), **values), data  # type: ignore[arg-type]


def tar_of(members: Members) -> bytes:
    sink = io.BytesIO()
    writer = TarWriter(sink)
    for entry, data in members:
        writer.add(entry, io.BytesIO(data) if entry.kind is Kind.FILE else None)
    writer.finish()
    return sink.getvalue()


def expected(data: bytes, *, content: bool = True) -> ExpectedTree:
    return read_expected(io.BytesIO(data), content=content)


PATHS = st.lists(st.sampled_from(["a", "b", ".wh.a", ".wh..wh..opq", ".wh..wh.plnk"]), min_size=1, max_size=4).map(
    "/".join
)
TARGETS = st.sampled_from(["a", "/a", "../b", "b/a", "/", "../../a/b", ".", "nowhere"])
ENTRIES = st.one_of(
    st.builds(
        lambda path, kind, mode, uid: member(path, kind, mode=mode, uid=uid),
        PATHS,
        st.sampled_from([Kind.DIRECTORY, Kind.FIFO, Kind.CHARACTER]),
        st.sampled_from([0o755, 0o4711]),
        st.sampled_from([0, 7]),
    ),
    st.builds(
        lambda path, data, mode: member(path, data=data, mode=mode), PATHS, st.binary(max_size=3), st.just(0o600)
    ),
    st.builds(lambda path, target: member(path, Kind.SYMLINK, target=target), PATHS, TARGETS),
    st.builds(
        lambda path, target: member(path, Kind.HARDLINK, target=target), PATHS, st.sampled_from(["a", "b/a", "b"])
    ),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(ENTRIES, max_size=8))
@example([member("a", Kind.SYMLINK, target="b"), member("b", Kind.DIRECTORY), member("a/a", data=b"x")])
@example([member("a/b", data=b"x"), member(".wh.a"), member("a", data=b"y")])
@example([member("a", data=b"x"), member("b", Kind.HARDLINK, target="a"), member("a", data=b"yy")])
def test_nothing_differs_from_what_unpacking_makes(members: Members) -> None:
    data = tar_of(members)
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    try:
        try:
            extract_layer(io.BytesIO(data), directory)
        except DataCorrupt:
            return  # there is nothing to compare: such a layer has no directory
        assert [str(one) for one in expected(data).differences(directory)] == []
    finally:
        shutil.rmtree(directory)


LAYER: Members = [
    member("bin", Kind.DIRECTORY),
    member("bin/sh", data=b"program", mode=0o755),
    member("bin/link", Kind.SYMLINK, target="sh"),
    member("bin/more", Kind.HARDLINK, target="bin/sh"),
    member("dev/null", Kind.CHARACTER, major=1, minor=3),
    member("etc/.wh.gone"),
    member("etc/new", Kind.DIRECTORY),
    member("etc/new/.wh..wh..opq"),
]

DAMAGE: list[tuple[Callable[[Path], object], str]] = [
    (lambda top: (top / "bin/link").unlink(), "/bin/link is missing"),
    (lambda top: shutil.rmtree(top / "etc"), "/etc is missing"),
    (lambda top: (top / "etc/extra").touch(), "/etc/extra is not in the layer"),
    (lambda top: ((top / "bin/link").unlink(), (top / "bin/link").touch()), "/bin/link is another kind of file"),
    (lambda top: ((top / "bin/link").unlink(), (top / "bin/link").symlink_to("no")), "/bin/link points elsewhere"),
    (lambda top: (top / "bin/sh").write_bytes(b"longer program"), "/bin/sh has 14 bytes, expected 7"),
    (lambda top: (top / "bin/sh").write_bytes(b"PROGRAM"), "/bin/sh has been written to"),
    (lambda top: os.chown(top / "etc", 5, 6), "/etc is owned by 5:6, expected 0:0"),
    (lambda top: (top / "bin").chmod(0o700), "/bin has mode 0700, expected 0755"),
    (lambda top: ((top / "dev/null").unlink(), os.mknod(top / "dev/null", 0o20644)), "/dev/null is another device"),
    (lambda top: os.removexattr(top / "etc/new", OPAQUE_XATTR), "/etc/new shows what it must hide"),
    (lambda top: os.setxattr(top / "etc", OPAQUE_XATTR, b"y"), "/etc hides what it must show"),
    (lambda top: top.chmod(0o700), "/ has mode 0700, expected 0755"),
]  # fmt: skip


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    top = tmp_path / "fs"
    top.mkdir(mode=0o755)
    extract_layer(io.BytesIO(tar_of(LAYER)), top)
    return top


@pytest.mark.parametrize(("damage", "said"), DAMAGE, ids=[said for _, said in DAMAGE])
def test_each_damage_is_named(unpacked: Path, damage: Callable[[Path], object], said: str) -> None:
    tree = expected(tar_of(LAYER), content=False)
    assert list(tree.differences(unpacked)) == []
    damage(unpacked)
    assert said in {str(one) for one in tree.differences(unpacked)}


def test_names_at_the_limit_are_compared_and_those_beyond_passed_over(tmp_path: Path) -> None:
    top = tmp_path / "fs"
    top.mkdir(mode=0o755)
    deep = "/".join(["d" * 250] * 16)
    beyond = "/".join(["e" * 250] * 5)
    data = tar_of(
        [member(f"{deep}/file", data=b"deep"), member("link", Kind.SYMLINK, target=deep), member(f"link/{beyond}/file")]
    )
    extract_layer(io.BytesIO(data), top)
    assert list(expected(data).differences(top)) == []
    fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.unlink(f"{deep}/file", dir_fd=fd)
    finally:
        os.close(fd)
    assert [str(one) for one in expected(data).differences(top)] == [f"/{deep}/file is missing"]
    remove_tree(top)


def test_content_is_compared_when_asked_for(unpacked: Path) -> None:
    (unpacked / "bin/sh").write_bytes(b"PROGRAM")
    os.utime(unpacked / "bin/sh", (1000, 1000))
    data = tar_of(LAYER)
    assert list(expected(data, content=False).differences(unpacked)) == []
    said = sorted(str(one) for one in expected(data).differences(unpacked))
    assert said == ["/bin/more has other content", "/bin/sh has other content"]


def test_hard_links_that_are_none_any_more(unpacked: Path) -> None:
    copy = (unpacked / "bin/sh").read_bytes()
    (unpacked / "bin/more").unlink()
    (unpacked / "bin/more").write_bytes(copy)
    (unpacked / "bin/more").chmod(0o755)
    os.utime(unpacked / "bin/more", (1000, 1000))
    (found,) = (str(one) for one in expected(tar_of(LAYER)).differences(unpacked))
    assert found.endswith("is not the same file as its hard links any more")


def test_a_comparison_can_be_ended(unpacked: Path) -> None:
    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        list(expected(tar_of(LAYER)).differences(unpacked, stop))
    with pytest.raises(InterruptedError):
        read_expected(io.BytesIO(tar_of(LAYER)), check=stop)
