"""Id-mapped mounts on the real kernel: who owns what, seen from both sides."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tare.errors import InvalidArgument, Unsupported
from tare.kernel.idmap import IdMap, clone_idmapped, file_system_of
from tare.kernel.mounts import is_mount_point, mount_overlay, unmount

pytestmark = pytest.mark.root
MAPS = [IdMap(0, 100_000, 1000), IdMap(1000, 0, 1)]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "source").mkdir()
    (tmp_path / "target").mkdir()
    yield tmp_path
    unmount(tmp_path / "target")


def test_ids_are_seen_as_mapped_and_stored_as_they_were(place: Path) -> None:
    (place / "source/file").write_text("x")
    os.chown(place / "source/file", 5, 7)
    with clone_idmapped(place / "source", MAPS, MAPS) as mount:
        mount.attach(place / "target")
    seen = (place / "target/file").stat()
    assert (seen.st_uid, seen.st_gid) == (100_005, 100_007)
    os.chown(place / "target/file", 100_042, 100_043)
    stored = (place / "source/file").stat()
    assert (stored.st_uid, stored.st_gid) == (42, 43)
    (place / "target/new").write_text("by the host's root")
    assert (place / "source/new").stat().st_uid == 1000


def test_a_mount_goes_where_a_descriptor_leads(place: Path) -> None:
    fd = os.open(place / "target", os.O_PATH | os.O_DIRECTORY)
    try:
        with clone_idmapped(place / "source", MAPS, MAPS) as mount:
            mount.attach_to(fd)
    finally:
        os.close(fd)
    assert (place / "target").stat().st_uid == 100_000


def test_an_id_without_a_map_is_nobody_and_cannot_create(place: Path) -> None:
    maps = [IdMap(10, 100_000, 5)]
    with clone_idmapped(place / "source", maps, maps) as mount:
        mount.attach(place / "target")
    assert (place / "target").stat().st_uid == 65534
    with pytest.raises(OSError, match="too large"):
        (place / "target/new").write_text("root has no id here")


def test_a_file_can_be_mapped_and_read_only(place: Path) -> None:
    (place / "source/file").write_text("x")
    (place / "target/file").touch()
    with clone_idmapped(place / "source/file", MAPS, MAPS, read_only=True) as mount:
        mount.attach(place / "target/file")
    try:
        assert (place / "target/file").stat().st_uid == 100_000
        with pytest.raises(OSError, match="Read-only"):
            (place / "target/file").write_text("y")
    finally:
        unmount(place / "target/file")


def test_layers_below_an_overlay_are_seen_mapped_and_its_files_are_stored_plain(place: Path) -> None:
    names = ("lower", "layer", "writable", "merged")
    for name in (*names, "layer/upper", "layer/work"):
        (place / name).mkdir()
    (place / "lower/old").write_text("old")
    (place / "lower/gone").write_text("gone")
    with clone_idmapped(place / "lower", MAPS, MAPS) as mount:
        mount.attach(place / "source")
    with clone_idmapped(place / "layer", MAPS, MAPS) as mount:
        mount.attach(place / "writable")
    try:
        merged = place / "merged"
        mount_overlay([place / "source"], place / "writable/upper", place / "writable/work", merged)
        assert (merged / "old").stat().st_uid == 100_000
        (merged / "old").write_text("new")  # copied up
        (merged / "gone").unlink()
        (merged / "made").touch()
        os.chown(merged / "made", 100_033, 100_033)
        assert (place / "layer/upper/old").stat().st_uid == 0
        assert (place / "layer/upper/made").stat().st_uid == 33
        assert (place / "layer/upper/gone").is_char_device()
    finally:
        for name in ("merged", "writable", "source"):
            unmount(place / name)


def test_a_file_system_without_id_maps_is_named(place: Path) -> None:
    assert file_system_of(Path("/proc/self")) == "proc"
    with pytest.raises(Unsupported, match=r"/proc.*: the file system proc cannot be mounted with other ids"):
        clone_idmapped(Path("/proc/sys"), MAPS, MAPS)
    assert not is_mount_point(place / "target")


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        ([], "1 to 340 ranges"),
        ([IdMap(0, 0, 0)], "leaves the range"),
        ([IdMap(0, 4294967290, 10)], "leaves the range"),
        ([IdMap(0, 100, 10), IdMap(5, 200, 10)], "overlap"),
        ([IdMap(0, 100, 10), IdMap(50, 105, 10)], "overlap"),
    ],
)
def test_impossible_maps_are_refused(place: Path, maps: list[IdMap], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        clone_idmapped(place / "source", maps, maps)
