"""What files take on disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tare.base.trees import scan_directory

_BLOCK = 512  # bytes of st_blocks' unit, whatever the file system's own is (stat(3type))


def disk_usage(directory: Path, *, itself: bool = True) -> int:
    """Bytes that a tree takes on disk, every hard-linked file once, as ``du`` counts; 0 where there is none.

    What vanishes meanwhile counts for nothing. Without ``itself`` the top directory's own blocks are left out.
    """
    total = file_usage(directory) if itself else 0
    seen: set[tuple[int, int]] = set()
    pending = [os.fspath(directory)]
    while pending:
        try:
            with scan_directory(pending.pop()) as found:
                total += _usage_of(found, seen, pending)
        except (FileNotFoundError, NotADirectoryError):
            continue
    return total


def _usage_of(found: Iterator[tuple[str, os.DirEntry[str]]], seen: set[tuple[int, int]], pending: list[str]) -> int:
    total = 0
    for path, item in found:
        try:
            status = item.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        is_directory = item.is_dir(follow_symlinks=False)
        if status.st_nlink > 1 and not is_directory:
            identity = (status.st_dev, status.st_ino)
            if identity in seen:
                continue
            seen.add(identity)
        total += status.st_blocks * _BLOCK
        if is_directory:
            pending.append(path)
    return total


def file_usage(path: Path) -> int:
    """Bytes that one file, or a directory's own list of names, takes on disk; 0 where there is none."""
    try:
        return path.lstat().st_blocks * _BLOCK
    except (FileNotFoundError, NotADirectoryError):
        return 0
