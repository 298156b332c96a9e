"""One member of a layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """What a member is."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    HARDLINK = "hardlink"
    CHARACTER = "character"
    BLOCK = "block"
    FIFO = "fifo"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Metadata of one member.

    ``path`` is relative, without leading or trailing slash; the root itself is ``""``. ``mode`` has the permission
    bits (0o7777), ``mtime`` is in seconds, ``size`` in bytes and only for files. ``target`` is the text of a
    symbolic link or the path (same form as ``path``) of a hard link's first name. ``xattrs`` maps full names
    (``security.capability``) to values.
    """

    path: str
    kind: Kind
    mode: int
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    size: int = 0
    target: str = ""
    major: int = 0
    minor: int = 0
    xattrs: Mapping[str, bytes] = field(default_factory=dict)
