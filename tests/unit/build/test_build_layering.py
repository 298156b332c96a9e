from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from tare.archive.entry import Kind
from tare.archive.tar_writer import TarWriter
from tare.build.modes import parse_mode
from tare.build.ops.layering import LayerPlan, Settings, write_members
from tare.build.ops.rootfs import Owner
from tare.build.ops.select import Tree
from tare.errors import Conflict, InvalidArgument


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    (root / "d/sub").mkdir(parents=True)
    (root / "d/z").write_text("content")
    (root / "d/a").hardlink_to(root / "d/z")
    (root / "d/sub/link").symlink_to("../z")
    (root / "f").write_text("f")
    return root


@pytest.fixture
def target(tmp_path: Path) -> Path:
    root = tmp_path / "target"
    (root / "usr/lib").mkdir(parents=True)
    (root / "lib").symlink_to("usr/lib")
    (root / "usr").chmod(0o711)
    (root / "file").write_text("old")
    return root


def place(source: Path, target: Path, destination: str, *names: str, settings: Settings | None = None) -> LayerPlan:
    plan = LayerPlan(target, settings or Settings())
    plan.place(Tree(source, keep_owner=False).select(names), destination)
    return plan


def paths(plan: LayerPlan) -> list[str]:
    return [member.entry.path for member in plan.members()]


def test_a_file_to_a_name_or_into_a_directory(source: Path, target: Path) -> None:
    assert paths(place(source, target, "/new/name", "f")) == ["new", "new/name"]
    assert paths(place(source, target, "/new/", "f")) == ["new", "new/f"]
    assert paths(place(source, target, "/usr", "f")) == ["usr", "usr/f"]
    assert paths(place(source, target, "/", "f")) == ["f"]
    assert paths(place(source, target, "/lib", "f")) == ["usr", "usr/lib", "usr/lib/f"]


def test_the_contents_of_a_directory(source: Path, target: Path) -> None:
    assert paths(place(source, target, "/x", "d")) == ["x", "x/a", "x/sub", "x/sub/link", "x/z"]
    assert paths(place(source, target, "/", "d")) == ["a", "sub", "sub/link", "z"]


def test_existing_directories_are_repeated_as_they_are(source: Path, target: Path) -> None:
    usr = place(source, target, "/usr/lib/x/", "f").members()[0].entry
    assert (usr.path, usr.mode, usr.kind) == ("usr", 0o711, Kind.DIRECTORY)


def test_hard_links_stay_linked_whatever_the_order(source: Path, target: Path) -> None:
    members = {member.entry.path: member.entry for member in place(source, target, "/x", "d").members()}
    assert members["x/a"].kind is Kind.FILE
    assert (members["x/z"].kind, members["x/z"].target) == (Kind.HARDLINK, "x/a")


def test_owner_and_mode(source: Path, target: Path) -> None:
    settings = Settings(owner=Owner(5, 6), mode=parse_mode("0600"))
    entries = {m.entry.path: m.entry for m in place(source, target, "/x", "d", settings=settings).members()}
    assert all((entry.uid, entry.gid) == (5, 6) for entry in entries.values())
    assert entries["x/a"].mode == 0o600
    assert entries["x/sub/link"].mode == 0o777


@pytest.mark.parametrize(("destination", "name"), [("/file", "d"), ("/file/", "f"), ("/file/x", "f")])
def test_what_is_no_directory_is_not_replaced_by_one(source: Path, target: Path, destination: str, name: str) -> None:
    with pytest.raises(InvalidArgument, match="cannot copy to non-directory"):
        place(source, target, destination, name)


def test_equal_selections_give_equal_bytes(source: Path, target: Path) -> None:
    def tar() -> bytes:
        sink = io.BytesIO()
        writer = TarWriter(sink)
        write_members(place(source, target, "/x", "d", "f").members(), writer)
        writer.finish()
        return sink.getvalue()

    first = tar()
    assert tar() == first
    with tarfile.open(fileobj=io.BytesIO(first)) as archive:
        assert archive.getnames() == ["x", "x/a", "x/f", "x/sub", "x/sub/link", "x/z"]


def test_a_file_that_changes_meanwhile_is_noticed(source: Path, target: Path) -> None:
    plan = place(source, target, "/f", "f")
    (source / "f").write_text("longer than before")
    with pytest.raises(Conflict, match="changed during the build"):
        write_members(plan.members(), TarWriter(io.BytesIO()))


def test_a_file_replaced_by_a_link_is_not_followed(source: Path, target: Path) -> None:
    plan = place(source, target, "/f", "f")
    (source / "f").unlink()
    (source / "f").symlink_to("/etc/passwd")
    with pytest.raises(OSError, match="symbolic link"):
        write_members(plan.members(), TarWriter(io.BytesIO()))
    assert os.path.islink(source / "f")


def test_a_file_goes_where_a_link_at_its_name_leads(source: Path, target: Path) -> None:
    (target / "to-file").symlink_to("file")
    (target / "dangling").symlink_to("usr/nowhere/new")
    assert paths(place(source, target, "/to-file", "f")) == ["file"]
    assert paths(place(source, target, "/dangling", "f")) == ["usr", "usr/nowhere", "usr/nowhere/new"]


def test_names_of_one_file_stay_one_within_a_source_only(source: Path, target: Path) -> None:
    kinds = {m.entry.path: m.entry.kind for m in place(source, target, "/x/", "d/a", "d/z").members()}
    assert (kinds["x/a"], kinds["x/z"]) == (Kind.FILE, Kind.FILE)
    kinds = {m.entry.path: m.entry.kind for m in place(source, target, "/x/", "d/?").members()}
    assert (kinds["x/a"], kinds["x/z"]) == (Kind.FILE, Kind.HARDLINK)


def test_a_directory_is_not_replaced_by_something_else(source: Path, target: Path) -> None:
    (target / "z").mkdir()
    with pytest.raises(InvalidArgument, match="cannot replace to directory /z with file"):
        place(source, target, "/", "d")
    (source / "e").mkdir()
    (source / "e/sub").write_text("a file here, a directory there")
    with pytest.raises(InvalidArgument, match="cannot replace to directory /x/sub with file"):
        place(source, target, "/x/", "d", "e")
    with pytest.raises(InvalidArgument, match="cannot copy to non-directory: /x/sub"):
        place(source, target, "/x/", "e", "d")


def test_several_files_need_a_directory(source: Path, target: Path) -> None:
    for destination in ("/new", "/file"):
        with pytest.raises(InvalidArgument, match="2 files match, so the destination must be a directory"):
            place(source, target, destination, "d/?")
    assert paths(place(source, target, "/lib", "d/?")) == ["usr", "usr/lib", "usr/lib/a", "usr/lib/z"]
    (target / "z").mkdir()
    with pytest.raises(InvalidArgument, match="cannot replace to directory /z with file"):
        place(source, target, "/", "d/z")
