"""Layers as trees: exactly what unpacking them makes (:mod:`tare.archive.tar_reader`), without unpacking."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tare.archive.confined import open_beneath
from tare.archive.entry import Entry, Kind
from tare.archive.tar_reader import OPAQUE_MARKER, OPAQUE_XATTR, WHITEOUT_PREFIX
from tare.archive.tar_stream import Limits, iter_entries
from tare.audit.tree import MAX_LINKS, Inode, Tree, make_directory
from tare.errors import DataCorrupt, Exhausted, NotFound

CAPABILITY_XATTR = "security.capability"
MAX_INODES = 1_000_000
"""Names that are looked at in all layers of an image together: a bound on memory, about 300 bytes each."""

_AUFS_PREFIX = ".wh..wh."  # aufs' own files, never content
_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_FILE_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_KINDS = {
    stat.S_IFREG: Kind.FILE, stat.S_IFDIR: Kind.DIRECTORY, stat.S_IFLNK: Kind.SYMLINK, stat.S_IFCHR: Kind.CHARACTER,
    stat.S_IFBLK: Kind.BLOCK, stat.S_IFIFO: Kind.FIFO,
}  # fmt: skip


@dataclass(slots=True)
class Layers:
    """An image's layers, bottom first, opened for reading; a container's writable directory may be the topmost.

    ``tree`` is what they make together. ``stored`` has the regular files of each layer, with those that a layer above
    hides. Descriptors are held, so that what is removed meanwhile can still be read.
    """

    tree: Tree = field(default_factory=Tree)
    stored: list[list[Inode]] = field(default_factory=list)
    _descriptors: list[int] = field(default_factory=list)
    _left: int = MAX_INODES

    def read(self, inode: Inode, size: int, offset: int = 0) -> bytes:
        """Up to ``size`` bytes of a regular file; fewer at its end. Raises OSError for a file that has gone."""
        with self.opened(inode) as (fd, start):
            return os.pread(fd, max(0, min(size, inode.size - offset)), start + offset)

    @contextlib.contextmanager
    def opened(self, inode: Inode) -> Iterator[tuple[int, int]]:
        """A descriptor and the place in it where the content of a regular file begins."""
        descriptor = self._descriptors[inode.layer]
        if inode.place >= 0:
            yield descriptor, inode.place
            return
        with contextlib.ExitStack() as stack:
            fd = open_beneath(descriptor, inode.path, os.O_PATH | os.O_NOFOLLOW)
            stack.callback(os.close, fd)
            if not stat.S_ISREG(os.fstat(fd).st_mode):  # a device that took its place is not opened
                raise FileNotFoundError(errno.ENOENT, "no longer a file", inode.path)
            opened = os.open(f"/proc/self/fd/{fd}", _FILE_FLAGS)
            stack.callback(os.close, opened)
            yield opened, 0

    def add_tar(self, path: Path) -> None:
        """Put one more layer on top. Raises NotFound when it has gone, DataCorrupt, Exhausted."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise NotFound(f"layer {path.stem[:12]} has been removed meanwhile") from error
        self._descriptors.append(descriptor)
        builder = _LayerBuilder(len(self.stored))
        with open(os.dup(descriptor), "rb") as stream:  # noqa: PTH123 - a descriptor, not a path
            for entry, content in iter_entries(stream, limits=Limits(members=max(1, self._left))):
                builder.add(entry, stream.tell() if content is not None else -1)
                self._count()
        self._put(builder.root)

    def add_directory(self, path: Path) -> None:
        """Put the upper directory of an overlay on top; it may change meanwhile. Raises NotFound, Exhausted."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise NotFound("the container has been removed meanwhile") from error
        self._descriptors.append(descriptor)
        root = make_directory("", len(self.stored))
        inodes: dict[tuple[int, int], Inode] = {}
        waiting = [root]
        while waiting:
            directory = waiting.pop()
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                for name, child in _scan(descriptor, directory, inodes):
                    self._count()
                    directory.children[name] = child
                    if child.kind is Kind.DIRECTORY:
                        waiting.append(child)
        self._put(root)

    def _put(self, root: Inode) -> None:
        found, waiting = {}, [root]
        while waiting:
            for child in waiting.pop().children.values():
                if child.kind is Kind.FILE:
                    found[id(child)] = child
                elif child.kind is Kind.DIRECTORY:
                    waiting.append(child)
        self.stored.append(list(found.values()))
        self.tree.put_over(root)

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise Exhausted(
                f"the image has more than {MAX_INODES} files and directories", code="audit-too-large",
                hint="this is more than an audit looks at",
            )  # fmt: skip

    def close(self) -> None:
        """Close the descriptors; idempotent."""
        while self._descriptors:
            os.close(self._descriptors.pop())


@contextlib.contextmanager
def open_layers(tars: Sequence[Path], upper: Path | None = None) -> Iterator[Layers]:
    """The layers of an image, bottom first, and on top the writable directory of a container. Blocking."""
    layers = Layers()
    try:
        for path in tars:
            layers.add_tar(path)
        if upper is not None:
            layers.add_directory(upper)
        yield layers
    finally:
        layers.close()


class _LayerBuilder:
    """Makes of members what the unpacking of the same members makes, links of the layer itself being followed."""

    def __init__(self, layer: int) -> None:
        self._layer = layer
        self.root = make_directory("", layer)
        self._parent: tuple[str, Inode] | None = None

    def add(self, entry: Entry, place: int) -> None:
        """One member, replacing what an earlier one made. Raises DataCorrupt for what cannot be unpacked."""
        if not entry.path:
            if entry.kind is Kind.DIRECTORY:
                self.root.mode, self.root.uid, self.root.gid = entry.mode, entry.uid, entry.gid
            return
        parent_path, _, name = entry.path.rpartition("/")
        parent = self._directory(parent_path)
        if name.startswith(WHITEOUT_PREFIX):
            self._whiteout(parent, name)
            return
        present = parent.children.get(name)
        if entry.kind is Kind.DIRECTORY and present is not None and present.kind is Kind.DIRECTORY:
            present.mode, present.uid, present.gid = entry.mode, entry.uid, entry.gid
            return
        if present is not None and present.kind in (Kind.DIRECTORY, Kind.SYMLINK):
            self._parent = None  # the one that is remembered may lie below it
        if entry.kind is Kind.HARDLINK:
            parent.children[name] = self._target(entry)
            return
        made = self._inode(entry, place)
        made.opaque = made.kind is Kind.DIRECTORY and present is not None and present.is_whiteout
        parent.children[name] = made

    def _inode(self, entry: Entry, place: int) -> Inode:
        return Inode(
            kind=entry.kind,
            mode=entry.mode,
            uid=entry.uid,
            gid=entry.gid,
            layer=self._layer,
            path=entry.path,
            size=entry.size,
            place=place,
            target=entry.target,
            device=(entry.major, entry.minor) if entry.kind in (Kind.CHARACTER, Kind.BLOCK) else (-1, -1),
            capabilities=entry.xattrs.get(CAPABILITY_XATTR, b"") if entry.kind is Kind.FILE else b"",
        )

    def _target(self, entry: Entry) -> Inode:
        upper, _, name = entry.target.rpartition("/")
        found = self._walk(upper)
        target = found.children.get(name) if found is not None else None
        if target is None or target.kind is Kind.DIRECTORY:
            raise DataCorrupt(f"tar member {entry.path[:200]!r}: hard link to {entry.target[:200]!r}, which is no file")
        return target

    def _whiteout(self, parent: Inode, name: str) -> None:
        if name == OPAQUE_MARKER:
            parent.opaque = True
            return
        hidden = name[len(WHITEOUT_PREFIX) :]
        if name.startswith(_AUFS_PREFIX) or hidden in ("", ".", ".."):
            return
        present = parent.children.get(hidden)
        if present is None:
            parent.children[hidden] = Inode(
                kind=Kind.CHARACTER, mode=0, uid=0, gid=0, layer=self._layer, path=hidden, device=(0, 0)
            )
        elif present.kind is Kind.DIRECTORY:
            present.opaque = True

    def _directory(self, path: str) -> Inode:
        if self._parent is not None and self._parent[0] == path:
            return self._parent[1]
        found = self._walk(path, make=True)
        assert found is not None
        self._parent = (path, found)
        return found

    def _walk(self, path: str, *, make: bool = False) -> Inode | None:
        """The directory ``path``; None where a component is missing, unless missing ones are made.

        Raises DataCorrupt for what is no directory, and for a link to nothing where something had to be made.
        """
        pending = [(part, False) for part in reversed(path.split("/")) if part not in ("", ".")]
        trail, links = [self.root], 0
        while pending:
            part, linked = pending.pop()
            if part == "..":
                if len(trail) > 1:
                    trail.pop()
                continue
            child = trail[-1].children.get(part)
            if child is None:
                if not make:
                    return None
                if linked:
                    raise DataCorrupt(f"tar member below {path[:200]!r}: a link on the way leads nowhere")
                child = make_directory("/".join([trail[-1].path, part]).lstrip("/"), self._layer)
                trail[-1].children[part] = child
            if child.kind is Kind.SYMLINK:
                links += 1
                if links > MAX_LINKS:
                    raise DataCorrupt(f"tar member below {path[:200]!r}: too many levels of symbolic links")
                if child.target.startswith("/"):
                    del trail[1:]
                parts = (name for name in reversed(child.target.split("/")) if name not in ("", "."))
                pending.extend((name, True) for name in parts)
                continue
            if child.kind is not Kind.DIRECTORY:
                raise DataCorrupt(f"tar member below {path[:200]!r}: {part!r} is no directory")
            trail.append(child)
        return trail[-1]


def _scan(root: int, directory: Inode, inodes: dict[tuple[int, int], Inode]) -> Iterator[tuple[str, Inode]]:
    fd = open_beneath(root, directory.path, _DIRECTORY_FLAGS)
    try:
        directory.opaque = _attribute(f"/proc/self/fd/{fd}", OPAQUE_XATTR, follow=True) == b"y"
        with os.scandir(fd) as entries:
            names = [entry.name for entry in entries]
        for name in names:
            try:
                info = os.stat(name, dir_fd=fd, follow_symlinks=False)
                made = inodes.get((info.st_dev, info.st_ino)) or _from_disk(fd, name, directory, info)
                if info.st_nlink > 1 and made.kind is Kind.FILE:
                    inodes[info.st_dev, info.st_ino] = made
                yield name, made
            except FileNotFoundError:
                continue
    finally:
        os.close(fd)


def _from_disk(fd: int, name: str, directory: Inode, info: os.stat_result) -> Inode:
    kind = _KINDS.get(stat.S_IFMT(info.st_mode), Kind.FIFO)  # a socket is as little content as a pipe
    is_device = kind in (Kind.CHARACTER, Kind.BLOCK)
    return Inode(
        kind=kind,
        mode=stat.S_IMODE(info.st_mode),
        uid=info.st_uid,
        gid=info.st_gid,
        layer=directory.layer,
        path=f"{directory.path}/{name}".lstrip("/"),
        size=info.st_size if kind is Kind.FILE else 0,
        target=os.readlink(name, dir_fd=fd) if kind is Kind.SYMLINK else "",
        device=(os.major(info.st_rdev), os.minor(info.st_rdev)) if is_device else (-1, -1),
        capabilities=_attribute(f"/proc/self/fd/{fd}/{name}", CAPABILITY_XATTR) if kind is Kind.FILE else b"",
    )


def _attribute(path: str, name: str, *, follow: bool = False) -> bytes:
    try:
        return os.getxattr(path, name, follow_symlinks=follow)
    except OSError:
        return b""
