"""What the kernel says about mounts of volumes: in this mount namespace and in those of all processes."""

from __future__ import annotations

import functools
import os
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tare.kernel.mounts import MountEntry, mount_table, parse_mount_table


@functools.cache
def boot_id() -> str:
    """Names this boot of the machine (random(4)); mounts do not outlive it."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@dataclass(frozen=True, slots=True)
class Holder:
    """Where a directory is mounted: ``target`` as process ``pid`` sees it; 0 stands for the engine itself."""

    pid: int
    target: str

    def __str__(self) -> str:
        return f"at {self.target}" if not self.pid else f"at {self.target} of process {self.pid}"


def holder_of(directory: Path) -> Holder | None:
    """A mount of ``directory``, of something in it, or on something in it, in any mount namespace; None: nowhere.

    Blocks for some milliseconds. Processes that end meanwhile are skipped.
    """
    wanted = os.path.realpath(directory)
    table = mount_table()
    place = _place(wanted, table)
    for entry in table:
        if _is_within(entry.target, wanted) or _shows(entry, place):
            return Holder(0, entry.target)
    for pid, other in _other_tables(_escape(posixpath.basename(wanted))):
        for entry in other:
            if _shows(entry, place):
                return Holder(pid, entry.target)
    return None


def mounted_at(path: Path) -> MountEntry | None:
    """The topmost mount at exactly ``path``; nothing on the mounted file system is touched."""
    wanted = os.fspath(path.parent.resolve() / path.name)
    return next((entry for entry in reversed(mount_table()) if entry.target == wanted), None)


def _place(path: str, table: list[MountEntry]) -> tuple[str, str]:
    """Device and path in its file system."""
    best = max(
        (entry for entry in table if _is_within(path, entry.target)),
        key=lambda entry: (len(entry.target), entry.mount_id),
    )
    relative = posixpath.relpath(path, best.target)
    return best.device, posixpath.normpath(posixpath.join(best.root, relative))


def _shows(entry: MountEntry, place: tuple[str, str]) -> bool:
    device, path = place
    return entry.device == device and _is_within(entry.root, path)


def _escape(text: str) -> str:
    return re.sub(r"[ \t\n\\]", lambda match: f"\\{ord(match[0]):03o}", text)


def _is_within(path: str, top: str) -> bool:
    return path == top or path.startswith(f"{top.rstrip('/')}/")


def _other_tables(part: str) -> Iterator[tuple[int, list[MountEntry]]]:
    """The mounts that processes in other mount namespaces see, where ``part`` occurs in the text of the table."""
    seen = {Path("/proc/self/ns/mnt").stat().st_ino}
    for name in os.listdir("/proc"):  # noqa: PTH208 - thousands of short strings
        if not name.isdecimal():
            continue
        try:
            namespace = os.stat(f"/proc/{name}/ns/mnt").st_ino  # noqa: PTH116
            if namespace in seen:
                continue
            seen.add(namespace)
            with open(f"/proc/{name}/mountinfo", encoding="utf-8", errors="surrogateescape") as table:  # noqa: PTH123
                text = table.read()
            if part in text:
                yield int(name), parse_mount_table(text.splitlines())
        except (OSError, ValueError):
            continue  # it has ended
