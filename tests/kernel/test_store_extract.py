"""Unpacking layers, above all hostile ones, as root: nothing outside the directory may change."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tare.archive.diff import write_tree, write_upper
from tare.archive.entry import Entry, Kind
from tare.archive.tar_reader import OPAQUE_XATTR, extract_layer, extract_tree
from tare.archive.tar_writer import TarWriter
from tare.errors import DataCorrupt

pytestmark = pytest.mark.root


def entry(path: str, kind: Kind = Kind.FILE, **fields: object) -> Entry:
    values: dict[str, object] = {"mode": 0o755 if kind is Kind.DIRECTORY else 0o644, **fields}
    return Entry(path=path, kind=kind, **values)  # type: ignore[arg-type]


def layer(*members: Entry, data: bytes = b"") -> io.BytesIO:
    sink = io.BytesIO()
    writer = TarWriter(sink)
    for member in members:
        writer.add(member, io.BytesIO(data[: member.size]) if member.kind is Kind.FILE else None)
    writer.finish()
    sink.seek(0)
    return sink


def rewrite(write: Callable[[Path, TarWriter], None], directory: Path) -> bytes:
    sink = io.BytesIO()
    writer = TarWriter(sink)
    write(directory, writer)
    writer.finish()
    return sink.getvalue()


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_text("untouched")
    (tmp_path / "fs").mkdir()
    return tmp_path / "fs"


@pytest.fixture(autouse=True)
def nothing_outside_changes(inside: Path) -> object:
    outside = inside.parent / "outside"
    before = (outside / "file").stat()
    yield
    assert sorted(os.listdir(outside)) == ["file"]
    assert (outside / "file").read_text() == "untouched"
    after = (outside / "file").stat()
    assert (before.st_mode, before.st_uid, before.st_nlink) == (after.st_mode, after.st_uid, after.st_nlink)


def test_metadata_of_every_kind(inside: Path) -> None:
    extract_layer(
        layer(
            entry("d", Kind.DIRECTORY, mode=0o2750, uid=5, gid=6, mtime=1000),
            entry("d/setuid", mode=0o4755, uid=7, gid=8, mtime=2000, size=3, xattrs={"user.a": b"\0b"}),
            entry("d/hard", Kind.HARDLINK, target="d/setuid"),
            entry("d/link", Kind.SYMLINK, mode=0o777, uid=9, target="../../outside", mtime=3000),
            entry("d/null", Kind.CHARACTER, mode=0o666, major=1, minor=3),
            entry("d/pipe", Kind.FIFO, mode=0o600),
            entry("implicit/parents/file"),
            data=b"abc",
        ),
        inside,
    )
    directory = (inside / "d").stat()
    assert (directory.st_mode & 0o7777, directory.st_uid, directory.st_gid, directory.st_mtime) == (0o2750, 5, 6, 1000)
    setuid = (inside / "d/setuid").stat()
    assert (setuid.st_mode & 0o7777, setuid.st_uid, setuid.st_mtime, setuid.st_nlink) == (0o4755, 7, 2000, 2)
    assert os.getxattr(inside / "d/setuid", "user.a") == b"\0b"
    link = (inside / "d/link").lstat()
    assert (link.st_uid, link.st_mtime, os.readlink(inside / "d/link")) == (9, 3000, "../../outside")
    assert (inside / "d/null").stat().st_rdev == os.makedev(1, 3)
    assert stat.S_ISFIFO((inside / "d/pipe").stat().st_mode)
    parents = (inside / "implicit/parents").stat()
    assert (parents.st_mode & 0o7777, parents.st_uid) == (0o755, 0)


def test_whiteouts_take_overlay_form_and_come_back(inside: Path) -> None:
    members = (
        entry("keep", Kind.DIRECTORY),
        entry("keep/.wh.gone", mode=0),
        entry("opaque", Kind.DIRECTORY),
        entry("opaque/.wh..wh..opq", mode=0),
        entry(".wh..wh.plnk", mode=0),
    )
    extract_layer(layer(*members), inside)
    gone = (inside / "keep/gone").stat()
    assert stat.S_ISCHR(gone.st_mode) and gone.st_rdev == 0
    assert os.getxattr(inside / "opaque", OPAQUE_XATTR) == b"y"
    assert sorted(os.listdir(inside)) == ["keep", "opaque"]
    assert rewrite(write_upper, inside) == layer(*members[:4]).getvalue()


def test_a_whiteout_never_hides_its_own_layer(inside: Path) -> None:
    extract_layer(
        layer(
            entry(".wh.before", mode=0),
            entry("before", Kind.DIRECTORY),
            entry("after", Kind.DIRECTORY),
            entry("after/file"),
            entry(".wh.after", mode=0),
            entry("plain", size=1),
            entry(".wh.plain", mode=0),
            data=b"x",
        ),
        inside,
    )
    for name in ("before", "after"):
        assert os.getxattr(inside / name, OPAQUE_XATTR) == b"y"
    assert (inside / "after/file").exists()
    assert (inside / "plain").read_text() == "x"


@pytest.mark.parametrize("name", [".wh...", ".wh..", ".wh.", "d/.wh..."])
def test_whiteouts_of_dots_are_refused(inside: Path, name: str) -> None:
    with pytest.raises(DataCorrupt, match="invalid whiteout"):
        extract_layer(layer(entry(name, mode=0)), inside)


@pytest.mark.parametrize("target", ["../outside", "{outside}", "../../../../../../../..{outside}"])
def test_a_link_in_the_path_does_not_lead_outside(inside: Path, target: str) -> None:
    target = target.format(outside=inside.parent / "outside")
    attack = layer(entry("a", Kind.SYMLINK, mode=0o777, target=target), entry("a/file", size=4), data=b"evil")
    try:
        extract_layer(attack, inside)
    except DataCorrupt as error:
        assert "a/file" in str(error)


def test_a_link_chain_through_a_linked_directory_does_not_lead_outside(inside: Path) -> None:
    attack = layer(
        entry("d", Kind.DIRECTORY),
        entry("d/x", Kind.SYMLINK, mode=0o777, target=".."),
        entry("d/x/y", Kind.SYMLINK, mode=0o777, target="../.."),
        entry("d/x/y/outside/file", size=4),
        data=b"evil",
    )
    extract_layer(attack, inside)
    assert (inside / "outside/file").read_text() == "evil"  # inside, where the root ends


def test_the_last_component_is_never_followed(inside: Path) -> None:
    outside = str(inside.parent / "outside/file")
    extract_layer(
        layer(entry("f", Kind.SYMLINK, mode=0o777, target=outside), entry("f", size=3, mode=0o777), data=b"new"), inside
    )
    assert (inside / "f").read_text() == "new" and not (inside / "f").is_symlink()


def test_metadata_of_links_does_not_reach_their_target(inside: Path) -> None:
    outside = str(inside.parent / "outside/file")
    extract_layer(layer(entry("f", Kind.SYMLINK, mode=0o4777, uid=99, target=outside, xattrs={"user.x": b"1"})), inside)
    assert os.listxattr(outside) == []


def test_hard_links_through_links_stay_inside(inside: Path) -> None:
    outside = str(inside.parent / "outside")
    attack = layer(
        entry("a", Kind.SYMLINK, mode=0o777, target=outside), entry("stolen", Kind.HARDLINK, target="a/file")
    )
    with pytest.raises(DataCorrupt, match="'stolen' cannot be unpacked"):
        extract_layer(attack, inside)


@pytest.mark.parametrize("target", ["", "missing", "dir"])
def test_hard_links_to_nothing_are_refused(inside: Path, target: str) -> None:
    with pytest.raises(DataCorrupt, match="tar member 'l'"):
        extract_layer(layer(entry("dir", Kind.DIRECTORY), entry("l", Kind.HARDLINK, target=target)), inside)


def test_hard_link_to_a_link_links_the_link(inside: Path) -> None:
    outside = str(inside.parent / "outside/file")
    extract_layer(
        layer(entry("s", Kind.SYMLINK, mode=0o777, target=outside), entry("h", Kind.HARDLINK, target="s")), inside
    )
    assert os.readlink(inside / "h") == outside


def test_dot_dot_and_absolute_members_leave_nothing(inside: Path) -> None:
    for name in ("../outside/file", "/../outside/file"):
        sink = io.BytesIO()
        with tarfile.open(fileobj=sink, mode="w") as archive:
            archive.addfile(tarfile.TarInfo(name))
        sink.seek(0)
        with pytest.raises(DataCorrupt, match="outside/file"):
            extract_layer(sink, inside)
    assert os.listdir(inside) == []


def test_later_members_replace_earlier_ones(inside: Path) -> None:
    extract_layer(
        layer(
            entry("x", Kind.DIRECTORY),
            entry("x/y"),
            entry("x", size=1),
            entry("z"),
            entry("z", Kind.DIRECTORY, mode=0o700),
            entry("z/in"),
            entry("z", Kind.DIRECTORY, mode=0o711),
            data=b"2",
        ),
        inside,
    )
    assert (inside / "x").read_text() == "2"
    assert (inside / "z").stat().st_mode & 0o777 == 0o711 and (inside / "z/in").exists()


def test_a_directory_replaced_by_a_link_is_not_written_through(inside: Path) -> None:
    outside = str(inside.parent / "outside")
    attack = layer(
        entry("d/sub/one"),
        entry("d", Kind.SYMLINK, mode=0o777, target=outside),
        entry("d/sub/two"),
        entry("d/file", size=4),
        data=b"evil",
    )
    with pytest.raises(DataCorrupt, match="d/sub/two"):
        extract_layer(attack, inside)


def test_a_file_in_the_way_is_named(inside: Path) -> None:
    with pytest.raises(DataCorrupt, match="'f/below' cannot be unpacked: Not a directory"):
        extract_layer(layer(entry("f"), entry("f/below")), inside)


def test_overlay_attributes_are_left_out(inside: Path) -> None:
    extract_layer(
        layer(entry("d", Kind.DIRECTORY, xattrs={"trusted.overlay.redirect": b"/etc", "trusted.overlay.opaque": b"y"})),
        inside,
    )
    assert os.listxattr(inside / "d") == []


def test_plain_trees_keep_whiteout_names(inside: Path) -> None:
    extract_tree(layer(entry(".wh.x", size=1), data=b"1"), inside)
    assert (inside / ".wh.x").read_text() == "1"


def test_a_tree_survives_a_round_trip(inside: Path, tmp_path: Path) -> None:
    extract_layer(
        layer(
            entry("a", Kind.DIRECTORY, mtime=5),
            entry("a/1", size=1, mtime=6, xattrs={"user.k": b"v"}),
            entry("a/2", Kind.HARDLINK, mode=0o644, mtime=6, target="a/1", xattrs={}),
            entry("a-b", size=1, mtime=6),
            entry("dev", Kind.BLOCK, major=259, minor=300, mtime=7),
            data=b"1",
        ),
        inside,
    )
    first = rewrite(write_tree, inside)
    again = tmp_path / "again"
    again.mkdir()
    extract_layer(io.BytesIO(first), again)
    assert rewrite(write_tree, again) == first


def test_the_last_of_many_files_with_one_name_wins_by_whatever_way_it_is_named(inside: Path) -> None:
    """Small files are made by several threads: each waits for what has its place, or the one that it is linked to."""
    members = [entry("d", Kind.DIRECTORY), entry("l", Kind.SYMLINK, mode=0o777, target="d")]
    for number in range(60):
        members.append(entry(f"d/f{number}", size=number + 1))
        members.append(entry(f"l/f{number}", size=number + 2))
        members.append(entry(f"l/h{number}", Kind.HARDLINK, target=f"d/f{number}"))
    members.append(entry("large", size=400_000))
    extract_layer(layer(*members, data=b"x" * 400_000), inside)
    assert {path.name: path.stat().st_size for path in (inside / "d").iterdir()} == {
        f"{letter}{number}": number + 2 for number in range(60) for letter in "fh"
    }
    assert (inside / "large").stat().st_size == 400_000


def test_what_cannot_be_written_is_named_and_the_rest_is_left(inside: Path) -> None:
    used, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    members = [entry("bad", xattrs={"user.a": b"x" * 70_000}), *(entry(f"f{number}") for number in range(500))]
    with pytest.raises(DataCorrupt, match="'bad' cannot be unpacked"):
        extract_layer(layer(*members), inside)
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == (used, threads)
