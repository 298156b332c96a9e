"""A file tree in memory: entries and where their content is, with the rules by which trees are put together.

Paths are kept as the kernel would resolve them: a member added below a symbolic link of the tree (``/bin → usr/bin``)
lands in the link's target, as unpacking it into a merged-/usr system would do.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from tare.archive.diff import walk_tree
from tare.archive.entry import Entry, Kind
from tare.archive.tar_writer import TarWriter
from tare.base.readers import CHUNK
from tare.errors import Conflict, DataCorrupt, InvalidArgument, NotFound

_LINK_LIMIT = 40  # symbolic links followed in one path, as in Linux (path_resolution(7))


@dataclass(frozen=True, slots=True)
class Slice:
    """Content that lies in a host file from ``offset`` (bytes) on."""

    path: Path
    offset: int = 0


Content = bytes | Slice


@dataclass(frozen=True, slots=True)
class Node:
    """One member: its metadata, its content (files only) and the package or part that it came from."""

    entry: Entry
    content: Content = b""
    owner: str = ""


class _BoundedFile:
    """The ``size`` bytes of a host file from ``offset`` on."""

    def __init__(self, path: Path, offset: int, size: int) -> None:
        self._stream = path.open("rb", buffering=0)
        self._stream.seek(offset)
        self._left = size

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data

    def close(self) -> None:
        self._stream.close()


class FileTree:
    """Members by path. The root directory is always there (mode 0755, owner 0:0) and is not written."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, path: str) -> bool:
        return self.resolve_parent(path) in self._nodes

    def __iter__(self) -> Iterator[Node]:
        """All members, sorted by path as bytes, so parents come before children."""
        for path in sorted(self._nodes, key=_order):
            yield self._nodes[path]

    def get(self, path: str) -> Node | None:
        """The member at ``path``; a link itself, not what it points at."""
        return self._nodes.get(self.resolve_parent(path))

    def add(self, entry: Entry, content: Content = b"", *, owner: str = "") -> None:
        """Add or replace a member; missing parent directories are made (mode 0755, owner 0:0).

        A directory put on a directory takes the new metadata; put on a link to a directory it changes nothing. Raises
        InvalidArgument for a path that leaves the tree, Conflict when a directory and something else meet.
        """
        path = self.resolve_parent(entry.path)
        if not path:
            return
        self._make_parents(path, entry.mtime, owner)
        present = self._nodes.get(path)
        if present is not None:
            if entry.kind is Kind.DIRECTORY and present.entry.kind is Kind.SYMLINK and self.is_directory(path):
                return
            if (entry.kind is Kind.DIRECTORY) != (present.entry.kind is Kind.DIRECTORY):
                raise Conflict(
                    f"/{path} is a {entry.kind} of {owner or '?'} and a {present.entry.kind} of {present.owner or '?'}",
                    code="path-conflict",
                )
        if entry.kind is Kind.HARDLINK:
            entry = replace(entry, target=self.resolve_parent(entry.target))
            if entry.target == path:
                return
        self._nodes[path] = Node(replace(entry, path=path), content, owner)

    def add_file(self, path: str, content: bytes, *, mode: int = 0o644, uid: int = 0, gid: int = 0) -> None:
        """Add a file with this content."""
        entry = Entry(path=path.strip("/"), kind=Kind.FILE, mode=mode, uid=uid, gid=gid, size=len(content))
        self.add(entry, content)

    def add_directory(self, path: str, *, mode: int = 0o755, uid: int = 0, gid: int = 0) -> None:
        """Add a directory, or change the metadata of the one that is there."""
        self.add(Entry(path=path.strip("/"), kind=Kind.DIRECTORY, mode=mode, uid=uid, gid=gid))

    def add_symlink(self, path: str, target: str) -> None:
        """Add a symbolic link with ``target`` as its text."""
        self.add(Entry(path=path.strip("/"), kind=Kind.SYMLINK, mode=0o777, target=target))

    def merge(self, other: FileTree, *, may_replace: Callable[[str, str], bool] = lambda _new, _old: False) -> None:
        """Add all members of ``other``. A path that both have must be a directory in both or equal in both.

        Else ``may_replace(owner, present owner)`` decides who wins: its members replace, or give way to, the others'
        (``Replaces``, Debian Policy 7.6); with neither, Conflict names path and owners.
        """
        for node in other:
            present = self.get(node.entry.path)
            if present is not None and Kind.DIRECTORY not in (present.entry.kind, node.entry.kind):
                if may_replace(present.owner, node.owner):
                    continue
                if not may_replace(node.owner, present.owner) and not self._same(present, node):
                    raise Conflict(
                        f"/{node.entry.path} is claimed by {present.owner or '?'} and {node.owner or '?'}",
                        code="path-conflict",
                    )
            elif present is not None and present.entry.kind is node.entry.kind:
                continue  # the first package's metadata of a shared directory stays, as with dpkg
            self.add(node.entry, node.content, owner=node.owner)

    def remove(self, path: str) -> None:
        """Remove a member and all below it; quiet when it is not there.

        When it has hard links, the first of them becomes the file.
        """
        path = self.resolve_parent(path)
        self.discard([name for name in self._nodes if name == path or name.startswith(path + "/")])

    def discard(self, paths: list[str]) -> None:
        """Remove exactly these members (canonical paths); hard links to them keep their content."""
        gone = {path: self._nodes.pop(path) for path in paths if path in self._nodes}
        if not any(node.entry.kind is Kind.FILE for node in gone.values()):
            return
        heirs: dict[str, str] = {}
        for path in sorted(self._nodes, key=_order):
            node = self._nodes[path]
            if node.entry.kind is Kind.HARDLINK and node.entry.target in gone:
                first = gone[node.entry.target]
                if node.entry.target in heirs:
                    self._nodes[path] = replace(node, entry=replace(node.entry, target=heirs[node.entry.target]))
                else:
                    heirs[node.entry.target] = path
                    self._nodes[path] = replace(first, entry=replace(first.entry, path=path))

    def rewrite(self, change: Callable[[Entry], Entry]) -> None:
        """Replace every member's metadata by what ``change`` makes of it; path and kind must stay."""
        for path, node in self._nodes.items():
            self._nodes[path] = replace(node, entry=change(node.entry))

    def read(self, path: str, *, limit: int = 16 << 20) -> bytes:
        """The content of a file of at most ``limit`` bytes, links followed. Raises NotFound, DataCorrupt."""
        node = self._nodes.get(self.resolve(path))
        if node is not None and node.entry.kind is Kind.HARDLINK:
            node = self._nodes.get(node.entry.target)
        if node is None or node.entry.kind is not Kind.FILE:
            raise NotFound(f"/{path}: no such file in the tree")
        if node.entry.size > limit:
            raise DataCorrupt(f"/{path}: {node.entry.size} bytes, at most {limit} expected")
        with closing(_open(node)) as content:
            return content.read()

    def is_directory(self, path: str) -> bool:
        """Whether ``path``, links followed, is a directory (a link to a missing directory counts as none)."""
        resolved = self.resolve(path)
        return not resolved or (resolved in self._nodes and self._nodes[resolved].entry.kind is Kind.DIRECTORY)

    def resolve(self, path: str) -> str:
        """The canonical path, a final link followed too. Raises InvalidArgument for a loop."""
        return self._walk(path, follow_last=True)

    def resolve_parent(self, path: str) -> str:
        """The canonical path, a final link not followed. Raises InvalidArgument for a loop or a path with ``..``."""
        return self._walk(path, follow_last=False)

    def size(self) -> int:
        """Bytes of all files."""
        return sum(node.entry.size for node in self._nodes.values() if node.entry.kind is Kind.FILE)

    def clamp(self, newest: int) -> None:
        """Give no member a later modification time than ``newest`` (seconds), and those without one exactly that."""
        self.rewrite(lambda entry: replace(entry, mtime=min(entry.mtime, newest) if entry.mtime > 0 else newest))

    def write(self, writer: TarWriter) -> None:
        """Write all members, sorted; hard links come after the file that they name."""
        links: list[Node] = []
        for node in self:
            if node.entry.kind is Kind.HARDLINK and _order(node.entry.target) > _order(node.entry.path):
                links.append(node)
            elif node.entry.kind is Kind.FILE:
                with closing(_open(node)) as content:
                    writer.add(node.entry, content)
            else:
                writer.add(node.entry)
        for node in links:
            writer.add(node.entry)

    def unpack(self, directory: Path) -> None:
        """Make the tree below the existing empty ``directory``; needs root for owners and devices. Blocking."""
        for node in sorted(self, key=lambda node: node.entry.kind is Kind.HARDLINK):
            _make(node, directory)
        for node in self:
            if node.entry.kind is Kind.DIRECTORY:
                os.utime(directory / node.entry.path, (node.entry.mtime, node.entry.mtime))

    @classmethod
    def from_directory(cls, directory: Path) -> FileTree:
        """The tree below ``directory``, its content left where it is. Blocking; raises OSError."""
        tree = cls()
        for entry, path in walk_tree(directory):
            tree._nodes[entry.path] = Node(entry, Slice(path) if entry.kind is Kind.FILE else b"")
        return tree

    def _make_parents(self, path: str, mtime: int, owner: str) -> None:
        parent = path.rpartition("/")[0]
        missing = []
        while parent and parent not in self._nodes:
            missing.append(parent)
            parent = parent.rpartition("/")[0]
        if parent and self._nodes[parent].entry.kind is not Kind.DIRECTORY:
            present = self._nodes[parent]
            raise Conflict(
                f"/{path} of {owner or '?'} lies below /{parent}, a {present.entry.kind} of {present.owner or '?'}",
                code="path-conflict",
            )
        for name in missing:
            self._nodes[name] = Node(Entry(path=name, kind=Kind.DIRECTORY, mode=0o755, mtime=mtime), b"", owner)

    def _walk(self, path: str, *, follow_last: bool) -> str:
        parts = [part for part in path.split("/") if part and part != "."]
        if ".." in parts or "\0" in path:
            raise InvalidArgument(f"{path!r} leaves the tree")
        nodes = self._nodes
        done: list[str] = []
        followed = 0
        while parts:
            part = parts.pop(0)
            if part == "..":
                del done[-1:]
                continue
            here = "/".join((*done, part))
            node = nodes.get(here)
            if node is not None and node.entry.kind is Kind.SYMLINK and (parts or follow_last):
                followed += 1
                if followed > _LINK_LIMIT:
                    raise InvalidArgument(f"/{path}: too many levels of symbolic links")
                target = node.entry.target
                if target.startswith("/"):
                    done = []
                parts = [item for item in target.split("/") if item and item != "."] + parts
            else:
                done.append(part)
        return "/".join(done)

    def _same(self, one: Node, two: Node) -> bool:
        a, b = one.entry, two.entry
        if (a.kind, a.mode, a.uid, a.gid, a.size, a.target) != (b.kind, b.mode, b.uid, b.gid, b.size, b.target):
            return False
        if a.kind is not Kind.FILE:
            return True
        with closing(_open(one)) as left, closing(_open(two)) as right:
            return left.read() == right.read()


def _order(path: str) -> bytes:
    # a slash sorts before every other character, so that a directory's members follow it directly
    return path.encode("utf-8", "surrogateescape").replace(b"/", b"\0")


def _open(node: Node) -> _BoundedFile | io.BytesIO:
    if isinstance(node.content, bytes):
        return io.BytesIO(node.content)
    return _BoundedFile(node.content.path, node.content.offset, node.entry.size)


def _make(node: Node, root: Path) -> None:
    entry, path = node.entry, root / node.entry.path
    match entry.kind:
        case Kind.DIRECTORY:
            path.mkdir()
        case Kind.SYMLINK:
            path.symlink_to(entry.target)
        case Kind.HARDLINK:
            path.hardlink_to(root / entry.target)
            return
        case Kind.FILE:
            with closing(_open(node)) as content, path.open("xb") as stream:
                while chunk := content.read(CHUNK):
                    stream.write(chunk)
        case Kind.FIFO:
            os.mkfifo(path)
        case _:
            raise DataCorrupt(f"/{entry.path} of {node.owner or '?'} is a device file")
    os.chown(path, entry.uid, entry.gid, follow_symlinks=False)
    if entry.kind is not Kind.SYMLINK:
        path.chmod(entry.mode)
    for name, value in entry.xattrs.items():
        os.setxattr(path, name, value, follow_symlinks=False)
    os.utime(path, (entry.mtime, entry.mtime), follow_symlinks=False)
