"""What a step writes a second time: files of the layers below that it replaces or removes, and that still ship."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")


def hidden_by(paths: Iterable[str], root: Path) -> int:
    """Bytes of the files of ``root`` (relative, resolved ``paths``) that a layer with these members hides."""
    top = os.fspath(root)
    there: dict[str, bool] = {"": True}
    total = 0
    for path in paths:
        above = path.rpartition("/")[0]
        exists = there.get(above)
        if exists is None:
            exists = there[above] = os.path.isdir(f"{top}/{above}")  # noqa: PTH112 - strings, hot path
        if exists:
            total += _size(f"{top}/{path}")
    return total


def weigh_upper(upper: Path, root: Path) -> tuple[int, int]:
    """Bytes of the files in an overlay upper directory, and of the files of ``root`` that it hides.

    A hard-linked file counts once. Hidden is what is replaced, whited out, or below an opaque directory.
    """
    total = hidden = 0
    seen: set[tuple[int, int]] = set()
    pending = [("", True)]
    while pending:
        directory, visible = pending.pop()
        with os.scandir(f"{upper}/{directory}") as found:
            for item in found:
                path = f"{directory}/{item.name}".lstrip("/")
                below = f"{root}/{path}"
                if item.is_dir(follow_symlinks=False):
                    opaque = visible and _is_opaque(item.path)
                    hidden += _tree_size(below) if opaque else 0
                    pending.append((path, visible and not opaque and os.path.isdir(below)))  # noqa: PTH112
                    continue
                status = item.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode) and (status.st_dev, status.st_ino) not in seen:
                    total += status.st_size
                    if status.st_nlink > 1:
                        seen.add((status.st_dev, status.st_ino))
                hidden += _tree_size(below) if visible else 0
    return total, hidden


def _is_opaque(path: str) -> bool:
    for name in _OPAQUE:
        try:
            if os.getxattr(path, name, follow_symlinks=False) in (b"y", b"x"):
                return True
        except OSError:
            continue
    return False


def _size(path: str) -> int:
    try:
        status = os.lstat(path)
    except OSError:
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def _tree_size(path: str) -> int:
    """The bytes of a file, or of all files below a directory; 0 for what is not there."""
    if not os.path.isdir(path) or os.path.islink(path):  # noqa: PTH112, PTH114
        return _size(path)
    return sum(_size(f"{directory}/{name}") for directory, _, names in os.walk(path) for name in names)
