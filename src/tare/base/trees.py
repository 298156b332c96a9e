"""Directory trees that somebody else has made: however deep they are."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEEP = 64  # open directories; what lies deeper is moved up first
_PIECE = 3800  # bytes of a path that one call takes, and a name in that directory as well (PATH_MAX is 4096)


@contextmanager
def scan_directory(path: str) -> Iterator[Iterator[tuple[str, os.DirEntry[str]]]]:
    """The paths and entries of a directory, whose own path may be longer than the kernel takes. Raises OSError."""
    with contextlib.ExitStack() as stack:
        if len(os.fsencode(path)) < _PIECE:
            found = os.scandir(path)
        else:
            fd = _open_in_pieces(path)
            stack.callback(os.close, fd)
            found = os.scandir(fd)
        yield ((f"{path}/{item.name}", item) for item in stack.enter_context(found))


def _open_in_pieces(path: str) -> int:
    rest = os.fsencode(path)
    fd = os.open("/" if path.startswith("/") else ".", _DIRECTORY)
    while rest := rest.lstrip(b"/"):
        end = len(rest) if len(rest) <= _PIECE else rest.rindex(b"/", 0, _PIECE)
        try:
            below = os.open(rest[:end], _DIRECTORY, dir_fd=fd)
        finally:
            os.close(fd)
        fd, rest = below, rest[end:]
    return fd


def remove_tree(path: Path | str, *, dir_fd: int | None = None) -> None:
    """Delete the directory ``path`` (relative to ``dir_fd``, if given) and all that is in it; links are not followed.

    ``shutil.rmtree`` needs a frame and a descriptor per level, so that a tree of some thousand levels, which anybody
    can make in a container, could not be deleted. Raises OSError naming what cannot go; NotADirectoryError for a link.
    """
    name = os.fspath(path)
    top = os.open(name, _DIRECTORY, dir_fd=dir_fd)
    levels = [(top, name, _empty(top))]
    try:
        while len(levels) > 1 or levels[0][2]:
            fd, name, below = levels[-1]
            if not below:
                levels.pop()
                os.close(fd)
                os.rmdir(name, dir_fd=levels[-1][0])
                continue
            child = below.pop()
            if len(levels) == _DEEP:
                levels[0][2].append(_move_up(child, fd, top))
                continue
            try:
                opened = os.open(child, _DIRECTORY, dir_fd=fd)
            except FileNotFoundError:
                continue  # an empty one that made way for one moved up
            levels.append((opened, child, []))
            levels[-1][2].extend(_empty(opened))
    finally:
        for fd, _, _ in levels:
            os.close(fd)
    os.rmdir(os.fspath(path), dir_fd=dir_fd)


def try_to_remove_tree(path: Path | str) -> None:
    """The same, leaving what cannot go, or is not there, without a word."""
    with contextlib.suppress(OSError):
        remove_tree(path)


def _empty(fd: int) -> list[str]:
    """Delete what is no directory; the names of the directories."""
    directories = []
    with os.scandir(fd) as found:
        for item in found:
            if item.is_dir(follow_symlinks=False):
                directories.append(item.name)
            else:
                os.unlink(item.name, dir_fd=fd)
    return directories


def _move_up(name: str, fd: int, top: int) -> str:
    number = 0
    while True:
        moved = f"{name[:40]}.{number}"
        try:
            os.rename(name, moved, src_dir_fd=fd, dst_dir_fd=top)
        except (FileExistsError, NotADirectoryError):
            number += 1
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
            number += 1
        else:
            return moved
