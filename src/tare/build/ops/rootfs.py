"""Looking into a root file system that is only seen from outside: paths, users and groups.

Symbolic links are followed as if the directory were ``/``; nothing outside it is ever reached.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from tare.errors import InvalidArgument, NotFound

_MAX_LINKS = 40  # as the kernel's limit, path_resolution(7)
_MAX_DATABASE = 8 << 20  # bytes of /etc/passwd or /etc/group that are read


def resolve(
    root: Path | str, path: str, *, follow_last: bool = True, written: Mapping[str, str | None] = MappingProxyType({})
) -> str:
    """``path`` inside ``root`` with links followed: relative, without leading slash; the root itself is ``""``.

    Components that do not exist are kept as they are. ``written`` is what will be there beside: the targets of links by
    path, None for anything else. Raises InvalidArgument for a chain of too many links.
    """
    base = os.fspath(root)
    pending = [part for part in path.split("/") if part not in ("", ".")][::-1]
    done: list[str] = []
    links = 0
    while pending:
        part = pending.pop()
        if part == "..":
            if done:
                done.pop()
            continue
        candidate = os.path.join(base, *done, part)  # noqa: PTH118 - hot path, strings
        if pending or follow_last:
            inside = "/".join((*done, part)) if written else ""
            if inside in written:
                target = written[inside]
            else:
                try:
                    target = os.readlink(candidate)  # noqa: PTH115
                except OSError:
                    target = None
            if target is not None:
                links += 1
                if links > _MAX_LINKS:
                    raise InvalidArgument(f"{path}: too many levels of symbolic links")
                if target.startswith("/"):
                    done.clear()
                pending.extend(item for item in reversed(target.split("/")) if item not in ("", "."))
                continue
        done.append(part)
    return "/".join(done)


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link inside a root: its path there and what it says."""

    path: str
    target: str


def leaving_link(root: Path, path: str) -> Link | None:
    """The link on the way to ``path`` that leads out of ``root``, seen from the host; None where none does."""
    done: list[str] = []
    for part in (part for part in path.split("/") if part not in ("", ".")):
        if part == "..":
            done = done[:-1]
            continue
        done.append(part)
        place = root.joinpath(*done)
        if not place.is_symlink():
            continue
        target = os.readlink(place)  # noqa: PTH115 - as it is written
        if not f"{os.path.realpath(place)}/".startswith(f"{os.path.realpath(root)}/"):
            return Link("/".join(done), target)
    return None


def lstat(root: Path | str, resolved: str) -> os.stat_result | None:
    """The status of a path from :func:`resolve`; None when it does not exist."""
    try:
        return os.lstat(os.path.join(root, resolved))  # noqa: PTH118
    except (FileNotFoundError, NotADirectoryError):
        return None


def is_directory(status: os.stat_result | None) -> bool:
    """Whether ``status`` is a directory's."""
    return status is not None and stat.S_ISDIR(status.st_mode)


@dataclass(frozen=True, slots=True)
class Owner:
    """Numeric owner."""

    uid: int
    gid: int


ROOT = Owner(0, 0)


def find_owner(root: Path, text: str) -> Owner:
    """The owner that ``user[:group]`` means in ``root``, names looked up in its own /etc/passwd and /etc/group.

    A user name alone brings its primary group, a number alone is the group's number too (Dockerfile reference, COPY
    --chown). Raises NotFound for a name that is not there.
    """
    user, _, group = text.partition(":")
    owner = _find_user(root, user) if user else ROOT
    if group:
        owner = Owner(owner.uid, _find_group(root, group))
    return owner


def _find_user(root: Path, user: str) -> Owner:
    if user.isdecimal():
        return Owner(int(user), int(user))
    for fields in _records(root, "etc/passwd", 4):
        if fields[0] == user and fields[2].isdecimal() and fields[3].isdecimal():
            return Owner(int(fields[2]), int(fields[3]))
    raise NotFound(
        f"user {user!r}: no such entry in the image's /etc/passwd", hint="create the user first, or give a numeric id"
    )


def _find_group(root: Path, group: str) -> int:
    if group.isdecimal():
        return int(group)
    for fields in _records(root, "etc/group", 3):
        if fields[0] == group and fields[2].isdecimal():
            return int(fields[2])
    raise NotFound(
        f"group {group!r}: no such entry in the image's /etc/group", hint="create the group first, or give a numeric id"
    )


def _records(root: Path, path: str, least: int) -> list[list[str]]:
    resolved = resolve(root, path)
    status = lstat(root, resolved)
    if status is None or not stat.S_ISREG(status.st_mode):
        return []
    with (root / resolved).open("rb") as stream:
        text = stream.read(_MAX_DATABASE).decode(errors="replace")
    return [fields for line in text.splitlines() if len(fields := line.split(":")) >= least]
