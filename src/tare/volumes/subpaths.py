"""Mount a path inside a directory that is not trusted: what is opened is what is mounted."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tare.archive.confined import open_beneath
from tare.errors import InternalError, InvalidArgument, NotFound
from tare.kernel import syscalls


def mount_subpath(root: Path, subpath: str, target: Path) -> None:
    """Make ``subpath`` of ``root`` visible at ``target``, which is made: a directory or an empty file as it fits.

    Links are resolved with ``root`` as ``/`` (openat2(2), RESOLVE_IN_ROOT) and the descriptor is mounted
    (open_tree(2)): a link that is put in its place meanwhile changes nothing. Raises NotFound in Docker's words,
    InvalidArgument for what is neither file nor directory, InternalError.
    """
    place = root / subpath
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = open_beneath(root_fd, subpath, os.O_PATH)
    except OSError as error:
        raise NotFound(
            f"cannot access path {place}: lstat {place}: {(error.strerror or str(error)).lower()}",
            code="subpath-missing",
        ) from error
    finally:
        os.close(root_fd)
    try:
        _mount_descriptor(fd, place, target)
    finally:
        os.close(fd)


def _mount_descriptor(fd: int, place: Path, target: Path) -> None:
    mode = os.fstat(fd).st_mode
    if stat.S_ISDIR(mode):
        target.mkdir()
    elif stat.S_ISREG(mode):
        target.touch()
    else:
        raise InvalidArgument(f"{place} is neither a file nor a directory", code="invalid-subpath")
    flags = syscalls.OPEN_TREE_CLONE | syscalls.OPEN_TREE_CLOEXEC | syscalls.AT_RECURSIVE
    try:
        tree = syscalls.open_tree(f"/proc/self/fd/{fd}", flags)
        try:
            syscalls.move_mount(tree, os.fspath(target))
        finally:
            os.close(tree)
    except OSError as error:
        raise InternalError(f"{target}: cannot mount {place} there: {error.strerror}") from error
