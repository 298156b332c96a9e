"""Layers put on each other as overlayfs would, without unpacking them, every shipped byte accounted for.

The rules are those of OCI image-spec, layer.md ("Whiteouts"), read as :mod:`tare.archive.tar_reader` unpacks: a
whiteout hides what is below, never what its own layer adds; a directory on something else, or made anew, hides it all.
Nothing here recurses: a path may have two thousand components.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from tare.archive.entry import Entry, Kind
from tare.archive.tar_reader import OPAQUE_MARKER, WHITEOUT_PREFIX
from tare.errors import DataCorrupt

_NO_XATTRS: Mapping[str, bytes] = {}  # one for all: a tree has a million names
_METADATA_PREFIX = ".wh..wh."
_NAMES_LIMIT = 2_000_000  # of all layers of an image; a path of 4095 bytes may make two thousand directories
_LINK_LIMIT = 40  # symbolic links followed in one path, path_resolution(7)


class Fate(StrEnum):
    """What has become of bytes that a layer ships."""

    VISIBLE = "visible"
    REPLACED = "replaced"
    DELETED = "deleted"


@dataclass(slots=True, eq=False, kw_only=True)
class Content:
    """The bytes of one file as layer ``layer`` (0 is the bottom) ships them, be they ever visible or not.

    ``path`` is the first name, ``size`` in bytes, the digests are binary (``sha1`` empty unless asked for), ``text`` is
    what was kept of package databases. ``names`` counts the visible names; without any, ``fate`` and ``hidden_by`` (a
    layer) say why, and ``same`` that the file in its place has equal content.
    """

    layer: int
    path: str
    size: int
    sha256: bytes
    sha1: bytes = b""
    text: bytes | None = None
    names: int = 0
    fate: Fate = Fate.VISIBLE
    hidden_by: int = -1
    same: bool = False


@dataclass(slots=True, eq=False, kw_only=True)
class Node:
    """One name. ``kind`` None is a whiteout; a hard link is what its first name is, with the same ``content``."""

    kind: Kind | None
    layer: int
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    target: str = ""
    device: tuple[int, int] = (0, 0)
    xattrs: Mapping[str, bytes] = field(default_factory=lambda: _NO_XATTRS)
    content: Content | None = None
    children: dict[str, Node] = field(default_factory=dict)
    opaque: bool = False

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return self.kind is Kind.DIRECTORY


def new_root(layer: int = 0) -> Node:
    """An empty root directory."""
    return Node(kind=Kind.DIRECTORY, layer=layer)


class LayerTree:
    """What one layer adds: the members of its tar, a whiteout as a node without kind.

    ``names`` counts the nodes made so far, those of the layers below (given by the caller) included.
    """

    def __init__(self, number: int, names: int = 0) -> None:
        self.number = number
        self.root = new_root(number)
        self.names = names

    def locate(self, path: str) -> str:
        """Where a member lands: as ``path``, links of this very layer followed. Raises DataCorrupt."""
        parent, _, name = path.rpartition("/")
        place, node, nothing = "", self.root, Node(kind=None, layer=self.number)
        for part in parent.split("/") if parent else ():
            place = f"{place}/{part}" if place else part
            below = node.children.get(part)
            if below is not None and below.kind is Kind.SYMLINK:
                place = "/".join(resolve(self.root, place))
                below = lookup(self.root, place)
                if below is None:
                    raise DataCorrupt(f"tar member {path[:200]!r} cannot be unpacked: {part[:200]!r} leads to nothing")
            node = below if below is not None else nothing
        return f"{place}/{name}" if place else name

    def add(self, entry: Entry, content: Content | None) -> None:
        """Add a member at ``entry.path``, which :meth:`locate` gave. Raises DataCorrupt for what cannot be unpacked."""
        if not entry.path:
            if entry.kind is Kind.DIRECTORY:
                _describe(self.root, entry)
            return
        parent_path, _, name = entry.path.rpartition("/")
        parent = self._directory(parent_path)
        if name.startswith(WHITEOUT_PREFIX):
            self._whiteout(parent, name, entry.path)
            if content is not None:
                _hide_content(content, self.number, None)
            return
        present = parent.children.get(name)
        node = self._node(entry, content)
        if present is not None and present.content is not None and present.content is node.content:
            return  # a second link in the place of the first
        if entry.kind is Kind.DIRECTORY and present is not None:
            if present.is_directory:
                _describe(present, entry)
                return
            node.opaque = present.kind is None
        if present is not None and present.kind is not None:
            hide(present, node, self.number)
        self._put(parent, name, node)
        if node.content is not None:
            node.content.names += 1

    def _put(self, parent: Node, name: str, node: Node) -> None:
        self.names += 1
        if self.names > _NAMES_LIMIT:
            raise DataCorrupt(
                f"layer {self.number}: the image has more than {_NAMES_LIMIT} files and directories",
                hint="images of this size are not looked into",
                code="inventory-too-large",
            )
        parent.children[name] = node

    def _node(self, entry: Entry, content: Content | None) -> Node:
        if entry.kind is not Kind.HARDLINK:
            node = Node(kind=entry.kind, layer=self.number, target=entry.target, content=content)
            _describe(node, entry)
            return node
        first = lookup(self.root, entry.target, follow=False)
        if first is None or first.is_directory:
            raise DataCorrupt(
                f"tar member {entry.path[:200]!r} cannot be unpacked: {entry.target[:200]!r}, which it links to, is "
                f"{'a directory' if first is not None and first.is_directory else 'not in its layer'}"
            )
        return Node(
            kind=first.kind,
            layer=self.number,
            mode=first.mode,
            uid=first.uid,
            gid=first.gid,
            target=first.target,
            device=first.device,
            xattrs=first.xattrs,
            content=first.content,
        )

    def _directory(self, path: str) -> Node:
        node = self.root
        for part in path.split("/") if path else ():
            below = node.children.get(part)
            if below is None or below.kind is None:
                below = Node(kind=Kind.DIRECTORY, layer=self.number, opaque=below is not None)
                self._put(node, part, below)
            if not below.is_directory:
                raise DataCorrupt(f"tar member below {path[:200]!r} cannot be unpacked: {part[:200]!r} is no directory")
            node = below
        return node

    def _whiteout(self, parent: Node, name: str, path: str) -> None:
        if name == OPAQUE_MARKER:
            parent.opaque = True
            return
        if name.startswith(_METADATA_PREFIX):
            return
        hidden = name[len(WHITEOUT_PREFIX) :]
        if hidden in ("", ".", ".."):
            raise DataCorrupt(f"tar member {path[:200]!r}: invalid whiteout")
        present = parent.children.get(hidden)
        if present is None:
            self._put(parent, hidden, Node(kind=None, layer=self.number))
        elif present.is_directory:
            present.opaque = True


def merge(lower: Node, layer: LayerTree) -> None:
    """Put a layer on the tree ``lower``; what it hides learns of it. The layer's nodes become part of ``lower``."""
    pending = [(lower, layer.root)]
    while pending:
        below, above = pending.pop()
        if above.opaque:
            for name, node in list(below.children.items()):
                over = above.children.get(name)
                hide(node, over if over is not None and over.kind is not None else None, layer.number)
            below.children = {}
            above.opaque = False
        below.mode, below.uid, below.gid, below.layer = above.mode, above.uid, above.gid, above.layer
        for name, node in above.children.items():
            present = below.children.get(name)
            if node.kind is None:
                if present is not None:
                    hide(present, None, layer.number)
                    del below.children[name]
            elif node.is_directory and present is not None and present.is_directory:
                pending.append((present, node))
            else:
                if present is not None:
                    hide(present, node, layer.number)
                _drop_marks(node)
                below.children[name] = node


def hide(node: Node, above: Node | None, layer: int) -> None:
    """Note that layer ``layer`` hides ``node`` and all below it; ``above`` is what takes its place, if anything."""
    pending = [(node, above)]
    while pending:
        hidden, over = pending.pop()
        if hidden.content is not None:
            hidden.content.names -= 1
            if not hidden.content.names:
                _hide_content(hidden.content, layer, over)
        for name, child in hidden.children.items():
            pending.append((child, over.children.get(name) if over is not None else None))


def _hide_content(content: Content, layer: int, over: Node | None) -> None:
    replaced = over is not None and over.kind is not None and not over.is_directory
    content.fate = Fate.REPLACED if replaced else Fate.DELETED
    content.hidden_by = layer
    other = over.content if over is not None else None
    content.same = other is not None and other.sha256 == content.sha256


def _drop_marks(node: Node) -> None:
    """Take away the whiteouts below a node that has nothing below it to hide."""
    pending = [node]
    while pending:
        here = pending.pop()
        here.opaque = False
        for name, child in list(here.children.items()):
            if child.kind is None:
                del here.children[name]
            elif child.is_directory:
                pending.append(child)


def _describe(node: Node, entry: Entry) -> None:
    node.mode, node.uid, node.gid = entry.mode, entry.uid, entry.gid
    node.device = (entry.major, entry.minor)
    node.xattrs = entry.xattrs or _NO_XATTRS


def walk(root: Node) -> Iterator[tuple[str, Node]]:
    """Every name below ``root`` with its path (no leading slash), parents first, siblings sorted by bytes."""
    pending = [("", root)]
    while pending:
        path, node = pending.pop()
        if node is not root:
            yield path, node
        if node.children:
            prefix = f"{path}/" if path else ""
            names = sorted(node.children, key=_order, reverse=True)
            pending.extend((prefix + name, node.children[name]) for name in names)


def _order(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def lookup(root: Node, path: str, *, follow: bool = True) -> Node | None:
    """What ``path`` stands for, links followed as if ``root`` were ``/`` (the last one only with ``follow``)."""
    try:
        parts = resolve(root, path, follow=follow)
    except DataCorrupt:
        return None
    node: Node | None = root
    for part in parts:
        node = node.children.get(part) if node is not None else None
    return node


def resolve(root: Node, path: str, *, follow: bool = True) -> list[str]:
    """The components that ``path`` comes down to when links are followed; what is not there stays as it is written.

    Raises DataCorrupt for a loop of links.
    """
    pending = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    done: list[str] = []
    nodes = [root]
    followed = 0
    while pending:
        part = pending.pop()
        if part == "..":
            if done:
                done.pop()
                nodes = nodes[: len(done) + 1]
            continue
        node = nodes[-1].children.get(part) if len(nodes) == len(done) + 1 else None
        if node is not None and node.kind is Kind.SYMLINK and (pending or follow):
            followed += 1
            if followed > _LINK_LIMIT:
                raise DataCorrupt(f"{path[:200]!r}: too many levels of symbolic links")
            if node.target.startswith("/"):
                done, nodes = [], [root]
            pending.extend(item for item in reversed(node.target.split("/")) if item not in ("", "."))
            continue
        done.append(part)
        if node is not None and node.kind is not None:
            nodes.append(node)
    return done
