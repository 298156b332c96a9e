"""A root file system in memory: names, kinds and owners, without any file's content."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tare.archive.entry import Kind

MAX_LINKS = 40  # the kernel's own limit, path_resolution(7)
_WHITEOUT_DEVICE = (0, 0)  # overlayfs: a character device 0/0 hides what is below


@dataclass(slots=True, eq=False)
class Inode:
    """A file, directory or link. Hard links are several names of one inode.

    ``layer`` counts from 0, bottom first. ``place`` is where the content lies: the offset in the layer's tar, or -1 for
    a file of a directory, which is found by ``path``. ``path`` is the first name, relative to the root.
    """

    kind: Kind
    mode: int
    uid: int
    gid: int
    layer: int
    path: str
    size: int = 0
    place: int = -1
    target: str = ""
    device: tuple[int, int] = (-1, -1)
    capabilities: bytes = b""
    opaque: bool = False
    children: dict[str, Inode] = field(default_factory=dict)

    @property
    def is_whiteout(self) -> bool:
        """Whether it hides what lower layers have under its name."""
        return self.kind is Kind.CHARACTER and self.device == _WHITEOUT_DEVICE


def make_directory(path: str, layer: int, *, mode: int = 0o755) -> Inode:
    """A directory that nobody has described, as one is made for the members below it."""
    return Inode(kind=Kind.DIRECTORY, mode=mode, uid=0, gid=0, layer=layer, path=path)


class Tree:
    """The root file system that layers make together, bottom first."""

    def __init__(self) -> None:
        self.root = make_directory("", 0)

    def put_over(self, upper: Inode) -> None:
        """Lay the tree ``upper`` over this one, by the rules of overlayfs; its inodes become part of this one."""
        waiting = [(self.root, upper)]
        while waiting:
            below, above = waiting.pop()
            if above.opaque:
                below.children = {}
            below.mode, below.uid, below.gid, below.layer = above.mode, above.uid, above.gid, above.layer
            for name, child in above.children.items():
                hidden = below.children.get(name)
                if child.is_whiteout:
                    below.children.pop(name, None)
                elif child.kind is Kind.DIRECTORY and hidden is not None and hidden.kind is Kind.DIRECTORY:
                    waiting.append((hidden, child))
                else:
                    below.children[name] = child

    def find(self, path: str, *, follow: bool = True) -> tuple[str, Inode] | None:
        """The path without links (``/``-rooted) and the inode of ``path``, as a process in the container sees them.

        None where there is nothing, or links go round. ``follow``: also the last component when it is a link.
        """
        pending = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        trail: list[tuple[str, Inode]] = [("", self.root)]
        links = 0
        while pending:
            part = pending.pop()
            if part == "..":
                if len(trail) > 1:
                    trail.pop()
                continue
            child = trail[-1][1].children.get(part)
            if child is None or child.is_whiteout:
                return None
            if child.kind is Kind.SYMLINK and (pending or follow):
                links += 1
                if links > MAX_LINKS:
                    return None
                if child.target.startswith("/"):
                    del trail[1:]
                pending.extend(name for name in reversed(child.target.split("/")) if name not in ("", "."))
                continue
            trail.append((part, child))
        return "/" + "/".join(name for name, _ in trail[1:]), trail[-1][1]

    def find_file(self, path: str) -> tuple[str, Inode] | None:
        """As :meth:`find`, only regular files."""
        found = self.find(path)
        return found if found is not None and found[1].kind is Kind.FILE else None

    def walk(self, top: str = "/") -> Iterator[tuple[str, Inode]]:
        """Every name below ``top`` with its inode, sorted; directories before what is in them."""
        found = self.find(top)
        if found is None:
            return
        waiting = [(found[0].rstrip("/"), found[1])]
        while waiting:
            path, inode = waiting.pop()
            if path and path != found[0].rstrip("/"):
                yield path, inode
            names = sorted((name for name, child in inode.children.items() if not child.is_whiteout), reverse=True)
            waiting.extend((f"{path}/{name}", inode.children[name]) for name in names)

    def files(self, top: str = "/") -> Iterator[tuple[str, Inode]]:
        """Every name of a regular file below ``top``, sorted."""
        return ((path, inode) for path, inode in self.walk(top) if inode.kind is Kind.FILE)
