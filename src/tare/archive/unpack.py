"""Unpack tars into a live file tree that somebody else may change at the same time (``docker cp`` into a container).

Parents are found from the tree's root with its own links (openat2(2), RESOLVE_IN_ROOT); what has been made is changed
through its descriptor only. So a process inside that swaps names for links can never lead the writer out.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

from tare.archive.confined import open_beneath
from tare.archive.entry import Entry, Kind
from tare.archive.tar_stream import iter_entries
from tare.base.readers import CHUNK, Readable
from tare.base.trees import remove_tree
from tare.errors import DataCorrupt, InvalidArgument

_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FOREIGN_ATTRIBUTE = (errno.ENOTSUP, errno.EPERM, errno.EINVAL, errno.ENODATA)
_HOLE = 4096  # zeros, in bytes, that are worth a hole
_REFUSED_ATTRIBUTES = "trusted.overlay."
_NODES = {Kind.CHARACTER: stat.S_IFCHR, Kind.BLOCK: stat.S_IFBLK, Kind.FIFO: stat.S_IFIFO}


def unpack_into(
    stream: Readable,
    root: Path,
    directory: str,
    *,
    keep_kinds: bool = False,
    owner: tuple[int, int] | None = None,
    first_id: int = 0,
    holes: bool = False,
) -> None:
    """Unpack the tar ``stream`` at the path ``directory`` inside ``root``; what is there already stays or is replaced.

    ``keep_kinds`` refuses to put a directory in the place of something else or the other way round; ``owner`` (uid,
    gid) replaces the owners in the archive. ``first_id`` is what owner 0 is seen as (id-mapped mounts). ``holes``: long
    rows of zeros take no space. What was unpacked before an error stays, a file that could not be written in full
    does not. Raises DataCorrupt for damaged archives and names that lead out,
    InvalidArgument for what may not be replaced, OSError.
    """
    with _Unpacker(root, directory, keep_kinds=keep_kinds, owner=owner, first_id=first_id, holes=holes) as unpacker:
        for entry, content in iter_entries(stream):
            try:
                unpacker.add(entry, content)
            except OSError as error:
                raise OSError(error.errno, error.strerror, f"{directory.rstrip('/')}/{entry.path}") from error
        unpacker.finish()


class _Unpacker:
    def __init__(
        self,
        root: Path,
        directory: str,
        *,
        keep_kinds: bool,
        owner: tuple[int, int] | None,
        first_id: int,
        holes: bool,
    ) -> None:
        self._first_id = first_id
        self._holes = holes
        self._root_path = root
        self._base = directory.strip("/")
        self._keep_kinds = keep_kinds
        self._owner = owner
        self._root = -1
        self._times: dict[str, int] = {}

    def __enter__(self) -> _Unpacker:
        self._root = os.open(self._root_path, _DIRECTORY)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._root)

    def add(self, entry: Entry, content: Readable | None) -> None:
        if not entry.path:
            if entry.kind is Kind.DIRECTORY:
                fd = open_beneath(self._root, self._place(""), _DIRECTORY)
                try:
                    self._describe(entry, fd)
                finally:
                    os.close(fd)
            return
        parent_path, _, name = entry.path.rpartition("/")
        parent = self._open_or_make(parent_path)
        try:
            self._add(entry, content, parent, name)
        finally:
            os.close(parent)

    def _add(self, entry: Entry, content: Readable | None, parent: int, name: str) -> None:
        is_directory = entry.kind is Kind.DIRECTORY
        kept = self._clear(entry, parent, name, is_directory=is_directory)
        if entry.kind is Kind.FILE:
            assert content is not None
            self._write(entry, content, parent, name)
            return
        if entry.kind is Kind.HARDLINK:
            self._link(entry, parent, name)
            return
        if is_directory and not kept:
            os.mkdir(name, 0o700, dir_fd=parent)
        elif entry.kind is Kind.SYMLINK:
            os.symlink(entry.target, name, dir_fd=parent)
        elif entry.kind in _NODES:
            os.mknod(name, _NODES[entry.kind] | 0o600, os.makedev(entry.major, entry.minor), dir_fd=parent)
        fd = os.open(name, _PATH | (os.O_DIRECTORY if is_directory else 0), dir_fd=parent)
        try:
            self._describe(entry, fd)
        finally:
            os.close(fd)

    def finish(self) -> None:
        """Set the times of directories, which making their members has changed."""
        for path, mtime in self._times.items():
            try:
                fd = open_beneath(self._root, self._place(path), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            except OSError:
                continue  # replaced meanwhile
            try:
                os.utime(fd, (mtime, mtime))
            finally:
                os.close(fd)

    def _place(self, path: str) -> str:
        return f"{self._base}/{path}" if self._base else path or "."

    def _open_or_make(self, path: str) -> int:
        missing: list[str] = []
        while (fd := self._try_to_open(path)) is None:
            path, _, name = path.rpartition("/")
            missing.append(name)
        while missing:
            try:
                below = self._make(missing.pop(), fd)
            finally:
                os.close(fd)
            fd = below
        return fd

    def _try_to_open(self, path: str) -> int | None:
        try:
            return open_beneath(self._root, self._place(path), _DIRECTORY)
        except FileNotFoundError:
            if not path:
                raise
            return None

    def _make(self, name: str, parent: int) -> int:
        os.mkdir(name, 0o755, dir_fd=parent)
        fd = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        if self._first_id:
            os.chown(f"/proc/self/fd/{fd}", self._first_id, self._first_id)
        os.chmod(f"/proc/self/fd/{fd}", 0o755)  # noqa: PTH101, S103 - whatever the umask says
        return fd

    def _clear(self, entry: Entry, parent: int, name: str, *, is_directory: bool) -> bool:
        """Make way for ``entry``; True when the directory that is there stays."""
        try:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return False
        was_directory = stat.S_ISDIR(found.st_mode)
        if self._keep_kinds and was_directory is not is_directory:
            there, new = ("directory", "non-directory") if was_directory else ("non-directory", "directory")
            raise InvalidArgument(
                f'cannot overwrite {there} "{entry.path}" with {new} "/{self._base}"', code="kind-differs"
            )
        if was_directory and is_directory:
            return True
        if was_directory:
            remove_tree(name, dir_fd=parent)
        else:
            os.unlink(name, dir_fd=parent)
        return False

    def _write(self, entry: Entry, content: Readable, parent: int, name: str) -> None:
        fd = os.open(name, _CREATE, 0o600, dir_fd=parent)
        try:
            self._fill(fd, content)
            os.fchown(fd, *self._owner_of(entry))
            os.fchmod(fd, entry.mode)
            _set_attributes(entry, fd)
            os.utime(fd, (entry.mtime, entry.mtime))
        except BaseException:
            _remove_torn(fd, parent, name)
            raise
        finally:
            os.close(fd)

    def _fill(self, fd: int, content: Readable) -> None:
        size = written = 0
        while chunk := content.read(CHUNK):
            size += len(chunk)
            if self._holes and len(chunk) >= _HOLE and chunk.count(0) == len(chunk):
                os.lseek(fd, len(chunk), os.SEEK_CUR)
                continue
            view = memoryview(chunk)
            while view:
                view = view[os.write(fd, view) :]
            written = size
        if written < size:  # it ends in a hole
            os.truncate(fd, size)

    def _link(self, entry: Entry, parent: int, name: str) -> None:
        upper, _, target = entry.target.rpartition("/")
        if not target:
            raise DataCorrupt(f"tar member {entry.path!r}: hard link to the root")
        source = open_beneath(self._root, self._place(upper), _DIRECTORY)
        try:
            os.link(target, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(source)

    def _describe(self, entry: Entry, fd: int) -> None:
        """Owner, mode, attributes and times of what the descriptor ``fd`` (O_PATH) stands for, be it a link."""
        itself = f"/proc/self/fd/{fd}"
        os.chown(itself, *self._owner_of(entry))
        if entry.kind is not Kind.SYMLINK:
            os.chmod(itself, entry.mode)  # noqa: PTH101
            _set_attributes(entry, itself)
        if entry.kind is Kind.DIRECTORY:
            self._times[entry.path] = entry.mtime
        else:
            os.utime(itself, (entry.mtime, entry.mtime))

    def _owner_of(self, entry: Entry) -> tuple[int, int]:
        uid, gid = self._owner or (entry.uid, entry.gid)
        return uid + self._first_id, gid + self._first_id


def _remove_torn(fd: int, parent: int, name: str) -> None:
    """Remove the file ``fd``, of which a part is missing, unless its name stands for something else by now."""
    with contextlib.suppress(OSError):
        if os.path.samestat(os.fstat(fd), os.stat(name, dir_fd=parent, follow_symlinks=False)):
            os.unlink(name, dir_fd=parent)


def _set_attributes(entry: Entry, target: int | str) -> None:
    for name, value in entry.xattrs.items():
        if name.startswith(_REFUSED_ATTRIBUTES):
            continue
        try:
            os.setxattr(target, name, value)
        except OSError as error:
            if error.errno not in _FOREIGN_ATTRIBUTE:
                raise
