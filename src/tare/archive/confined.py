"""Paths inside a directory tree that is not trusted: symbolic links are followed as if the tree's root were ``/``."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import stat
import struct
from pathlib import Path

from tare.errors import InvalidArgument

_SYS_OPENAT2 = 437  # the same number on every architecture
_RESOLVE_IN_ROOT = 0x10
_RESOLVE_NO_MAGICLINKS = 0x02
_MAX_LINKS = 40  # the kernel's own limit, path_resolution(7)


@functools.cache
def _libc() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    return library


def open_beneath(root_fd: int, path: str, flags: int, mode: int = 0) -> int:
    """Open ``path`` with the directory ``root_fd`` as ``/`` (openat2(2), RESOLVE_IN_ROOT); returns a descriptor.

    Raises OSError as open(2) does; ELOOP for link cycles, EINVAL for zero bytes.
    """
    if "\0" in path:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, mode, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
    encoded = os.fsencode(path or ".")
    for _ in range(100):
        fd: int = _libc().syscall(
            ctypes.c_long(_SYS_OPENAT2),
            ctypes.c_long(root_fd),
            ctypes.c_char_p(encoded),
            ctypes.c_char_p(how),
            ctypes.c_long(len(how)),
        )
        if fd >= 0:
            return fd
        number = ctypes.get_errno()
        if number not in (errno.EAGAIN, errno.EINTR):  # EAGAIN: something was renamed meanwhile, openat2(2)
            raise OSError(number, os.strerror(number), path)
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), path)


def open_in_root(root: Path, path: str, flags: int = os.O_RDONLY, mode: int = 0) -> int:
    """Open ``path`` inside ``root``; returns a descriptor that the caller closes. Raises OSError."""
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return open_beneath(root_fd, path, flags, mode)
    finally:
        os.close(root_fd)


def open_file_in_root(root: Path, path: str) -> int:
    """Open the regular file ``path`` inside ``root`` for reading; returns a descriptor that the caller closes.

    A device node is never opened, which alone may do harm (a watchdog begins to run), nor a pipe, which would wait.
    Raises OSError: IsADirectoryError, or EINVAL for whatever else is no regular file.
    """
    found = open_in_root(root, path, os.O_PATH)
    try:
        mode = os.fstat(found).st_mode
        if not stat.S_ISREG(mode):
            number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
            raise OSError(number, "not a regular file", path)
        return os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(found)


def make_directories_in_root(root: Path, path: str, *, mode: int = 0o755, uid: int = 0, gid: int = 0) -> None:
    """Make the directory ``path`` inside ``root`` and the missing ones above it, with this mode and owner.

    What exists stays as it is. Raises InvalidArgument when something on the way is no directory.
    """
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        parts = [part for part in path.split("/") if part not in ("", ".")]
        for length in range(1, len(parts) + 1):
            _make_directory(root_fd, parts[:length], mode, (uid, gid))
    except OSError as error:
        raise InvalidArgument(f"cannot make the directory {path}: {error.strerror}") from error
    finally:
        os.close(root_fd)


def _make_directory(root_fd: int, parts: list[str], mode: int, owner: tuple[int, int]) -> None:
    parent, name = "/".join(parts[:-1]), parts[-1]
    try:
        os.close(open_beneath(root_fd, f"{parent}/{name}", os.O_PATH | os.O_DIRECTORY))
        return
    except FileNotFoundError:
        parent_fd = open_beneath(root_fd, parent, os.O_PATH | os.O_DIRECTORY)
    try:
        os.mkdir(name, 0o700, dir_fd=parent_fd)
        os.chown(name, *owner, dir_fd=parent_fd, follow_symlinks=False)
        os.chmod(name, mode, dir_fd=parent_fd)
    finally:
        os.close(parent_fd)


def resolve_in_root(root: Path, path: str) -> Path:
    """The host path of ``path`` inside ``root`` with all links followed as if ``root`` were ``/``.

    Components that do not exist are kept as they are. The answer holds only while nobody else changes the tree. Raises
    InvalidArgument for link cycles and zero bytes.
    """
    if "\0" in path:
        raise InvalidArgument(f"invalid path {path!r}: it has a zero byte")
    pending = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    resolved: list[str] = []
    links = 0
    while pending:
        part = pending.pop()
        if part == "..":
            if resolved:
                resolved.pop()
            continue
        candidate = root.joinpath(*resolved, part)
        try:
            target = os.readlink(candidate)  # noqa: PTH115 - a plain string, not normalised by pathlib
        except OSError:
            resolved.append(part)
            continue
        links += 1
        if links > _MAX_LINKS:
            raise InvalidArgument(f"{path}: too many levels of symbolic links")
        if target.startswith("/"):
            resolved.clear()
        pending.extend(part for part in reversed(target.split("/")) if part not in ("", "."))
    return root.joinpath(*resolved)
