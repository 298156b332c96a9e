"""Directory trees that somebody else has made: however deep and however large they are."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEEP = 64  # levels of open directories; what lies deeper is moved up first
_THREADS = 4  # each name that goes makes its thread wait for the disk's journal for a moment
_MANY = 16  # directories to do from which on it is worth more than one thread
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
    can make in a container, could not be deleted; and it waits for the disk with every name. Raises OSError naming what
    cannot go; NotADirectoryError for a link.
    """
    name = os.fspath(path)
    top = _Directory(name, None, 1, os.open(name, _DIRECTORY, dir_fd=dir_fd))
    try:
        _Removal(top).run()
    finally:
        top.close()
    os.rmdir(name, dir_fd=dir_fd)


def try_to_remove_tree(path: Path | str) -> None:
    """The same, leaving what cannot go, or is not there, without a word."""
    with contextlib.suppress(OSError):
        remove_tree(path)


class _Directory:
    """One that is to go when all in it has gone; ``left`` counts the directories in it, and its own files as one."""

    def __init__(self, name: str, parent: _Directory | None, level: int, fd: int = -1) -> None:
        self.name = name
        self.parent = parent
        self.level = level
        self.fd = fd
        self.left = 1

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class _Removal:
    """The latest directories found go first, so that few are open at a time."""

    def __init__(self, top: _Directory) -> None:
        self._top = top
        self._todo = [top]
        self._opened = {top}
        self._changed = threading.Condition()
        self._error: BaseException | None = None

    def run(self) -> None:
        """Delete all below the top. Raises OSError; no descriptor but the top's is open afterwards."""
        helpers: list[threading.Thread] = []
        try:
            while (directory := self._next()) is not None:
                self._empty(directory)
                if not helpers and len(self._todo) >= _MANY:
                    helpers = [threading.Thread(target=self._help, name="remove", daemon=True) for _ in range(_THREADS)]
                    for helper in helpers:
                        helper.start()
        except BaseException as error:
            self._fail(error)
        finally:
            for helper in helpers:
                helper.join()
            for directory in self._opened - {self._top}:
                directory.close()
        if self._error is not None:
            raise self._error

    def _help(self) -> None:
        try:
            while (directory := self._next()) is not None:
                self._empty(directory)
        except BaseException as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def _next(self) -> _Directory | None:
        """What to do next; waits while all that is left is in the hands of others."""
        with self._changed:
            while not self._todo and self._top.left and self._error is None:
                self._changed.wait()
            return self._todo.pop() if self._todo and self._error is None else None

    def _empty(self, directory: _Directory) -> None:
        if directory.parent is not None:
            directory.fd = os.open(directory.name, _DIRECTORY, dir_fd=directory.parent.fd)
            with self._changed:
                self._opened.add(directory)
        names = _remove_files(directory.fd)
        if directory.level >= _DEEP:
            below = [_Directory(_move_up(name, directory.fd, self._top.fd), self._top, 2) for name in names]
        else:
            below = [_Directory(name, directory, directory.level + 1) for name in names]
        with self._changed:
            for child in below:
                assert child.parent is not None
                child.parent.left += 1
            self._todo += below
            self._changed.notify(len(below))
        self._done(directory)

    def _done(self, directory: _Directory) -> None:
        """One thing less in ``directory``, which goes with the last one."""
        while True:
            with self._changed:
                directory.left -= 1
                if directory.left:
                    return
                if directory.parent is None:
                    self._changed.notify_all()
                    return
                self._opened.discard(directory)
            directory.close()
            os.rmdir(directory.name, dir_fd=directory.parent.fd)
            directory = directory.parent


def _remove_files(fd: int) -> list[str]:
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
    moved = secrets.token_hex(16)  # which nobody can have foreseen
    os.rename(name, moved, src_dir_fd=fd, dst_dir_fd=top)
    return moved
