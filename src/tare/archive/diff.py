"""Directory trees as sorted members: plain trees, and overlay upper directories as OCI layers."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from tare.archive.entry import Entry, Kind
from tare.archive.tar_reader import OPAQUE_MARKER, OPAQUE_XATTR, WHITEOUT_PREFIX
from tare.archive.tar_writer import TarWriter

_KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFCHR: Kind.CHARACTER,
    stat.S_IFBLK: Kind.BLOCK,
    stat.S_IFIFO: Kind.FIFO,
}
_KEPT_XATTRS = ("user.", "security.capability")  # what image layers carry; ACLs and labels belong to the host
_DROPPED_XATTRS = ("user.overlay.",)


def walk_tree(directory: Path) -> Iterator[tuple[Entry, Path]]:
    """Every member below ``directory`` with its host path: parents before children, siblings sorted by bytes.

    A file's further names are hard links to the first one; sockets are left out. Raises OSError.
    """
    for entry, path, _ in _walk(directory):
        yield entry, path


def write_tree(directory: Path, writer: TarWriter) -> None:
    """Add everything below ``directory`` to ``writer``."""
    for entry, path in walk_tree(directory):
        _add(entry, path, writer)


def write_upper(directory: Path, writer: TarWriter) -> None:
    """Add an overlay upper directory as the members of an OCI layer (layer.md, "Whiteouts").

    Character devices 0/0 become ``.wh.`` files, opaque directories get a ``.wh..wh..opq`` member.
    """
    for entry, path, is_opaque in _walk(directory):
        if entry.kind is Kind.CHARACTER and entry.major == entry.minor == 0:
            parent, slash, name = entry.path.rpartition("/")
            writer.add(Entry(path=f"{parent}{slash}{WHITEOUT_PREFIX}{name}", kind=Kind.FILE, mode=0))
            continue
        _add(entry, path, writer)
        if is_opaque:
            writer.add(Entry(path=f"{entry.path}/{OPAQUE_MARKER}", kind=Kind.FILE, mode=0))


def _add(entry: Entry, path: Path, writer: TarWriter) -> None:
    if entry.kind is not Kind.FILE:
        writer.add(entry)
        return
    with path.open("rb", buffering=0) as content:
        writer.add(entry, content)


def _walk(directory: Path) -> Iterator[tuple[Entry, Path, bool]]:
    first_names: dict[tuple[int, int], str] = {}
    pending: list[tuple[str, str]] = [("", os.fspath(directory))]
    while pending:
        relative, host = pending.pop()
        if relative:
            yielded = _describe(relative, host, first_names)
            if yielded is None:
                continue
            yield yielded
            if yielded[0].kind is not Kind.DIRECTORY:
                continue
        with os.scandir(host) as found:
            names = sorted((item.name for item in found), key=os.fsencode, reverse=True)
        pending.extend((f"{relative}/{name}" if relative else name, f"{host}/{name}") for name in names)


def _describe(relative: str, host: str, first_names: dict[tuple[int, int], str]) -> tuple[Entry, Path, bool] | None:
    status = os.lstat(host)
    kind = _KINDS.get(stat.S_IFMT(status.st_mode))
    if kind is None:
        return None
    target = ""
    if kind is Kind.SYMLINK:
        target = os.readlink(host)  # noqa: PTH115 - the text as it is
    elif kind is not Kind.DIRECTORY and status.st_nlink > 1:
        is_whiteout = kind is Kind.CHARACTER and status.st_rdev == 0  # overlayfs links its whiteouts together
        first = relative if is_whiteout else first_names.setdefault((status.st_dev, status.st_ino), relative)
        if first != relative:
            kind, target = Kind.HARDLINK, first
    is_device = kind in (Kind.CHARACTER, Kind.BLOCK)
    xattrs, is_opaque = _xattrs(host) if kind in (Kind.FILE, Kind.DIRECTORY) else ({}, False)
    entry = Entry(
        path=relative,
        kind=kind,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        mtime=int(status.st_mtime_ns // 1_000_000_000),
        size=status.st_size if kind is Kind.FILE else 0,
        target=target,
        major=os.major(status.st_rdev) if is_device else 0,
        minor=os.minor(status.st_rdev) if is_device else 0,
        xattrs=xattrs,
    )
    return entry, Path(host), is_opaque


def _xattrs(host: str) -> tuple[dict[str, bytes], bool]:
    try:
        names = os.listxattr(host, follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        return {}, False
    if not names:
        return {}, False
    kept = {
        name: os.getxattr(host, name, follow_symlinks=False)
        for name in sorted(names)
        if name.startswith(_KEPT_XATTRS) and not name.startswith(_DROPPED_XATTRS)
    }
    is_opaque = OPAQUE_XATTR in names and os.getxattr(host, OPAQUE_XATTR, follow_symlinks=False) == b"y"
    return kept, is_opaque
