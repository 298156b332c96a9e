from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tare.errors import InternalError
from tare.kernel import mounts, syscalls

pytestmark = pytest.mark.root


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    for name in ("low1", "low2", "upper", "work", "target"):
        (tmp_path / name).mkdir()
    (tmp_path / "low1/a").write_text("1")
    (tmp_path / "low2/b").write_text("2")
    yield tmp_path
    mounts.unmount_below(tmp_path)


@pytest.mark.parametrize("name", ["with:colon", "with,comma", "with space", "back\\slash", "ümläut"])
def test_awkward_paths_can_be_lowers(place: Path, name: str) -> None:
    (place / name / "l").mkdir(parents=True)
    (place / name / "l/x").write_text("x")
    for part in ("u", "w"):
        (place / name / part).mkdir()
    mounts.mount_overlay([place / name / "l"], place / name / "u", place / name / "w", place / "target")
    assert (place / "target/x").read_text() == "x"


def test_paths_longer_than_fsconfig_takes(place: Path) -> None:
    deep = place.joinpath(*["n" * 100] * 3)
    deep.mkdir(parents=True)
    (deep / "x").write_text("x")
    mounts.mount_overlay([place / "low1", deep], place / "upper", place / "work", place / "target")
    assert sorted(os.listdir(place / "target")) == ["a", "x"]


def test_without_any_layer_there_is_an_empty_read_only_directory(place: Path) -> None:
    mounts.mount_overlay([], None, None, place / "target")
    assert os.listdir(place / "target") == []
    with pytest.raises(OSError, match="Read-only"):
        (place / "target/x").mkdir()


def test_the_table_finds_overlays(place: Path) -> None:
    assert not mounts.is_mount_point(place / "target")
    mounts.mount_overlay([place / "low1"], place / "upper", place / "work", place / "target")
    assert mounts.is_mount_point(place / "target")
    (entry,) = [entry for entry in mounts.mount_table() if entry.target == str(place / "target")]
    assert (entry.fstype, entry.super_option("upperdir")) == ("overlay", str(place / "upper"))
    assert entry.super_option("redirect_dir") == "nofollow"
    assert entry.super_option("none") is None


def test_missing_lowers_are_named(place: Path) -> None:
    with pytest.raises(InternalError, match="target: cannot mount 1 layers: No such file"):
        mounts.mount_overlay([place / "missing"], None, None, place / "target")
    assert not mounts.is_mount_point(place / "target")


def test_read_only_binds_include_what_is_below(place: Path) -> None:
    (place / "low1/sub").mkdir()
    syscalls.mount("tmpfs", str(place / "low1/sub"), "tmpfs")
    mounts.bind_mount(place / "low1", place / "target", read_only=True)
    for path in (place / "target/x", place / "target/sub/x"):
        with pytest.raises(OSError, match="Read-only"):
            path.write_text("")
    (place / "low1/sub/x").write_text("the source stays writable")
    assert (place / "target/sub/x").exists()


def test_flat_binds_leave_out_what_is_below(place: Path) -> None:
    (place / "low1/sub").mkdir()
    syscalls.mount("tmpfs", str(place / "low1/sub"), "tmpfs")
    (place / "low1/sub/x").write_text("")
    mounts.bind_mount(place / "low1", place / "target", recursive=False)
    assert os.listdir(place / "target/sub") == []


def test_files_can_be_bound(place: Path) -> None:
    (place / "point").touch()
    mounts.bind_mount(place / "low1/a", place / "point", read_only=True)
    assert (place / "point").read_text() == "1"
    assert mounts.is_mount_point(place / "point")


def test_binding_what_does_not_exist_names_both(place: Path) -> None:
    with pytest.raises(InternalError, match=r"target: cannot bind .*missing: No such file"):
        mounts.bind_mount(place / "missing", place / "target")


def test_unmounting_is_quiet_twice_and_detaches_what_is_busy(place: Path) -> None:
    mounts.bind_mount(place / "low1", place / "target")
    with (place / "target/a").open():
        mounts.unmount(place / "target")
        assert not mounts.is_mount_point(place / "target")
    mounts.unmount(place / "target")
    mounts.unmount(place / "missing")


def test_unmount_below_takes_stacks_innermost_first(place: Path) -> None:
    (place / "low1/in side").mkdir()
    mounts.bind_mount(place / "low1", place / "target")
    mounts.bind_mount(place / "low2", place / "target/in side")
    mounts.bind_mount(place / "low2", place / "target/in side")
    other = place / "target-not"
    other.mkdir()
    mounts.bind_mount(place / "low2", other)
    gone = mounts.unmount_below(place / "target")
    assert gone == [f"{place}/target/in side"] * 2 + [f"{place}/target"]
    assert mounts.is_mount_point(other)


def test_a_layer_that_is_there_twice(place: Path) -> None:
    (place / "low2/a").write_text("hides")
    lowers = [place / "low1", place / "low2", place / "low1"]
    mounts.mount_overlay(lowers, None, None, place / "target")
    assert sorted(os.listdir(place / "target")) == ["a", "b"]
    assert (place / "target/a").read_text() == "1"
    mounts.unmount(place / "target")
    mounts.mount_overlay([place / "low1"] * 2, None, None, place / "target")
    assert os.listdir(place / "target") == ["a"]
