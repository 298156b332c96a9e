"""Who a container runs as: names from the image's own ``/etc/passwd`` and ``/etc/group``."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tare.archive.confined import open_file_in_root
from tare.errors import InvalidArgument

MAX_FILE = 8 << 20
"""Bytes; a longer passwd or group file is refused."""
MAX_ID = (1 << 31) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class UserIds:
    """Numbers for the kernel. ``groups`` are the supplementary groups, the primary one first (as in Docker)."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def resolve_user(root: Path, user: str, group_add: Sequence[str] = ()) -> UserIds:
    """Resolve ``user`` (``""``, ``name``, ``uid``, ``name:group``, ``uid:gid``) in the root file system ``root``.

    A numeric user or group need not be listed. Without a group the primary one of the passwd file counts, and the
    groups that list the user are supplementary. Blocks (reads two files). Raises InvalidArgument with Docker's words.
    """
    passwd = [fields for line in _lines(root, "/etc/passwd") if len(fields := line.split(":")) >= 4]
    group_lines = [fields for line in _lines(root, "/etc/group") if len(fields := line.split(":")) >= 3]
    user_part, _, group_part = user.partition(":")
    entry = _find(passwd, user_part or "0")
    if entry is not None:
        uid, gid = _number(entry[2], user), _number(entry[3], user)
        name, home = entry[0], entry[5] if len(entry) > 5 else ""
    elif user_part.isdigit() or not user_part:
        uid, gid, name, home = _number(user_part or "0", user), 0, "", "/"
    elif re.fullmatch(r"-\d+", user_part):
        raise InvalidArgument(f"uids and gids must be in range 0-{MAX_ID}")
    else:
        raise InvalidArgument(f"unable to find user {user_part}: no matching entries in passwd file")
    groups: list[int] = []
    if group_part:
        gid = _group(group_lines, group_part)
    else:
        groups = [
            _number(fields[2], fields[0])
            for fields in group_lines
            if name and len(fields) > 3 and name in fields[3].split(",")
        ]
    groups += [_group(group_lines, added) for added in group_add]
    return UserIds(uid=uid, gid=gid, groups=tuple(dict.fromkeys([gid, *groups])), home=home)


def _lines(root: Path, path: str) -> list[str]:
    """The lines of a file of the image, which may be missing; a symbolic link cannot lead out of ``root``."""
    try:
        fd = open_file_in_root(root, path)
    except OSError:
        return []
    with os.fdopen(fd, "rb") as stream:
        data = stream.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise InvalidArgument(f"{path} in the image is larger than {MAX_FILE} bytes")
    lines = (line.strip() for line in data.decode(errors="replace").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _find(table: list[list[str]], key: str) -> list[str] | None:
    """The entry with this name, else with this number: a name that looks like a number wins, as in Docker."""
    by_name = next((fields for fields in table if fields[0] == key), None)
    if by_name is not None or not key.isdigit():
        return by_name
    return next((fields for fields in table if fields[2].isdigit() and int(fields[2]) == int(key)), None)


def _group(table: list[list[str]], key: str) -> int:
    entry = _find(table, key)
    if entry is not None:
        return _number(entry[2], key)
    if key.isdigit():
        return _number(key, key)
    raise InvalidArgument(f"unable to find group {key}: no matching entries in group file")


def _number(text: str, subject: str) -> int:
    if not text.isdigit() or int(text) > MAX_ID:
        raise InvalidArgument(f"uids and gids must be in range 0-{MAX_ID}", hint=f"{subject!r} is not")
    return int(text)
