"""The local side of ``cp``: packing files into a tar stream and unpacking one that a container has made.

What comes from a container is not trusted: no link in a member's path is followed, whoever made it.
"""

from __future__ import annotations

import errno
import os
import posixpath
import shutil
import stat
import tarfile
from collections.abc import Callable
from typing import BinaryIO

from tare.errors import DataCorrupt, InvalidArgument

_CHUNK = 1 << 20
_XATTR = "SCHILY.xattr."
_FOREIGN_ATTRIBUTE = (errno.ENOTSUP, errno.EPERM, errno.EINVAL, errno.ENODATA)
_BUFFER = 1 << 14  # what tarfile copies at a time
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def pack(path: str, name: str, sink: BinaryIO, *, attributes: bool = False) -> None:
    """Write the file or directory ``path`` as a tar whose members begin with ``name``; sockets are left out.

    ``attributes``: with extended attributes. Raises OSError.
    """
    # Its own buffer is copied with each piece that comes: pieces of the buffer's size pass through.
    with tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT, bufsize=_BUFFER) as archive:
        _pack_one(archive, path, name, attributes=attributes)


def _pack_one(archive: tarfile.TarFile, path: str, name: str, *, attributes: bool) -> None:
    status = os.lstat(path)
    if stat.S_ISSOCK(status.st_mode):
        return
    member = archive.gettarinfo(path, arcname=name)
    member.name = name  # as it is: `./x` would lose its dot
    member.uname = member.gname = ""
    member.mtime = int(member.mtime)
    if attributes and (member.isreg() or member.isdir()):
        member.pax_headers = _attributes(path)
    if member.isreg():
        with open(path, "rb") as content:  # noqa: PTH123
            archive.addfile(member, content)
        return
    archive.addfile(member)
    if member.isdir():
        for child in sorted(os.listdir(path)):  # noqa: PTH208 - plain strings
            _pack_one(archive, posixpath.join(path, child), f"{name.rstrip('/')}/{child}", attributes=attributes)


def _attributes(path: str) -> dict[str, str]:
    """Extended attributes as pax records; bytes that are no text are written as they are (``hdrcharset``)."""
    try:
        return {
            f"{_XATTR}{name}": os.getxattr(path, name).decode("utf-8", "surrogateescape")
            for name in sorted(os.listxattr(path))
        }
    except OSError as error:
        if error.errno in _FOREIGN_ATTRIBUTE:
            return {}
        raise


def unpack(source: BinaryIO, directory: str, rename: Callable[[str], str], *, keep: bool = False) -> None:
    """Unpack a tar stream into ``directory``; members get the names that ``rename`` gives them.

    Owners stay the caller's unless ``keep``, which keeps extended attributes, too. Raises DataCorrupt, InvalidArgument
    when a directory would replace a file or the other way round and for owners that only root can give, OSError.
    """
    top = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    times: list[tuple[list[str], float, int]] = []
    try:
        with tarfile.open(fileobj=source, mode="r|", bufsize=_BUFFER) as archive:
            for member in archive:
                parts = _parts(rename(member.name))
                _unpack_one(archive, member, top, parts, rename)
                if keep and not member.islnk():
                    _keep(member, top, parts)
                if member.isdir():
                    times.append((parts, member.mtime, member.mode))
        for parts, mtime, mode in reversed(times):
            fd = _open(top, parts)
            os.fchmod(fd, mode & 0o7777)
            os.utime(fd, (mtime, mtime))
            os.close(fd)
    except tarfile.TarError as error:
        raise DataCorrupt(f"the copy is not a tar archive: {error}") from error
    finally:
        os.close(top)


def _keep(member: tarfile.TarInfo, top: int, parts: list[str]) -> None:
    """Give what was unpacked its owner and, as a change of owner takes some of it away, mode and attributes again."""
    if not parts:
        return
    parent = _open(top, parts[:-1])
    try:
        fd = os.open(parts[-1], os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    finally:
        os.close(parent)
    itself = f"/proc/self/fd/{fd}"
    try:
        if os.geteuid() == 0 or (member.uid, member.gid) != (os.geteuid(), os.getegid()):
            os.chown(itself, member.uid, member.gid)
        if member.issym():
            return
        os.chmod(itself, member.mode & 0o7777)  # noqa: PTH101
        for key, value in member.pax_headers.items():
            if key.startswith(_XATTR):
                _set_attribute(itself, key.removeprefix(_XATTR), value.encode("utf-8", "surrogateescape"))
    except PermissionError as error:
        raise InvalidArgument(
            f"{'/'.join(parts)}: only root can keep the owner {member.uid}:{member.gid}", hint="leave out --archive"
        ) from error
    finally:
        os.close(fd)


def _set_attribute(path: str, name: str, value: bytes) -> None:
    try:
        os.setxattr(path, name, value)
    except OSError as error:
        if error.errno not in _FOREIGN_ATTRIBUTE:
            raise


def _parts(name: str) -> list[str]:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise DataCorrupt(f"tar member {name!r} leads outside with '..'")
    return parts


def _open(top: int, parts: list[str]) -> int:
    fd = os.dup(top)
    for part in parts:
        try:
            below = os.open(part, _DIRECTORY, dir_fd=fd)
        except FileNotFoundError:
            os.mkdir(part, 0o755, dir_fd=fd)
            below = os.open(part, _DIRECTORY, dir_fd=fd)
        finally:
            os.close(fd)
        fd = below
    return fd


def _unpack_one(
    archive: tarfile.TarFile, member: tarfile.TarInfo, top: int, parts: list[str], rename: Callable[[str], str]
) -> None:
    if not parts:
        return
    *above, name = parts
    parent = _open(top, above)
    try:
        if _make_way(parent, name, member):
            return
        if member.isdir():
            os.mkdir(name, 0o700, dir_fd=parent)
        elif member.isreg():
            _write(archive, member, parent, name)
        elif member.issym():
            os.symlink(member.linkname, name, dir_fd=parent)
        elif member.islnk():
            *folder, first = _parts(rename(member.linkname))
            source = _open(top, folder)
            try:
                os.link(first, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
            finally:
                os.close(source)
        else:
            _make_node(member, parent, name)
    finally:
        os.close(parent)


def _make_way(parent: int, name: str, member: tarfile.TarInfo) -> bool:
    """Remove what has the name; True for a directory that stays."""
    try:
        there = stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False
    if there is not member.isdir():
        kinds = ("directory", "non-directory") if there else ("non-directory", "directory")
        raise InvalidArgument(f'cannot overwrite {kinds[0]} "{name}" with {kinds[1]} "{member.name}"')
    if not there:
        os.unlink(name, dir_fd=parent)
    return there


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, parent: int, name: str) -> None:
    content = archive.extractfile(member)
    assert content is not None
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, 0o600, dir_fd=parent), "wb") as target:
        shutil.copyfileobj(content, target, _CHUNK)
        target.flush()
        os.fchmod(target.fileno(), member.mode & 0o7777)
        os.utime(target.fileno(), (member.mtime, member.mtime))


def _make_node(member: tarfile.TarInfo, parent: int, name: str) -> None:
    if member.isfifo():
        os.mkfifo(name, member.mode & 0o7777, dir_fd=parent)
        return
    kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK
    try:
        os.mknod(name, kind | member.mode & 0o777, os.makedev(member.devmajor, member.devminor), dir_fd=parent)
    except OSError as error:
        if error.errno != errno.EPERM:
            raise
        raise InvalidArgument(f"{member.name}: making devices needs root") from error
