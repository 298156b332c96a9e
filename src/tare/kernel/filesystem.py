"""Calls on files that the standard library lacks: reflinks, syncfs, exchanging two names, copies that keep holes."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import functools
import os

FICLONE = 0x40049409  # _IOW(0x94, 9, int), ioctl_ficlone(2)
RENAME_EXCHANGE = 2
_AT_FDCWD = -100
_NO_REFLINK = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EPERM)
_NO_COPY_RANGE = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.ETXTBSY)
_RANGE = 1 << 30  # bytes per call
_CHUNK = 1 << 20


@functools.cache
def _libc() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    library.syncfs.argtypes = [ctypes.c_int]
    library.renameat2.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    return library


def _check(result: int, subject: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), subject)


def sync_filesystem(path: str) -> None:
    """Write everything of the file system that holds the directory ``path`` to its disk, syncfs(2). Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _check(_libc().syncfs(fd), path)
    finally:
        os.close(fd)


def exchange(one: str, two: str) -> None:
    """Swap two names of one file system in one step, renameat2(2). Raises OSError naming ``one``."""
    result = _libc().renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(two), RENAME_EXCHANGE)
    _check(result, one)


def reflink(source_fd: int, target_fd: int) -> bool:
    """Let the empty target share all data of the source, ioctl_ficlone(2); False where that cannot be done."""
    try:
        fcntl.ioctl(target_fd, FICLONE, source_fd)
    except OSError as error:
        if error.errno in _NO_REFLINK:
            return False
        raise
    return True


def copy_data(source_fd: int, target_fd: int) -> None:
    """Copy all of a file's data to an empty one; holes stay holes. Raises OSError."""
    size, offset = os.fstat(source_fd).st_size, 0
    while offset < size:
        try:
            start = os.lseek(source_fd, offset, os.SEEK_DATA)
            end = os.lseek(source_fd, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break  # nothing but a hole up to the end
            raise
        _copy_range(source_fd, target_fd, start, end)
        offset = end
    os.ftruncate(target_fd, max(size, offset))


def _copy_range(source_fd: int, target_fd: int, start: int, end: int) -> None:
    while start < end:
        try:
            count = os.copy_file_range(source_fd, target_fd, min(end - start, _RANGE), start, start)
        except OSError as error:
            if error.errno not in _NO_COPY_RANGE:
                raise
            data = os.pread(source_fd, min(end - start, _CHUNK), start)
            written = 0
            while written < len(data):
                written += os.pwrite(target_fd, data[written:], start + written)
            count = len(data)
        if not count:
            return  # it was made shorter meanwhile
        start += count
