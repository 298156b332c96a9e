"""Id-mapped mounts: the same files, owned by other ids (mount_setattr(2) with MOUNT_ATTR_IDMAP, Linux 5.12).

An id-mapped mount takes its map from a user namespace. A user namespace cannot be made by one thread of many
(unshare(2)), so a child process makes it and waits while its maps are written.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from tare.errors import InternalError, InvalidArgument, Unsupported
from tare.kernel import syscalls
from tare.kernel.mounts import mount_overlay, mount_table
from tare.kernel.private_mounts import wait_in_private_mounts

T = TypeVar("T")
LAST_ID = (1 << 32) - 2
"""The highest id; the one above it stands for \"none\" (user_namespaces(7))."""
_OVERLAY_KERNEL = (5, 19)
_MAX_LINES = 340  # what the kernel takes in one map


@dataclass(frozen=True, slots=True)
class IdMap:
    """``count`` ids: those from ``stored`` on are stored in the file system, and seen as those from ``seen`` on."""

    stored: int
    seen: int
    count: int

    def line(self) -> str:
        """The line of ``/proc/PID/uid_map`` (user_namespaces(7))."""
        return f"{self.stored} {self.seen} {self.count}"


class DetachedMount:
    """A mount that is nowhere yet; a context manager that lets go of it. What was attached stays."""

    def __init__(self, fd: int, source: Path) -> None:
        self.fd = fd
        self._source = source

    def attach(self, target: Path) -> None:
        """Make it visible at ``target``, a directory or a file as the source is. Raises InternalError naming both."""
        try:
            syscalls.move_mount(self.fd, os.fspath(target))
        except OSError as error:
            raise InternalError(f"{target}: cannot mount {self._source} there: {error.strerror}") from error

    def attach_to(self, fd: int) -> None:
        """Make it visible on what ``fd`` (O_PATH) stands for, whatever its path. Raises InternalError."""
        try:
            syscalls.move_mount_to(self.fd, fd)
        except OSError as error:
            raise InternalError(f"cannot mount {self._source}: {error.strerror}") from error

    def make_read_only(self) -> None:
        """Let nobody write through it or the mounts below it; other mounts of the same files are left alone.

        Raises InternalError.
        """
        try:
            syscalls.mount_setattr(
                self.fd, os.fspath(self._source), attributes=syscalls.MOUNT_ATTR_RDONLY, recursive=True
            )
        except OSError as error:
            raise InternalError(f"{self._source}: cannot make its copy read-only: {error.strerror}") from error

    def close(self) -> None:
        """Release the descriptor; a mount that was never attached is gone then."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> DetachedMount:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def clone_idmapped(
    path: Path,
    uid_maps: Sequence[IdMap],
    gid_maps: Sequence[IdMap],
    *,
    read_only: bool = False,
    recursive: bool = False,
) -> DetachedMount:
    """A copy of the mount at ``path`` in which ids are seen as the maps say; blocks for some milliseconds.

    Ids that no map names are seen as the overflow id (65534), and nobody can create files as them. Raises Unsupported
    naming the file system or the kernel that cannot do it, InvalidArgument for maps that the kernel refuses,
    InternalError for other failures.
    """
    with user_namespace(uid_maps, gid_maps) as namespace:
        return clone_with_namespace(path, namespace, read_only=read_only, recursive=recursive)


def clone_with_namespace(
    path: Path, namespace: int, *, read_only: bool = False, recursive: bool = False
) -> DetachedMount:
    """As :func:`clone_idmapped` with the maps of an open user namespace, for several mounts with the same maps."""
    flags = syscalls.OPEN_TREE_CLONE | syscalls.OPEN_TREE_CLOEXEC | (syscalls.AT_RECURSIVE if recursive else 0)
    attributes = syscalls.MOUNT_ATTR_IDMAP | (syscalls.MOUNT_ATTR_RDONLY if read_only else 0)
    try:
        mount = DetachedMount(syscalls.open_tree(os.fspath(path), flags), path)
    except OSError as error:
        raise _error(path, error) from error
    try:
        syscalls.mount_setattr(mount.fd, os.fspath(path), attributes=attributes, userns=namespace, recursive=recursive)
    except OSError as error:
        mount.close()
        raise _error(path, error) from error
    return mount


@contextlib.contextmanager
def user_namespace(uid_maps: Sequence[IdMap], gid_maps: Sequence[IdMap]) -> Iterator[int]:
    """A descriptor of a new user namespace with these maps, while the context lasts.

    Raises InvalidArgument for impossible maps, Unsupported where user namespaces are switched off.
    """
    _check(uid_maps)
    _check(gid_maps)
    with waiting_child(["--user"]) as pid:
        write_maps(pid, uid_maps, gid_maps)
        fd = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def waiting_child(options: Sequence[str]) -> Iterator[int]:
    """The id of a process in new namespaces (options of unshare(1)), which ends with the context.

    Raises Unsupported with the program's words when the kernel makes none.
    """
    with subprocess.Popen(
        ["unshare", *options, "cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
    ) as child:
        assert child.stdin is not None and child.stdout is not None and child.stderr is not None
        with contextlib.suppress(BrokenPipeError):
            child.stdin.write(b"\n")
            child.stdin.flush()
        if not child.stdout.read(1):  # cat answers once it runs, and it runs inside the namespaces
            words = child.stderr.read(4096).decode(errors="replace").strip()
            raise Unsupported(
                f"this kernel gives no new namespace: {words}", hint="see /proc/sys/user/max_user_namespaces"
            )
        yield child.pid


def write_maps(pid: int, uid_maps: Sequence[IdMap], gid_maps: Sequence[IdMap]) -> None:
    """Write the maps of a process's user namespace, which can be done once. Raises InvalidArgument."""
    for name, maps in (("uid_map", uid_maps), ("gid_map", gid_maps)):
        try:
            Path(f"/proc/{pid}/{name}").write_text("".join(f"{entry.line()}\n" for entry in maps))
        except OSError as error:
            ranges = ", ".join(entry.line() for entry in maps)
            raise InvalidArgument(f"the kernel refuses the id map {ranges}: {error.strerror}") from error


def _check(maps: Sequence[IdMap]) -> None:
    if not 0 < len(maps) <= _MAX_LINES:
        raise InvalidArgument(f"an id map has 1 to {_MAX_LINES} ranges, not {len(maps)}")
    for entry in maps:
        for first in (entry.stored, entry.seen):
            if entry.count < 1 or first < 0 or first + entry.count - 1 > LAST_ID:
                raise InvalidArgument(f"the id map {entry.line()} leaves the range of ids, 0 to {LAST_ID}")
    for side in ("stored", "seen"):
        ordered = sorted(maps, key=lambda entry: int(getattr(entry, side)))
        for one, other in itertools.pairwise(ordered):
            if getattr(one, side) + one.count > getattr(other, side):
                raise InvalidArgument(f"the id maps {one.line()} and {other.line()} overlap")


def _error(path: Path, error: OSError) -> Exception:
    if error.errno == errno.ENOSYS:
        return Unsupported("this kernel has no id-mapped mounts", hint="they need Linux 5.12 or newer")
    if error.errno in (errno.EINVAL, errno.EPERM):
        kind = file_system_of(path)
        return Unsupported(
            f"{path}: the file system {kind} cannot be mounted with other ids",
            hint="use ext4, xfs or btrfs, or a newer kernel",
            code="no-idmap",
        )
    return InternalError(f"{path}: cannot map its ids: {error.strerror}")


def file_system_of(path: Path) -> str:
    """The type of the file system that ``path`` is on, such as ``ext4``; ``unknown`` when it cannot be told."""
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        text = Path(f"/proc/self/fdinfo/{fd}").read_text()
    finally:
        os.close(fd)
    wanted = next((int(line.split()[1]) for line in text.splitlines() if line.startswith("mnt_id:")), -1)
    return next((entry.fstype for entry in mount_table() if entry.mount_id == wanted), "unknown")


def mount_mapped_overlay(
    lowers: Sequence[Path],
    snapshot: Path,
    target: Path,
    maps: Sequence[IdMap],
    *,
    empty: Path,
) -> None:
    """As ``mounts.mount_overlay`` with every layer id-mapped (Linux 5.19): files are stored with plain ids.

    ``snapshot`` holds the directories ``upper`` and ``work``. The mapped layers exist only in a mount namespace that is
    gone when this returns, so that nothing is left even by a crash. Raises as ``clone_idmapped`` and ``mount_overlay``.
    """

    def work(namespace: int) -> int:
        for place in dict.fromkeys((*lowers, snapshot, empty)):
            with clone_with_namespace(place, namespace) as mapped:
                mapped.attach(place)
        try:
            mount_overlay(lowers, snapshot / "upper", snapshot / "work", target, empty=empty)
        except InternalError as error:
            if _kernel() >= _OVERLAY_KERNEL:
                raise
            raise Unsupported(
                f"overlayfs of Linux {os.uname().release} takes no layers with other ids: {error.message}",
                hint="--userns auto needs Linux 5.19 or newer",
                code="no-idmap",
            ) from error
        return syscalls.open_tree(os.fspath(target), syscalls.OPEN_TREE_CLONE | syscalls.OPEN_TREE_CLOEXEC)

    with user_namespace(maps, maps) as namespace:
        tree = wait_in_private_mounts(lambda: work(namespace))
    with DetachedMount(tree, snapshot) as mount:
        mount.attach(target)


def _kernel() -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def container_maps(first: int, size: int) -> list[IdMap]:
    """The map of a container's layers: stored 0 is seen as ``first``.

    The host's root gets the stored id above the range: overlayfs makes its working files as root, and could not if root
    were no one there. The container cannot reach that id.
    """
    return [IdMap(0, first, size), IdMap(size, 0, 1)]
