from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from tare.archive.entry import Entry, Kind
from tare.archive.filetree import FileTree, Slice
from tare.archive.tar_writer import TarWriter
from tare.errors import Conflict, DataCorrupt, InvalidArgument, NotFound


def written(tree: FileTree) -> bytes:
    sink = io.BytesIO()
    writer = TarWriter(sink)
    tree.write(writer)
    writer.finish()
    return sink.getvalue()


def paths(tree: FileTree) -> list[str]:
    return [node.entry.path for node in tree]


def hardlink(path: str, target: str) -> Entry:
    return Entry(path=path, kind=Kind.HARDLINK, mode=0o644, target=target)


def test_merged_usr() -> None:
    tree = FileTree()
    tree.add_directory("usr/bin")
    tree.add_symlink("bin", "usr/bin")
    package = FileTree()
    package.add_file("bin/true", b"x", mode=0o755)
    tree.merge(package)
    assert paths(tree) == ["bin", "usr", "usr/bin", "usr/bin/true"]
    assert "bin/true" in tree
    assert tree.read("/bin/true") == b"x"


def test_order_is_parents_first_and_bytes() -> None:
    tree = FileTree()
    for path in ("a.b", "a/z", "a-b"):
        tree.add_file(path, b"")
    assert paths(tree) == ["a", "a/z", "a-b", "a.b"]


def test_two_owners_of_a_path() -> None:
    one, two = FileTree(), FileTree()
    one.add(Entry(path="etc/x", kind=Kind.FILE, mode=0o644, size=1), b"1", owner="one")
    two.add(Entry(path="etc/x", kind=Kind.FILE, mode=0o644, size=1), b"2", owner="two")
    tree = FileTree()
    tree.merge(one)
    with pytest.raises(Conflict, match=r"/etc/x is claimed by one and two"):
        tree.merge(two)
    tree.merge(two, may_replace=lambda new, old: (new, old) == ("two", "one"))
    assert tree.read("etc/x") == b"2"
    tree.merge(one, may_replace=lambda new, old: (new, old) == ("two", "one"))
    assert tree.read("etc/x") == b"2"


def test_equal_files_of_two_owners_are_no_conflict() -> None:
    tree = FileTree()
    for owner in ("one", "two"):
        part = FileTree()
        part.add(Entry(path="x", kind=Kind.FILE, mode=0o644, size=1), b"1", owner=owner)
        tree.merge(part)
    assert len(tree) == 1


@pytest.mark.parametrize(("first", "second"), [("directory", "file"), ("file", "directory")])
def test_directory_and_file_conflict(first: str, second: str) -> None:
    tree = FileTree()
    add = {"directory": lambda: tree.add_directory("x"), "file": lambda: tree.add_file("x", b"")}
    add[first]()
    with pytest.raises(Conflict, match=f"/x is a {second}"):
        add[second]()


def test_below_a_file() -> None:
    tree = FileTree()
    tree.add_file("x", b"")
    with pytest.raises(Conflict, match=r"/x/y of .* lies below /x, a file"):
        tree.add_file("x/y", b"")


@pytest.mark.parametrize("path", ["../x", "a/../../x", "a\0b"])
def test_paths_that_leave(path: str) -> None:
    with pytest.raises(InvalidArgument, match=r"leaves the tree"):
        FileTree().add_file(path, b"")


def test_links_stay_inside_and_loops_end() -> None:
    tree = FileTree()
    tree.add_symlink("up", "../../../etc")
    tree.add_file("up/passwd", b"x")
    assert "etc/passwd" in tree
    tree.add_symlink("a", "b")
    tree.add_symlink("b", "a")
    with pytest.raises(InvalidArgument, match=r"too many levels"):
        tree.add_file("a/x", b"")


def test_removing_the_first_name_keeps_the_content() -> None:
    tree = FileTree()
    tree.add_file("a", b"data")
    for name in ("b", "c"):
        tree.add(hardlink(name, "a"))
    tree.remove("a")
    assert [(node.entry.path, node.entry.kind, node.entry.target) for node in tree] == [
        ("b", Kind.FILE, ""),
        ("c", Kind.HARDLINK, "b"),
    ]
    assert tree.read("c") == b"data"


def test_written_bytes_do_not_depend_on_the_order_of_additions(tmp_path: Path) -> None:
    content = tmp_path / "content"
    content.write_bytes(b"..12345..")
    one, two = FileTree(), FileTree()
    sliced = Entry(path="s", kind=Kind.FILE, mode=0o600, size=5)
    one.add_file("d/f", b"x")
    one.add(sliced, Slice(content, 2))
    two.add(sliced, Slice(content, 2))
    two.add_file("d/f", b"x")
    one.clamp(1000)
    two.clamp(1000)
    assert written(one) == written(two)
    with tarfile.open(fileobj=io.BytesIO(written(one))) as archive:
        assert [(item.name, item.mtime) for item in archive] == [("d", 1000), ("d/f", 1000), ("s", 1000)]
        stream = archive.extractfile("s")
        assert stream is not None
        assert stream.read() == b"12345"


def test_a_hard_link_comes_after_its_file() -> None:
    tree = FileTree()
    tree.add(hardlink("a", "z"))
    tree.add_file("z", b"data")
    with tarfile.open(fileobj=io.BytesIO(written(tree))) as archive:
        assert archive.getnames() == ["z", "a"]


def test_clamp_keeps_older_times() -> None:
    tree = FileTree()
    tree.add(Entry(path="old", kind=Kind.FILE, mode=0o644, mtime=5))
    tree.add(Entry(path="new", kind=Kind.FILE, mode=0o644, mtime=50))
    tree.clamp(10)
    assert {node.entry.path: node.entry.mtime for node in tree} == {"old": 5, "new": 10}


def test_reading_what_is_not_there_or_too_large() -> None:
    tree = FileTree()
    tree.add_file("x", b"12345")
    with pytest.raises(NotFound, match=r"/y: no such file"):
        tree.read("y")
    with pytest.raises(DataCorrupt, match=r"at most 4"):
        tree.read("x", limit=4)
