"""Copies of trees that are being written, on the file systems that matter."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tare.store.usage import disk_usage
from tare.volumes.copying import TreeCopy

pytestmark = pytest.mark.root

IMAGE_BYTES = 512 << 20
ACL = "system.posix_acl_access"


@pytest.fixture(scope="module", params=["host", "xfs", "btrfs"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A directory on the host's own file system, and on loop images of those that have reflinks."""
    kind, directory = request.param, tmp_path_factory.mktemp("fs")
    if kind == "host":
        yield kind, directory
        return
    image, mounted = directory / "image", directory / "mounted"
    image.touch()
    os.truncate(image, IMAGE_BYTES)
    subprocess.run([f"mkfs.{kind}", "-q", image], check=True, capture_output=True)
    mounted.mkdir()
    subprocess.run(["mount", "-o", "loop", image, mounted], check=True)
    yield kind, mounted
    subprocess.run(["umount", mounted], check=True)


@pytest.fixture
def trees(place: tuple[str, Path]) -> Iterator[tuple[str, Path, Path]]:
    kind, directory = place
    source, target = directory / "source", directory / "target"
    source.mkdir()
    target.mkdir()
    yield kind, source, target
    subprocess.run(["rm", "-rf", source, target], check=True)


def copy(source: Path, target: Path) -> TreeCopy:
    made = TreeCopy(str(source), str(target))
    made.running_pass()
    made.frozen_pass()
    made.finish()
    return made


def described(root: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for parent, directories, files in os.walk(root):
        for path in (Path(parent, name) for name in ("", *directories, *files)):
            status = path.lstat()
            if stat.S_ISSOCK(status.st_mode):
                continue
            content: object = None
            if stat.S_ISREG(status.st_mode):
                content = path.read_bytes()
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            names = os.listxattr(path, follow_symlinks=False)
            xattrs = {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
            links = 0 if stat.S_ISDIR(status.st_mode) else status.st_nlink
            owner = (status.st_uid, status.st_gid, status.st_mode)
            found[str(path.relative_to(root))] = (owner, status.st_mtime_ns, status.st_rdev, links, xattrs, content)
    return found


def furnish(root: Path) -> None:
    (root / "deep/er").mkdir(parents=True)
    (root / "deep/file").write_bytes(b"text")
    os.chown(root / "deep/file", 1000, 65534)
    (root / "deep/file").chmod(0o4750)
    os.setxattr(root / "deep/file", "user.note", b"\0\xff")
    subprocess.run(["setfacl", "-m", "u:1234:r", root / "deep/file"], check=True)
    subprocess.run(["setfacl", "-d", "-m", "u:4321:rwx", root / "deep/er"], check=True)
    (root / "deep/er/plain").write_bytes(b"")
    os.removexattr(root / "deep/er/plain", ACL)
    os.link(root / "deep/file", root / "second-name")
    (root / "link").symlink_to("/nowhere\n")
    os.mkfifo(root / "fifo")
    os.mknod(root / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    with (root / "holes").open("wb") as stream:
        stream.seek(16 << 20)
        stream.write(b"end")
        stream.truncate(32 << 20)
    (root / os.fsdecode(b"not-utf-8-\xff\n")).write_bytes(b"x")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "socket"))
    os.utime(root / "deep", ns=(1, 1_234_567_891_123_456_789))


def test_everything_is_kept(trees: tuple[str, Path, Path]) -> None:
    kind, source, target = trees
    furnish(source)
    made = copy(source, target)
    assert described(target) == described(source)
    assert (source / "deep/er/plain").stat().st_size == 0 and ACL not in os.listxattr(target / "deep/er/plain")
    assert (target / "deep/file").stat().st_ino == (target / "second-name").stat().st_ino
    assert (target / "holes").stat().st_blocks * 512 < 1 << 20
    assert not (target / "socket").exists()
    if kind != "host":
        assert made.method == "reflink"


def test_the_second_pass_takes_what_has_changed(trees: tuple[str, Path, Path]) -> None:
    _, source, target = trees
    furnish(source)
    (source / "becomes-file/x").mkdir(parents=True)
    (source / "becomes-directory").write_bytes(b"f")
    (source / "vanishes").write_bytes(b"v")
    (source / "linked").write_bytes(b"l")
    made = TreeCopy(str(source), str(target))
    made.running_pass()
    (source / "deep/file").write_bytes(b"changed")
    (source / "deep/er/new").write_bytes(b"new")
    (source / "second-name").rename(source / "third-name")
    (source / "linked-too").hardlink_to(source / "linked")
    (source / "vanishes").unlink()
    (source / "becomes-file/x").rmdir()
    (source / "becomes-file").rmdir()
    (source / "becomes-file").write_bytes(b"f")
    (source / "becomes-directory").unlink()
    (source / "becomes-directory").mkdir()
    (source / "becomes-directory/inside").write_bytes(b"i")
    made.running_pass()
    (source / "becomes-directory/inside").write_bytes(b"j")
    made.frozen_pass()
    made.finish()
    assert described(target) == described(source)


def test_a_write_that_keeps_size_and_time_is_seen(trees: tuple[str, Path, Path]) -> None:
    _, source, target = trees
    path = source / "page"
    path.write_bytes(b"a" * 4096)
    made = TreeCopy(str(source), str(target))
    made.running_pass()
    before = path.stat()
    path.write_bytes(b"b" * 4096)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # as a write within one tick of the kernel's clock
    made.frozen_pass()
    assert (target / "page").read_bytes() == b"b" * 4096


def test_what_has_not_changed_is_not_copied_again(trees: tuple[str, Path, Path]) -> None:
    _, source, target = trees
    path = source / "old"
    path.write_bytes(b"old")
    made = TreeCopy(str(source), str(target))
    made._flushed = 1 << 62
    made._walk()  # a pass that was flushed long after the last write
    inode = (target / "old").stat().st_ino
    made.frozen_pass()
    assert (target / "old").stat().st_ino == inode


def test_usage_is_what_du_says(trees: tuple[str, Path, Path]) -> None:
    _, source, _ = trees
    furnish(source)
    said = subprocess.run(["du", "-s", "--block-size=1", source], check=True, capture_output=True, text=True)
    assert disk_usage(source) == int(said.stdout.split()[0])
