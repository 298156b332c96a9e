"""Unpack layer tars into directories, confined to the directory whatever the archive says."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

from tare.archive.confined import open_beneath
from tare.archive.entry import Entry, Kind
from tare.archive.file_writers import FileWriters
from tare.archive.tar_stream import DEFAULT_LIMITS, Limits, iter_entries
from tare.base.readers import CHUNK, Readable
from tare.base.trees import remove_tree
from tare.errors import DataCorrupt, InternalError

__all__ = ["DEFAULT_LIMITS", "OPAQUE_XATTR", "Limits", "extract_layer", "extract_tree", "iter_entries"]

WHITEOUT_PREFIX = ".wh."  # OCI image-spec, layer.md, "Whiteouts"
OPAQUE_MARKER = ".wh..wh..opq"
_METADATA_PREFIX = ".wh..wh."  # aufs' own files, never content
OPAQUE_XATTR = "trusted.overlay.opaque"
_OVERLAY_XATTRS = "trusted.overlay."  # a layer must not steer the overlay file system
_PATH_FD = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SMALL = 256 << 10  # bytes of a file that one of several threads makes
_XATTR_SPACE = 1 << 20  # bytes; no attribute is larger than 64 kB, xattr(7)
_FOREIGN_ATTRIBUTE = (errno.ENOTSUP, errno.EPERM, errno.EINVAL, errno.ENODATA)


def extract_layer(stream: Readable, directory: Path, *, limits: Limits = DEFAULT_LIMITS) -> None:
    """Unpack a layer into the empty ``directory`` in the form of an overlay lower directory.

    Whiteouts become character devices 0/0, opaque markers the attribute ``trusted.overlay.opaque``. Needs root. Raises
    DataCorrupt naming the member for everything that leads outside or cannot be made, OSError for the disk's errors.
    """
    _extract(stream, directory, limits, whiteouts=True)


def extract_tree(
    stream: Readable,
    directory: Path,
    *,
    limits: Limits = DEFAULT_LIMITS,
    check: Callable[[Entry], None] | None = None,
) -> None:
    """Unpack any tar into ``directory``; names with ``.wh.`` are ordinary files. Otherwise as :func:`extract_layer`.

    Absolute paths and paths with ``..`` are refused, which layers may have as long as they stay inside.
    ``check`` sees each entry before it is made and refuses it by raising.
    """
    _extract(stream, directory, limits, whiteouts=False, check=check)


def _extract(
    stream: Readable,
    directory: Path,
    limits: Limits,
    *,
    whiteouts: bool,
    check: Callable[[Entry], None] | None = None,
) -> None:
    with _Extractor(directory) as extractor:
        for entry, content in iter_entries(stream, limits=limits, allow_absolute=whiteouts):
            if check is not None:
                check(entry)
            try:
                if not (whiteouts and extractor.whiteout(entry)):
                    extractor.add(entry, content)
            except OSError as error:
                raise _as_tare_error(entry, error) from error
        extractor.finish()


def _as_tare_error(entry: Entry, error: OSError) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.EROFS):
        return error
    if error.errno in (errno.EPERM, errno.EACCES) and entry.kind is not Kind.HARDLINK:  # EPERM: link to a directory
        return InternalError(f"cannot unpack {entry.path!r}: {error.strerror}", hint="unpacking layers needs root")
    return DataCorrupt(f"tar member {entry.path[:200]!r} cannot be unpacked: {error.strerror}")


class _Extractor:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._root = -1
        self._parent = -1
        self._parent_path: str | None = None
        self._parent_inode = 0
        self._directory_times: dict[str, int] = {}
        self._writers = FileWriters()

    def __enter__(self) -> _Extractor:
        self._root = os.open(self._directory, _PATH_FD)
        return self

    def __exit__(self, *_: object) -> None:
        self._writers.close()
        self._forget_parent()
        os.close(self._root)

    def add(self, entry: Entry, content: Readable | None) -> None:
        """Make one member, replacing what an earlier one made."""
        if not entry.path:
            if entry.kind is Kind.DIRECTORY:
                self._set_metadata(entry, ".", self._root)
            return
        parent_path, _, name = entry.path.rpartition("/")
        parent = self._open_parent(parent_path)
        self._writers.settle((self._parent_inode, name))
        replaced = self._clear(parent, name, keep_directory=entry.kind is Kind.DIRECTORY)
        if entry.kind is Kind.FILE:
            assert content is not None
            if entry.size <= _SMALL:
                self._write_later(entry, name, parent, content)
            else:
                _write_file(entry, name, parent, content)
            return
        if entry.kind is Kind.HARDLINK:
            self._writers.settle()
            self._link(entry, name, parent)
            return
        if entry.kind is Kind.DIRECTORY:
            if replaced != "directory":
                os.mkdir(name, 0o700, dir_fd=parent)
            self._set_metadata(entry, name, parent)
            if replaced == "whiteout":
                self._set_opaque(name, parent)
            return
        if entry.kind is Kind.SYMLINK:
            os.symlink(entry.target, name, dir_fd=parent)
        else:
            kind = {Kind.CHARACTER: stat.S_IFCHR, Kind.BLOCK: stat.S_IFBLK, Kind.FIFO: stat.S_IFIFO}[entry.kind]
            os.mknod(name, kind | 0o600, os.makedev(entry.major, entry.minor), dir_fd=parent)
        self._set_metadata(entry, name, parent)

    def whiteout(self, entry: Entry) -> bool:
        """Handle whiteouts and opaque markers; tells whether ``entry`` was one."""
        parent_path, _, name = entry.path.rpartition("/")
        if not name.startswith(WHITEOUT_PREFIX):
            return False
        self._writers.settle()
        if name == OPAQUE_MARKER:
            parent = self._open_parent(parent_path)
            self._set_opaque(".", parent)
            return True
        if name.startswith(_METADATA_PREFIX):
            return True
        hidden = name[len(WHITEOUT_PREFIX) :]
        if hidden in ("", ".", ".."):
            raise DataCorrupt(f"tar member {entry.path!r}: invalid whiteout")
        parent = self._open_parent(parent_path)
        try:
            found = os.stat(hidden, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            os.mknod(hidden, stat.S_IFCHR, os.makedev(0, 0), dir_fd=parent)
        else:
            # A whiteout hides what is below, never what its own layer adds.
            if stat.S_ISDIR(found.st_mode):
                self._set_opaque(hidden, parent)
        return True

    def finish(self) -> None:
        """Wait for the files, and set the times of directories, which making their members has changed."""
        self._writers.settle()
        for path, mtime in self._directory_times.items():
            try:
                fd = open_beneath(self._root, path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            except OSError:
                continue  # replaced by something else later in the archive
            try:
                os.utime(fd, (mtime, mtime))
            finally:
                os.close(fd)

    def _open_parent(self, path: str) -> int:
        if path == self._parent_path:
            return self._parent
        self._forget_parent()
        self._parent = self._open_or_make(path)
        self._parent_path, self._parent_inode = path, os.fstat(self._parent).st_ino
        return self._parent

    def _open_or_make(self, path: str) -> int:
        if (fd := self._try_to_open(path)) is not None:
            return fd
        self._writers.settle()  # what seems to be missing may be a file that is being made
        missing: list[str] = []
        while (fd := self._try_to_open(path)) is None:
            path, _, name = path.rpartition("/")
            missing.append(name)
        while missing:
            name = missing.pop()
            try:
                os.mkdir(name, 0o755, dir_fd=fd)
                os.chmod(name, 0o755, dir_fd=fd)  # noqa: S103 - whatever the umask says
                below = os.open(name, _PATH_FD | os.O_NOFOLLOW, dir_fd=fd)
            finally:
                os.close(fd)
            fd = below
        return fd

    def _try_to_open(self, path: str) -> int | None:
        try:
            return open_beneath(self._root, path, _PATH_FD)
        except FileNotFoundError:
            return None

    def _forget_parent(self) -> None:
        if self._parent >= 0:
            os.close(self._parent)
        self._parent, self._parent_path = -1, None

    def _clear(self, parent: int, name: str, *, keep_directory: bool) -> str:
        """Remove what has the name; answers ``""`` (nothing), ``directory`` (kept), ``whiteout`` or ``other``."""
        try:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return ""
        if stat.S_ISDIR(found.st_mode):
            if keep_directory:
                return "directory"
            self._writers.settle()
            remove_tree(name, dir_fd=parent)
            # The cached parent may lie below what was removed by way of a link; the one in use stays open.
            self._parent_path = None
            return "other"
        os.unlink(name, dir_fd=parent)
        if stat.S_ISLNK(found.st_mode):
            self._parent_path = None
        return "whiteout" if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0 else "other"

    def _write_later(self, entry: Entry, name: str, parent: int, content: Readable) -> None:
        data = BytesIO()
        while chunk := content.read(_SMALL):
            data.write(chunk)
        data.seek(0)
        directory = os.dup(parent)

        def write(*, wanted: bool) -> None:
            try:
                if wanted:
                    _write_file(entry, name, directory, data)
            except OSError as error:
                raise _as_tare_error(entry, error) from error
            finally:
                os.close(directory)

        self._writers.add((self._parent_inode, name), write)

    def _link(self, entry: Entry, name: str, parent: int) -> None:
        upper, _, target_name = entry.target.rpartition("/")
        if not target_name:
            raise DataCorrupt(f"tar member {entry.path!r}: hard link to the root")
        target_parent = open_beneath(self._root, upper, _PATH_FD)
        try:
            os.link(target_name, name, src_dir_fd=target_parent, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(target_parent)

    def _set_metadata(self, entry: Entry, name: str, parent: int) -> None:
        os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        if entry.kind is not Kind.SYMLINK:
            # The name was made a moment ago in a directory nobody else uses, so it is no link here.
            os.chmod(name, entry.mode, dir_fd=parent)
        for attribute, value in entry.xattrs.items():
            _set_xattr(f"/proc/self/fd/{parent}/{name}", attribute, value)
        if entry.kind is Kind.DIRECTORY:
            self._directory_times[entry.path] = entry.mtime
        else:
            os.utime(name, (entry.mtime, entry.mtime), dir_fd=parent, follow_symlinks=False)

    def _set_opaque(self, name: str, parent: int) -> None:
        os.setxattr(f"/proc/self/fd/{parent}/{name}", OPAQUE_XATTR, b"y")


def _write_file(entry: Entry, name: str, parent: int, content: Readable) -> None:
    fd = os.open(name, _CREATE, 0o600, dir_fd=parent)
    try:
        while chunk := content.read(CHUNK):
            view = memoryview(chunk)
            while view:
                view = view[os.write(fd, view) :]
        os.fchown(fd, entry.uid, entry.gid)
        os.fchmod(fd, entry.mode)
        for attribute, value in entry.xattrs.items():
            _set_xattr(fd, attribute, value)
        os.utime(fd, (entry.mtime, entry.mtime))
    finally:
        os.close(fd)


def _set_xattr(target: int | str, name: str, value: bytes) -> None:
    if name.startswith(_OVERLAY_XATTRS):
        return
    try:
        if isinstance(target, int):
            os.setxattr(target, name, value)
        else:
            os.setxattr(target, name, value, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.ENOSPC and _has_space(target):
            raise OSError(errno.E2BIG, f"the extended attribute {name} is too large for this file system") from error
        # What this file system cannot hold is left out, as Docker does; it is no fault of the archive.
        if error.errno not in _FOREIGN_ATTRIBUTE:
            raise


def _has_space(target: int | str) -> bool:
    """Whether ENOSPC meant the room that an inode has for attributes (ext4), not the disk."""
    status = os.statvfs(target if isinstance(target, int) else target.rpartition("/")[0])
    return status.f_bavail * status.f_frsize > _XATTR_SPACE
