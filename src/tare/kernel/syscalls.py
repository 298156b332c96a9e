"""System calls that the standard library of Python 3.11 lacks, with one error path: OSError naming the object."""

from __future__ import annotations

import ctypes
import functools
import os
import struct

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_MOVE = 0x2000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
MS_SHARED = 0x100000
MNT_DETACH = 0x2
SYNC_FILE_RANGE_WAIT_BEFORE, SYNC_FILE_RANGE_WRITE, SYNC_FILE_RANGE_WAIT_AFTER = 0x1, 0x2, 0x4
CLONE_NEWNET = 0x40000000
CLONE_NEWNS = 0x00020000
CLONE_FS = 0x00000200
OPEN_TREE_CLONE, OPEN_TREE_CLOEXEC = 0x1, 0x80000
MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH = 0x4, 0x40
AT_FDCWD, AT_EMPTY_PATH, AT_RECURSIVE = -100, 0x1000, 0x8000
MOUNT_ATTR_RDONLY, MOUNT_ATTR_IDMAP = 0x1, 0x100000
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442  # the same on every architecture


@functools.cache
def _libc() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    library.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
    library.umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]
    library.setns.argtypes = [ctypes.c_int, ctypes.c_int]
    library.unshare.argtypes = [ctypes.c_int]
    library.sync_file_range.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    library.syscall.restype = ctypes.c_long
    return library


def _check(result: int, call: str, subject: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}", subject)
    return result


def mount(source: str, target: str, fstype: str | None = None, flags: int = 0, data: str | None = None) -> None:
    """mount(2). Raises OSError with ``target`` as its file name."""
    result = _libc().mount(
        os.fsencode(source),
        os.fsencode(target),
        fstype.encode() if fstype is not None else None,
        flags,
        os.fsencode(data) if data is not None else None,
    )
    _check(result, f"mount {fstype or source}", target)


def start_writeback(fd: int, offset: int, length: int) -> None:
    """Begin to write a range of a file to disk without waiting, sync_file_range(2). Raises OSError."""
    _check(_libc().sync_file_range(fd, offset, length, SYNC_FILE_RANGE_WRITE), "sync_file_range", str(fd))


def wait_for_writeback(fd: int, offset: int, length: int) -> None:
    """Write a range of a file to disk and wait for it, sync_file_range(2). Raises OSError."""
    flags = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER
    _check(_libc().sync_file_range(fd, offset, length, flags), "sync_file_range", str(fd))


def umount(target: str, flags: int = 0) -> None:
    """umount2(2). Raises OSError."""
    _check(_libc().umount2(os.fsencode(target), flags), "umount", target)


def setns(fd: int, kind: int) -> None:
    """setns(2) for the calling thread. Raises OSError."""
    _check(_libc().setns(fd, kind), "setns", f"fd {fd}")


def unshare(flags: int) -> None:
    """unshare(2) for the calling thread. Raises OSError."""
    _check(_libc().unshare(flags), "unshare", f"{flags:#x}")


def open_tree(path: str, flags: int) -> int:
    """open_tree(2): a descriptor of the mount at ``path``, with OPEN_TREE_CLONE of a detached copy. Raises OSError."""
    return _syscall(_OPEN_TREE, "open_tree", path, AT_FDCWD, os.fsencode(path), flags)


def move_mount(tree: int, target: str) -> None:
    """move_mount(2): attach the detached mount ``tree`` at ``target``. Raises OSError with ``target``."""
    _syscall(_MOVE_MOUNT, "move_mount", target, tree, b"", AT_FDCWD, os.fsencode(target), MOVE_MOUNT_F_EMPTY_PATH)


def move_mount_to(tree: int, fd: int) -> None:
    """move_mount(2) onto the file or directory that ``fd`` (O_PATH) stands for. Raises OSError."""
    flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    _syscall(_MOVE_MOUNT, "move_mount", f"fd {fd}", tree, b"", fd, b"", flags)


def mount_setattr(tree: int, subject: str, *, attributes: int, userns: int = 0, recursive: bool = False) -> None:
    """mount_setattr(2) on the mount ``tree``: set ``attributes``. Raises OSError naming ``subject``."""
    block = struct.pack("=QQQQ", attributes, 0, 0, userns)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    _syscall(_MOUNT_SETATTR, "mount_setattr", subject, tree, b"", flags, block, len(block))


def _syscall(number: int, call: str, subject: str, *arguments: int | bytes) -> int:
    converted = [
        ctypes.c_long(argument) if isinstance(argument, int) else ctypes.c_char_p(argument) for argument in arguments
    ]
    return _check(int(_libc().syscall(ctypes.c_long(number), *converted)), call, subject)
