"""Filling volumes from images, as root because owners and devices are kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tare.errors import InternalError
from tare.volumes import copy_up as module
from tare.volumes.copy_up import copy_up

pytestmark = pytest.mark.root


@pytest.fixture
def image(tmp_path: Path) -> Path:
    data = tmp_path / "image/var/lib/db"
    data.mkdir(parents=True)
    (data / "file").write_text("x")
    (data / "file").chmod(0o640)
    os.chown(data / "file", 100, 200)
    os.setxattr(data / "file", "user.k", b"v")
    os.link(data / "file", data / "hard")
    (data / "link").symlink_to("/etc/passwd")
    (data / "sub").mkdir()
    os.mkfifo(data / "sub/pipe")
    os.utime(data / "sub", (5, 5))
    os.chown(data, 100, 200)
    data.chmod(0o2770)
    (tmp_path / "image/alias").symlink_to("/var/lib/db")
    (tmp_path / "image/escape").symlink_to(tmp_path)
    (tmp_path / "image/empty").mkdir(mode=0o711)
    os.chown(tmp_path / "image/empty", 7, 8)
    return tmp_path / "image"


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    path = tmp_path / "volumes/v/_data"
    path.mkdir(parents=True)
    return path


@pytest.mark.parametrize("destination", ["/var/lib/db", "/alias", "/../alias/"])
def test_content_and_metadata_are_copied(image: Path, volume: Path, destination: str) -> None:
    assert copy_up(image, destination, volume)
    root = volume.stat()
    assert (root.st_uid, root.st_gid, root.st_mode & 0o7777) == (100, 200, 0o2770)
    file = (volume / "file").stat()
    assert (file.st_uid, file.st_gid, file.st_mode & 0o7777, file.st_nlink) == (100, 200, 0o640, 2)
    assert file.st_ino == (volume / "hard").stat().st_ino
    assert os.getxattr(volume / "file", "user.k") == b"v"
    assert os.readlink(volume / "link") == "/etc/passwd"
    assert (volume / "sub").stat().st_mtime == 5
    assert os.listdir(volume.parent) == ["_data"]


def test_a_filled_volume_stays_as_it_is(image: Path, volume: Path) -> None:
    (volume / "mine").write_text("")
    assert not copy_up(image, "/var/lib/db", volume)
    assert os.listdir(volume) == ["mine"]


def test_empty_directories_give_owner_and_mode(image: Path, volume: Path) -> None:
    copy_up(image, "/empty", volume)
    assert (volume.stat().st_uid, volume.stat().st_mode & 0o7777) == (7, 0o711)


@pytest.mark.parametrize("destination", ["/missing", "/var/lib/db/file", "/escape"])
def test_nothing_to_copy(image: Path, volume: Path, destination: str) -> None:
    assert not copy_up(image, destination, volume)
    assert os.listdir(volume) == []


def test_half_a_copy_is_never_taken_for_a_filled_volume(
    image: Path, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(module, "_sync", fail)
        with pytest.raises(InternalError, match="cannot copy /var/lib/db"):
            copy_up(image, "/var/lib/db", volume)
    assert os.listdir(volume) == [] and os.listdir(volume.parent) == ["_data"]
    (volume.parent / "_data.new").mkdir()
    (volume.parent / "_data.new/half").write_text("left by a crash")
    assert copy_up(image, "/var/lib/db", volume)
    assert "half" not in os.listdir(volume)
