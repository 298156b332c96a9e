"""Trees that somebody changes while they are read or written: nothing leads out of the root."""

from __future__ import annotations

import ctypes
import io
import os
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tare.archive.changes import Change, ChangeKind, list_changes
from tare.archive.resource import clean_path, stat_resource, write_changes, write_members, write_resource
from tare.archive.tar_writer import TarWriter
from tare.archive.unpack import unpack_into
from tare.errors import DataCorrupt, InvalidArgument
from tare.kernel import mounts
from tare.kernel.private_mounts import in_private_mounts, let_go_below

pytestmark = pytest.mark.root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    (made / "d").mkdir(parents=True)
    (made / "d/f").write_text("hi")
    (made / "d/up").symlink_to("../../../../outside/secret")
    (made / "abs").symlink_to("/d")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("secret")
    return made


def tar(*members: tuple[str, bytes | str | None]) -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.uid, member.gid, member.mode = 1000, 1001, 0o640
            if content is None:
                member.type, member.mode = tarfile.DIRTYPE, 0o750
            elif isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
            else:
                member.size = len(content)
            archive.addfile(member, io.BytesIO(content) if isinstance(content, bytes) else None)
    buffer.seek(0)
    return buffer


def packed(root: Path, path: str) -> dict[str, tarfile.TarInfo]:
    buffer = io.BytesIO()
    writer = TarWriter(buffer)
    write_resource(root, path, writer)
    writer.finish()
    buffer.seek(0)
    with tarfile.open(fileobj=buffer) as archive:
        return {member.name: member for member in archive}


@pytest.mark.parametrize(
    ("path", "cleaned"),
    [("x", "/x"), ("/", "/"), ("/.", "/."), ("a/../b/", "/b/"), ("/a/.", "/a/."), ("//a", "/a"), ("..", "/")],
)
def test_paths_are_cleaned(path: str, cleaned: str) -> None:
    assert clean_path(path) == cleaned


def test_names_begin_with_the_last_part_of_the_path(root: Path) -> None:
    assert sorted(packed(root, "/d")) == ["d", "d/f", "d/up"]
    assert sorted(packed(root, "/d/.")) == [".", "./f", "./up"]
    assert sorted(packed(root, "abs/")) == ["abs", "abs/f", "abs/up"]
    assert packed(root, "abs")["abs"].issym()
    assert stat_resource(root, "abs").link_target == "/d"
    assert stat_resource(root, "/d/up").link_target == "/outside/secret"
    with pytest.raises(FileNotFoundError):
        packed(root, "/d/up/x")
    with pytest.raises(NotADirectoryError):
        stat_resource(root, "/d/f/")


def test_a_file_that_changes_while_it_is_read_leaves_the_archive_whole(root: Path) -> None:
    class Growing(io.BytesIO):
        def write(self, data: object, /) -> int:
            with (root / "d/f").open("ab") as more:
                more.write(b"x" * 100_000)
            return super().write(data)  # type: ignore[arg-type]

    buffer = Growing()
    writer = TarWriter(buffer)
    write_members(root, writer)
    writer.finish()
    with tarfile.open(fileobj=io.BytesIO(buffer.getvalue())) as archive:
        assert [member.name for member in archive] == ["abs", "d", "d/f", "d/up"]


def test_owners_modes_and_replacing(root: Path) -> None:
    unpack_into(tar(("n", None), ("n/f", b"1"), ("n/l", "/etc/passwd")), root, "/d")
    status = (root / "d/n/f").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (1000, 1001, 0o640)
    assert (root / "d/n").stat().st_mode & 0o777 == 0o750
    assert (root / "d/n/l").readlink() == Path("/etc/passwd")
    unpack_into(tar(("n", b"file")), root, "/d", owner=(5, 6))
    assert ((root / "d/n").read_text(), (root / "d/n").stat().st_uid) == ("file", 5)
    with pytest.raises(InvalidArgument, match='cannot overwrite non-directory "n" with directory "/d"'):
        unpack_into(tar(("n", None)), root, "/d", keep_kinds=True)


def test_a_torn_file_does_not_stay(root: Path) -> None:
    whole = tar(("n", None), ("n/whole", b"1"), ("n/torn", b"2" * 5000)).getvalue()
    with pytest.raises(DataCorrupt, match="ends within 'n/torn'"):
        unpack_into(io.BytesIO(whole[:4000]), root, "/d")
    assert sorted(path.name for path in (root / "d/n").iterdir()) == ["whole"]

    class Swapping(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > 3000:
                (root / "d/n/torn").rename(root / "d/n/moved")
                (root / "d/n/torn").write_text("of somebody else")
            return super().read(size)

    with pytest.raises(DataCorrupt):
        unpack_into(Swapping(whole[:3001]), root, "/d")
    assert (root / "d/n/torn").read_text() == "of somebody else"


def test_rows_of_zeros_become_holes_on_request(root: Path) -> None:
    content = bytes(1 << 20) + b"x" + bytes(1 << 20)
    unpack_into(tar(("full", content)), root, "/d")
    unpack_into(tar(("holes", content), ("end", bytes(1 << 20)), ("small", bytes(10))), root, "/d", holes=True)
    assert (root / "d/holes").read_bytes() == (root / "d/full").read_bytes() == content
    assert ((root / "d/end").read_bytes(), (root / "d/small").read_bytes()) == (bytes(1 << 20), bytes(10))
    assert (root / "d/end").stat().st_blocks == 0 and (root / "d/full").stat().st_blocks * 512 > 2 << 20


@pytest.mark.parametrize("target", ["/../../outside", "../../../outside", "/outside"])
def test_links_in_parents_are_followed_inside_the_root(root: Path, target: str) -> None:
    (root / "outside").mkdir()
    unpack_into(tar(("x", target), ("x/file", b"1")), root, "/d")
    assert (root / "outside/file").read_text() == "1"
    assert [path.name for path in (root.parent / "outside").iterdir()] == ["secret"]


def test_names_that_lead_out_are_refused(root: Path) -> None:
    with pytest.raises(DataCorrupt, match="leads outside"):
        unpack_into(tar(("../../outside/x", b"1")), root, "/d")


def test_a_process_that_swaps_names_never_leads_the_writer_out(root: Path) -> None:
    """The attack on ``cp``: a directory inside becomes a link to the host's while files are written into it."""
    outside = root.parent / "outside"
    stop = threading.Event()
    (root / "t").mkdir()
    (root / "link").symlink_to(outside)

    def swap() -> None:
        libc, here = ctypes.CDLL(None), -100  # AT_FDCWD
        first, second = os.fsencode(root / "t"), os.fsencode(root / "link")
        while not stop.is_set():
            assert libc.renameat2(here, first, here, second, 2) == 0  # RENAME_EXCHANGE

    attacker = threading.Thread(target=swap)
    attacker.start()
    try:
        for _ in range(150):
            try:
                unpack_into(tar(("t/secret", b"overwritten"), ("t/new", b"1"), ("t/dir", None)), root, "/")
                packed(root, "/t/secret")
            except (OSError, InvalidArgument):
                continue
    finally:
        stop.set()
        attacker.join()
    assert {path.name: path.read_text() for path in outside.iterdir()} == {"secret": "secret"}


@pytest.fixture
def overlay(tmp_path: Path) -> Iterator[Path]:
    for name in ("low", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    for name in ("etc", "keep", "gone", "again/old"):
        (tmp_path / "low" / name).mkdir(parents=True)
    (tmp_path / "low/etc/group").write_text("x")
    (tmp_path / "low/keep/f").write_text("x")
    mounts.mount_overlay([tmp_path / "low"], tmp_path / "upper", tmp_path / "work", tmp_path / "merged")
    yield tmp_path
    mounts.unmount_below(tmp_path)


def changes(place: Path) -> list[tuple[str, ChangeKind]]:
    found: list[Change] = list_changes(place / "upper", place / "low", mount_points={"etc", "etc/hosts", "proc"})
    return [(change.path, change.kind) for change in found]


def test_what_differs(overlay: Path) -> None:
    merged = overlay / "merged"
    (merged / "proc").mkdir()
    (merged / "etc/hosts").touch()
    assert changes(overlay) == []
    (merged / "etc/hosts").write_text("now it is somebody's file")
    (merged / "keep/f").write_text("y")
    (merged / "gone").rmdir()
    (merged / "new").mkdir()
    (merged / "again/old").rmdir()
    (merged / "again").rmdir()
    (merged / "again").mkdir()
    kinds = ChangeKind
    assert changes(overlay) == [
        ("again", kinds.MODIFIED),
        ("again/old", kinds.DELETED),
        ("etc", kinds.MODIFIED),
        ("etc/hosts", kinds.ADDED),
        ("gone", kinds.DELETED),
        ("keep/f", kinds.MODIFIED),
        ("new", kinds.ADDED),
    ]
    buffer = io.BytesIO()
    writer = TarWriter(buffer)
    write_changes(overlay / "upper", writer, lambda path: not path.startswith("etc"))
    writer.finish()
    with tarfile.open(fileobj=io.BytesIO(buffer.getvalue())) as archive:
        assert archive.getnames() == ["again", "again/.wh..wh..opq", ".wh.gone", "keep", "keep/f", "new", "proc"]


async def test_private_mounts_are_seen_by_nobody_else_and_go_with_their_thread(tmp_path: Path) -> None:
    for name in ("a", "b", "source"):
        (tmp_path / name).mkdir()
    (tmp_path / "source/f").touch()
    mounts.bind_mount(tmp_path / "source", tmp_path / "b")
    try:

        def work() -> tuple[list[str], list[str]]:
            mounts.bind_mount(tmp_path / "source", tmp_path / "a")
            seen = [path.name for path in (tmp_path / "a").iterdir()]
            let_go_below(tmp_path, keep=[tmp_path / "a"])
            return seen, [path.name for path in (tmp_path / "b").iterdir()]

        assert await in_private_mounts(work) == (["f"], [])
        assert list((tmp_path / "a").iterdir()) == []
        assert [path.name for path in (tmp_path / "b").iterdir()] == ["f"]
        assert not mounts.is_mount_point(tmp_path / "a")
    finally:
        mounts.unmount(tmp_path / "b")


async def test_errors_of_the_thread_are_the_callers(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await in_private_mounts(lambda: os.stat(tmp_path / "nope"))
