"""Files of containers as the API gives them: ContainerPathStat, FilesystemChange."""

from __future__ import annotations

import base64
import stat
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from tare.archive.changes import Change
from tare.archive.resource import ResourceStat

STAT_HEADER = "X-Docker-Container-Path-Stat"

# Go's os.FileMode: the type and the special bits are at the top, unlike in stat(2).
_TYPES = {
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFCHR: 1 << 26 | 1 << 21,
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
}
_SPECIAL = ((stat.S_ISUID, 1 << 23), (stat.S_ISGID, 1 << 22), (stat.S_ISVTX, 1 << 20))


def go_mode(mode: int) -> int:
    """A mode of stat(2) as Go's ``os.FileMode``."""
    result = mode & 0o777 | _TYPES.get(stat.S_IFMT(mode), 0)
    return result | sum(theirs for ours, theirs in _SPECIAL if mode & ours)


def render_stat(found: ResourceStat) -> str:
    """The value of the header: base64 of ContainerPathStat's JSON."""
    seconds, nanoseconds = divmod(found.mtime_ns, 1_000_000_000)
    fraction = f".{nanoseconds:09d}".rstrip("0").rstrip(".")
    moment = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}{fraction}Z"
    document = {
        "name": found.name,
        "size": found.size,
        "mode": go_mode(found.mode),
        "mtime": moment,
        "linkTarget": found.link_target,
    }
    return base64.b64encode(msgspec.json.encode(document)).decode()


def render_changes(changes: Iterable[Change]) -> list[dict[str, Any]] | None:
    """The list of FilesystemChange; null without any, as in Docker."""
    return [{"Path": f"/{change.path}", "Kind": int(change.kind)} for change in changes] or None
