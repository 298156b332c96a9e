"""A container's file system seen from the host: its root, and what is mounted over it.

Nothing in it is trusted, and processes may change it meanwhile: each component is opened relative to the one before,
without following links, so that no link leads out; only regular files are read, and never more than asked for.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_MAX_LINKS = 40  # the kernel's own limit, path_resolution(7)
_MAX_PARTS = 1024
_MAX_NAMES = 10_000
_ACCESS_LIST = "system.posix_acl_access"
_STEP = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class Outcome(enum.Enum):
    """How looking a path up ended."""

    FOUND = "found"
    MISSING = "missing"
    NOT_DIRECTORY = "not a directory"
    LOOP = "loop"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """Something mounted in the container. ``source`` is a path of the host, None for an empty file system in memory.

    What is ``opaque`` (``/proc``) cannot be seen from outside. ``label`` is how the user knows it.
    """

    destination: str
    source: Path | None
    label: str
    noexec: bool = False
    opaque: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who looks, for permission bits. ``bypass``: the capability to search every directory is there."""

    uid: int = 0
    groups: tuple[int, ...] = (0,)
    bypass: bool = True

    def may(self, info: os.stat_result, bit: int) -> bool:
        """Whether permission ``bit`` (4 read, 2 write, 1 execute or search) is granted."""
        if self.bypass:
            return bit != 1 or stat.S_ISDIR(info.st_mode) or bool(info.st_mode & 0o111)
        shift = 6 if info.st_uid == self.uid else 3 if info.st_gid in self.groups else 0
        return bool(info.st_mode >> shift & bit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What is at a path. ``path`` is canonical, up to the first component that is missing or in the way."""

    outcome: Outcome
    path: str
    info: os.stat_result | None = None
    mount: Mount | None = None
    links: tuple[tuple[str, str], ...] = ()
    blocked_at: str = ""
    noexec: bool = False

    @property
    def is_file(self) -> bool:
        """Whether a regular file is there."""
        return self.info is not None and stat.S_ISREG(self.info.st_mode)

    @property
    def is_directory(self) -> bool:
        """Whether a directory is there."""
        return self.info is not None and stat.S_ISDIR(self.info.st_mode)


@dataclass(slots=True)
class _Walk:
    """The state of a walk: canonical names with a descriptor each (-1 in an empty or opaque mount)."""

    names: list[str] = field(default_factory=list)
    fds: list[int] = field(default_factory=list)
    mounts: list[Mount | None] = field(default_factory=list)
    links: list[tuple[str, str]] = field(default_factory=list)
    blocked_at: str = ""

    @property
    def path(self) -> str:
        return "/" + "/".join(self.names)

    def cut(self, length: int) -> None:
        """Go back to the first ``length`` components."""
        del self.names[length:], self.fds[length + 1 :], self.mounts[length + 1 :]


class Tree:
    """Looks into a root file system with mounts."""

    def __init__(self, root: Path, mounts: Sequence[Mount] = (), identity: Identity | None = None) -> None:
        self.root = root
        self.mounts = tuple(mounts)
        self.identity = identity or Identity()
        self._by_path = {mount.destination.rstrip("/"): mount for mount in mounts}

    def without(self, mount: Mount) -> Tree:
        """The same tree as if ``mount`` were not there."""
        return Tree(self.root, [other for other in self.mounts if other is not mount], self.identity)

    def look(self, path: str) -> Look:
        """What is at ``path``, links followed. Never raises for what the tree holds."""
        with contextlib.ExitStack() as stack:
            return self._look(path, stack)[0]

    def read(self, path: str, size: int, offset: int = 0) -> bytes:
        """Up to ``size`` bytes of a regular file. Raises OSError when there is none."""
        with self.open(path) as fd:
            return os.pread(fd, size, offset)

    @contextlib.contextmanager
    def open(self, path: str) -> Iterator[int]:
        """A descriptor for reading a regular file, in a context. Raises OSError when there is none."""
        with contextlib.ExitStack() as stack:
            look, fd = self._look(path, stack)
            if not look.is_file or fd < 0:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            opened = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            stack.callback(os.close, opened)
            yield opened

    def has_access_list(self, path: str) -> bool:
        """Whether a file or directory has an access list (acl(5)), which says more than its permission bits."""
        with contextlib.ExitStack() as stack:
            look, fd = self._look(path, stack)
            if look.outcome is not Outcome.FOUND or fd < 0:
                return False
            try:
                os.getxattr(f"/proc/self/fd/{fd}", _ACCESS_LIST)
            except OSError:
                return False
            return True

    def names(self, path: str) -> list[str]:
        """Names in a directory, in no order, a bounded number of them; none when there is no such directory."""
        with contextlib.ExitStack() as stack:
            look, fd = self._look(path, stack)
            if not look.is_directory or fd < 0:
                return []
            opened = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, opened)
            found = []
            with os.scandir(opened) as entries:
                for entry in entries:
                    found.append(entry.name)
                    if len(found) >= _MAX_NAMES:
                        break
            return found

    def _look(self, path: str, stack: contextlib.ExitStack) -> tuple[Look, int]:
        walk = _Walk()
        try:
            walk.fds.append(_open(str(self.root), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, stack))
            walk.mounts.append(None)
            outcome = self._walk(walk, path, stack)
        except OSError as error:
            outcome = Outcome.MISSING if error.errno in (errno.ENOENT, errno.ENAMETOOLONG) else Outcome.UNKNOWN
        return self._answer(walk, outcome)

    def _answer(self, walk: _Walk, outcome: Outcome) -> tuple[Look, int]:
        mount, fd = (walk.mounts[-1], walk.fds[-1]) if walk.fds else (None, -1)
        info, noexec = None, mount is not None and mount.noexec
        if outcome is Outcome.FOUND:
            if fd < 0:
                outcome = Outcome.UNKNOWN
            else:
                info = os.fstat(fd)
                noexec = noexec or bool(os.fstatvfs(fd).f_flag & os.ST_NOEXEC)
        look = Look(
            outcome=outcome, path=walk.path, info=info, mount=mount, links=tuple(walk.links),
            blocked_at=walk.blocked_at, noexec=noexec,
        )  # fmt: skip
        return look, fd

    def _walk(self, walk: _Walk, path: str, stack: contextlib.ExitStack) -> Outcome:
        if "\0" in path:
            return Outcome.MISSING
        pending = _parts(path)
        steps = 0
        while pending:
            steps += 1
            part = pending.pop()
            if steps > _MAX_PARTS or len(walk.links) > _MAX_LINKS:
                return Outcome.LOOP
            outcome = self._step(walk, part, pending, stack)
            if outcome is not None:
                return outcome
        return Outcome.FOUND

    def _step(self, walk: _Walk, part: str, pending: list[str], stack: contextlib.ExitStack) -> Outcome | None:
        """Go one component on; None to go on."""
        if part == "..":
            walk.cut(max(len(walk.names) - 1, 0))
            return None
        here, mount = walk.fds[-1], walk.mounts[-1]
        if here >= 0:
            info = os.fstat(here)
            if not stat.S_ISDIR(info.st_mode):
                return Outcome.NOT_DIRECTORY
            if not walk.blocked_at and not self.identity.may(info, 1):
                walk.blocked_at = walk.path
        over = self._by_path.get("/" + "/".join([*walk.names, part]))
        if over is not None:
            fd = -1 if over.source is None else _open(str(over.source), os.O_PATH | os.O_CLOEXEC, stack)
            walk.names.append(part)
            walk.fds.append(fd)
            walk.mounts.append(over)
            return Outcome.UNKNOWN if over.opaque and pending else None
        walk.names.append(part)
        if here < 0:
            return Outcome.MISSING
        fd = _open(part, _STEP, stack, here)
        if stat.S_ISLNK(os.fstat(fd).st_mode):
            target = os.readlink("", dir_fd=fd)
            walk.links.append((walk.path, target))
            walk.cut(0 if target.startswith("/") else len(walk.names) - 1)
            pending.extend(_parts(target))
            return None
        walk.fds.append(fd)
        walk.mounts.append(mount)
        return None


def _parts(path: str) -> list[str]:
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _open(path: str, flags: int, stack: contextlib.ExitStack, dir_fd: int | None = None) -> int:
    fd = os.open(path, flags, dir_fd=dir_fd)
    stack.callback(os.close, fd)
    return fd
