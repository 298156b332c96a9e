"""Fill an empty volume with what the image has at its mount point, as Docker does when a container is made."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path

from tare.archive.confined import resolve_in_root
from tare.base.atomic import fsync_directory
from tare.errors import InternalError
from tare.store.space import disk_errors

_STAGING = "_data.new"  # beside _data: the same file system, and not inside what is mounted


def copy_up(source_root: Path, destination: str, volume_data: Path, *, in_place: bool = False) -> bool:
    """Copy the image's content at ``destination`` into the volume's directory if that is empty; tells whether it did.

    ``source_root`` is the mounted image. Owner, mode, times, attributes and hard links are kept, links are not
    followed. Where the image has an empty directory the volume gets its owner and mode. All or nothing: the copy is
    made beside the volume and takes its place at the end. The volume must not be mounted. Blocks. Raises
    Exhausted, InternalError.
    """
    staging = volume_data.parent / _STAGING
    with disk_errors(volume_data):
        try:
            if not volume_data.is_dir():
                return False
            if not in_place and staging.exists():
                shutil.rmtree(staging)  # left by a crash
            if next(volume_data.iterdir(), None) is not None:
                return False
            source = resolve_in_root(source_root, destination)
            if not source.is_dir() or source.is_symlink():
                return False
            if in_place:
                _copy_in_place(source, volume_data)
                return True
            staging.mkdir(mode=0o700)
            _copy_tree(os.fspath(source), os.fspath(staging))
            _sync(staging)
            staging.rename(volume_data)  # replaces an empty directory, and nothing else
            fsync_directory(volume_data.parent)
        except OSError as error:
            shutil.rmtree(staging, ignore_errors=True)
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return False  # filled meanwhile
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise InternalError(f"{volume_data}: cannot copy {destination} of the image: {error}") from error
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
    return True


def _copy_in_place(source: Path, target: Path) -> None:
    try:
        _copy_tree(os.fspath(source), os.fspath(target))
    except BaseException:
        for item in target.iterdir():
            if item.is_dir() and not item.is_symlink():
                shutil.rmtree(item, ignore_errors=True)
            else:
                item.unlink(missing_ok=True)
        raise


def _copy_tree(source: str, target: str) -> None:
    first_names: dict[tuple[int, int], str] = {}
    directories: list[tuple[str, str]] = []
    pending = [(source, target)]
    while pending:
        here, there = pending.pop()
        directories.append((here, there))
        with os.scandir(here) as found:
            for item in found:
                copy = f"{there}/{item.name}"
                if item.is_dir(follow_symlinks=False):
                    os.mkdir(copy, 0o700)  # noqa: PTH102 - many short strings
                    pending.append((item.path, copy))
                else:
                    _copy_item(item.path, copy, first_names)
    for here, there in reversed(directories):  # times last: making members changes them
        _copy_metadata(here, there, os.lstat(here))


def _copy_item(source: str, target: str, first_names: dict[tuple[int, int], str]) -> None:
    status = os.lstat(source)
    if status.st_nlink > 1:
        first = first_names.setdefault((status.st_dev, status.st_ino), target)
        if first != target:
            os.link(first, target, follow_symlinks=False)
            return
    if stat.S_ISREG(status.st_mode):
        shutil.copyfile(source, target, follow_symlinks=False)
    elif stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(source), target)  # noqa: PTH115, PTH211 - the text as it is
    elif stat.S_ISSOCK(status.st_mode):
        return
    else:
        os.mknod(target, status.st_mode, status.st_rdev)
    _copy_metadata(source, target, status)


def _copy_metadata(source: str, target: str, status: os.stat_result) -> None:
    os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(target, stat.S_IMODE(status.st_mode))  # noqa: PTH101
    for name in os.listxattr(source, follow_symlinks=False):
        if name.startswith("trusted.overlay."):
            continue
        try:
            os.setxattr(target, name, os.getxattr(source, name, follow_symlinks=False), follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EPERM):
                raise
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)


def _sync(directory: Path) -> None:
    """Make the copied files durable before they are taken for the volume's content."""
    for parent, _, files in os.walk(directory):
        for name in files:
            path = Path(parent, name)
            if stat.S_ISREG(path.lstat().st_mode):
                fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)
        fsync_directory(Path(parent))
