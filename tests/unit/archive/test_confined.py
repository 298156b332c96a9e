from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tare.archive.confined import make_directories_in_root, open_file_in_root, open_in_root, resolve_in_root
from tare.errors import InvalidArgument


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").write_text("inside")
    (tmp_path / "secret").write_text("outside")
    (root / "up").symlink_to("../../../secret")
    (root / "abs").symlink_to("/etc")
    (root / "host").symlink_to(tmp_path)
    (root / "loop").symlink_to("loop")
    (root / "etc/dangling").symlink_to("/nowhere/else")
    return root


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/etc/passwd", "etc/passwd"),
        ("abs/passwd", "etc/passwd"),
        ("abs/../abs/./passwd", "etc/passwd"),
        ("up", "secret"),
        ("../../../../secret", "secret"),
        ("etc/dangling/x", "nowhere/else/x"),
        ("new/file", "new/file"),
        ("", ""),
        ("/..", ""),
    ],
)
def test_resolve_stays_inside(root: Path, path: str, expected: str) -> None:
    assert resolve_in_root(root, path) == root / expected


def test_resolve_treats_host_paths_as_inside(root: Path, tmp_path: Path) -> None:
    assert resolve_in_root(root, "host/secret") == root.joinpath(*tmp_path.parts[1:], "secret")


@pytest.mark.parametrize("path", ["loop", "loop/x", "a\0b"])
def test_resolve_refuses(root: Path, path: str) -> None:
    with pytest.raises(InvalidArgument):
        resolve_in_root(root, path)


def read(root: Path, path: str) -> str:
    with os.fdopen(open_in_root(root, path)) as stream:
        return stream.read()


def test_open_follows_links_inside(root: Path) -> None:
    assert read(root, "abs/passwd") == "inside"
    assert read(root, "../../etc/passwd") == "inside"


@pytest.mark.parametrize(
    ("path", "number"),
    [("up", errno.ENOENT), ("host/secret", errno.ENOENT), ("loop", errno.ELOOP), ("etc/passwd/x", errno.ENOTDIR)],
)
def test_open_never_leaves(root: Path, path: str, number: int) -> None:
    with pytest.raises(OSError) as caught:
        open_in_root(root, path)
    assert caught.value.errno == number


def test_make_directories(root: Path) -> None:
    owner = os.getuid(), os.getgid()
    make_directories_in_root(root, "/abs/x/y", mode=0o750, uid=owner[0], gid=owner[1])
    status = (root / "etc/x/y").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (*owner, 0o750)
    make_directories_in_root(root, "abs/x/y", uid=owner[0], gid=owner[1])
    assert (root / "etc/x/y").stat().st_mode & 0o7777 == 0o750


@pytest.mark.parametrize("path", ["etc/passwd/x", "up/x", "loop/x", "etc/dangling/x"])
def test_make_directories_refuses_what_is_no_directory(root: Path, path: str) -> None:
    with pytest.raises(InvalidArgument, match="cannot make the directory"):
        make_directories_in_root(root, path, uid=os.getuid(), gid=os.getgid())


def test_only_regular_files_are_opened_to_be_read(root: Path) -> None:
    (root / "text").write_text("x")
    os.mkfifo(root / "pipe")  # which would wait for a writer
    (root / "to-text").symlink_to("/text")
    for name in ("text", "to-text"):
        fd = open_file_in_root(root, name)
        assert os.read(fd, 10) == b"x"
        os.close(fd)
    with pytest.raises(OSError, match="not a regular file"):
        open_file_in_root(root, "pipe")
    with pytest.raises(IsADirectoryError):
        open_file_in_root(root, ".")
    with pytest.raises(FileNotFoundError):
        open_file_in_root(root, "missing")
