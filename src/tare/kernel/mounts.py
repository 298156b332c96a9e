"""Mounts: overlay and bind mounts, the mount table, and orderly unmounting.

Uses the mount API of Linux 5.2 (fsopen(2), open_tree(2), mount_setattr(2)): overlay's ``lowerdir+`` (Linux 6.5) is free
of the one-page limit that mount(2) puts on its options. Older kernels fall back to mount(2).
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tare.errors import InternalError, Unsupported
from tare.kernel import syscalls

_OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT, _MOUNT_SETATTR = 428, 429, 430, 431, 432, 442
_FSOPEN_CLOEXEC = _FSMOUNT_CLOEXEC = 1
_SET_STRING, _CMD_CREATE = 1, 6
_MOUNT_ATTR_RDONLY = 0x1
_MOVE_MOUNT_F_EMPTY_PATH = 0x4
_OPEN_TREE_CLONE = 0x1
_AT_EMPTY_PATH, _AT_RECURSIVE, _AT_FDCWD = 0x1000, 0x8000, -100
_FSCONFIG_LIMIT = 255  # strndup_user limit in fsconfig(2)
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PROPAGATION = {
    "private": syscalls.MS_PRIVATE,
    "rprivate": syscalls.MS_PRIVATE | syscalls.MS_REC,
    "slave": syscalls.MS_SLAVE,
    "rslave": syscalls.MS_SLAVE | syscalls.MS_REC,
    "shared": syscalls.MS_SHARED,
    "rshared": syscalls.MS_SHARED | syscalls.MS_REC,
}
# index: no file handles kept, so lowers may be shared between mounts. metacopy, redirect_dir: an upper directory must
# be complete in itself to become a layer, and a layer must not point elsewhere.
_OVERLAY_OPTIONS = (("index", "off"), ("metacopy", "off"), ("redirect_dir", "nofollow"))


@dataclass(frozen=True, slots=True)
class MountEntry:
    """One line of /proc/self/mountinfo, unescaped (proc_pid_mountinfo(5))."""

    mount_id: int
    parent_id: int
    device: str
    root: str
    target: str
    options: str
    fstype: str
    source: str
    super_options: str
    tags: tuple[str, ...] = ()

    @property
    def is_shared(self) -> bool:
        """Whether mounts made here appear in peers (mount_namespaces(7))."""
        return any(tag.startswith("shared:") for tag in self.tags)

    @property
    def is_slave(self) -> bool:
        """Whether mounts made in a master appear here."""
        return any(tag.startswith("master:") for tag in self.tags)

    def super_option(self, name: str) -> str | None:
        """The value of ``name=value`` among the file system's options."""
        for option in self.super_options.split(","):
            key, equals, value = option.partition("=")
            if key == name and equals:
                return _unescape(value)
        return None

    def overlay_directories(self) -> set[str]:
        """The directories of an overlay as its options tell them: ``lowerdir=a:b``, ``lowerdir+=a``, ``upperdir=a``."""
        found: set[str] = set()
        for option in self.super_options.split(","):
            key, _, value = option.partition("=")
            if key.rstrip("+") in ("lowerdir", "upperdir"):
                found.update(_unescape(part) for part in value.split(":"))
        return found


def mount_overlay(
    lowers: Sequence[Path], upper: Path | None, work: Path | None, target: Path, *, empty: Path | None = None
) -> None:
    """Mount ``lowers`` (bottom first) at ``target``, writable into ``upper`` or read-only without one.

    A layer that is there twice counts where it is higher: all that it says below, it says again. ``empty`` is an empty
    directory that stands in where overlayfs wants more lowers than there are; by default ``target`` itself, which then
    has to be empty. Raises InternalError naming ``target``, Unsupported where an old kernel cannot take so many layers.
    """
    stack = list(dict.fromkeys(os.fspath(lower) for lower in reversed(lowers)))
    stand_in = os.fspath(empty if empty is not None else target)
    while len(stack) < (1 if upper is not None else 2):
        stack.append(stand_in)
        if len(stack) == 2 and stack[0] == stack[1]:
            _mount_empty(target)
            return
    try:
        try:
            _new_overlay(stack, upper, work, target)
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EINVAL, errno.ENAMETOOLONG):
                raise
            _old_overlay(stack, upper, work, target)
    except OSError as error:
        raise InternalError(f"{target}: cannot mount {len(lowers)} layers: {error.strerror}") from error


def bind_mount(
    source: Path, target: Path, *, read_only: bool = False, recursive: bool = True, propagation: str = "rprivate"
) -> None:
    """Make ``source`` visible at ``target``, with the mounts below it when ``recursive``.

    With ``read_only`` those are read-only too. Raises InternalError naming both.
    """
    try:
        _bind(os.fspath(source), os.fspath(target), read_only=read_only, recursive=recursive)
        if propagation:
            syscalls.mount("", os.fspath(target), None, _PROPAGATION[propagation])
    except OSError as error:
        raise InternalError(f"{target}: cannot bind {source}: {error.strerror}") from error


def mount_tmpfs(target: Path, *, size: int, mode: int = 0o700) -> None:
    """Mount an empty file system in memory, ``size`` bytes at most, at a directory. Raises OSError."""
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
    syscalls.mount("tmpfs", str(target), "tmpfs", flags, f"size={size},mode={mode:o}")


def mount_table() -> list[MountEntry]:
    """The mounts that this process sees, in the order they were made."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:  # noqa: PTH123
        return parse_mount_table(table)


def parse_mount_table(lines: Iterable[str]) -> list[MountEntry]:
    """Read lines of a mountinfo file, proc_pid_mountinfo(5)."""
    return [_parse(line) for line in lines]


def is_mount_point(path: Path) -> bool:
    """Whether something is mounted at exactly ``path`` (bind mounts too)."""
    wanted = os.path.realpath(path)
    return any(entry.target == wanted for entry in mount_table())


def restrictions(path: Path) -> tuple[str, ...]:
    """What the mount that ``path`` is on forbids: some of ``ro``, ``nosuid``, ``nodev``, ``noexec`` (statvfs(3)).

    A bind mount has them, too, until it is mounted anew with other options, as crun does with every one. Nothing for a
    path that cannot be looked at: it cannot be mounted either.
    """
    try:
        flags = os.statvfs(path).f_flag
    except OSError:
        return ()
    known = {"ro": os.ST_RDONLY, "nosuid": os.ST_NOSUID, "nodev": os.ST_NODEV, "noexec": os.ST_NOEXEC}
    return tuple(name for name, flag in known.items() if flags & flag)


def unmount(path: Path) -> None:
    """Take away the topmost mount at ``path``; quiet when there is none. A busy one is detached."""
    try:
        syscalls.umount(os.fspath(path))
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):
            return
        if error.errno != errno.EBUSY:
            raise InternalError(f"{path}: cannot unmount: {error.strerror}") from error
        try:
            syscalls.umount(os.fspath(path), syscalls.MNT_DETACH)
        except OSError as second:
            if second.errno != errno.EINVAL:
                raise InternalError(f"{path}: cannot detach: {second.strerror}") from second


def unmount_below(path: Path) -> list[str]:
    """Unmount everything at and below ``path``, innermost first; returns what was unmounted."""
    top = os.path.realpath(path)
    below = [entry.target for entry in mount_table() if entry.target == top or entry.target.startswith(f"{top}/")]
    for target in reversed(below):
        unmount(Path(target))
    return below[::-1]


def _mount_empty(target: Path) -> None:
    try:
        syscalls.mount("tmpfs", os.fspath(target), "tmpfs", syscalls.MS_RDONLY, "mode=755,size=4k")
    except OSError as error:
        raise InternalError(f"{target}: cannot mount an empty directory: {error.strerror}") from error


@functools.cache
def _libc() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    return library


def _syscall(number: int, subject: str, *arguments: int | bytes | None) -> int:
    converted = [
        ctypes.c_long(argument) if isinstance(argument, int) else ctypes.c_char_p(argument) for argument in arguments
    ]
    result: int = _libc().syscall(ctypes.c_long(number), *converted)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), subject)
    return result


def _new_overlay(stack: list[str], upper: Path | None, work: Path | None, target: Path) -> None:
    options: list[tuple[str, str]] = [("source", "overlay"), *_OVERLAY_OPTIONS]
    options += [("lowerdir+", path) for path in stack]
    if upper is not None:
        options += [("upperdir", os.fspath(upper)), ("workdir", os.fspath(work or ""))]
    # Kernels differ in whether they unescape backslashes here; with mount(2) all do.
    if any(len(os.fsencode(value)) > _FSCONFIG_LIMIT or "\\" in value for _, value in options):
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    subject = os.fspath(target)
    context = _syscall(_FSOPEN, subject, b"overlay", _FSOPEN_CLOEXEC)
    try:
        for key, value in options:
            _syscall(_FSCONFIG, subject, context, _SET_STRING, key.encode(), os.fsencode(value), 0)
        _syscall(_FSCONFIG, subject, context, _CMD_CREATE, None, None, 0)
        read_only = _MOUNT_ATTR_RDONLY if upper is None else 0
        tree = _syscall(_FSMOUNT, subject, context, _FSMOUNT_CLOEXEC, read_only)
    finally:
        os.close(context)
    try:
        _syscall(_MOVE_MOUNT, subject, tree, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH)
    finally:
        os.close(tree)


def _old_overlay(stack: list[str], upper: Path | None, work: Path | None, target: Path) -> None:
    options = [f"{key}={value}" for key, value in _OVERLAY_OPTIONS]
    options.append("lowerdir=" + ":".join(_escape(path, ":") for path in stack))
    if upper is not None:
        options += [f"upperdir={_escape(os.fspath(upper))}", f"workdir={_escape(os.fspath(work or ''))}"]
    data = ",".join(options)
    if len(os.fsencode(data)) >= _PAGE:
        raise Unsupported(
            f"{target}: the mount options of {len(stack)} layers exceed one page",
            hint="use Linux 6.5 or newer, or a shorter data root",
        )
    syscalls.mount("overlay", os.fspath(target), "overlay", syscalls.MS_RDONLY if upper is None else 0, data)


def _escape(path: str, more: str = "") -> str:
    return re.sub(rf"([\\,{more}])", r"\\\1", path)


def _bind(source: str, target: str, *, read_only: bool, recursive: bool) -> None:
    recurse = _AT_RECURSIVE if recursive else 0
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | recurse
    tree = _syscall(_OPEN_TREE, source, _AT_FDCWD, os.fsencode(source), flags)
    try:
        if read_only:
            attributes = struct.pack("=QQQQ", _MOUNT_ATTR_RDONLY, 0, 0, 0)
            _syscall(_MOUNT_SETATTR, target, tree, b"", _AT_EMPTY_PATH | recurse, attributes, len(attributes))
        _syscall(_MOVE_MOUNT, target, tree, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH)
    finally:
        os.close(tree)


def _parse(line: str) -> MountEntry:
    before, _, after = line.rstrip("\n").partition(" - ")
    mount_id, parent_id, device, root, target, options, *tags = before.split(" ")
    fstype, source, super_options = after.split(" ", 2)
    return MountEntry(
        int(mount_id),
        int(parent_id),
        device,
        _unescape(root),
        _unescape(target),
        options,
        fstype,
        _unescape(source),
        super_options,
        tuple(tags),
    )


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
