"""Directories put together: to a depth, for listings, and as a tree, for drawings."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from tare.inventory.weight import PARTS, DirectoryRow, FileRow

_DEEPEST = 16  # levels of the tree
_REST = "(smaller)"


class TreeNode(msgspec.Struct, kw_only=True):
    """A directory with all in it, or a large file; what is in no child is smaller files of the directory itself.

    A child named ``(smaller)`` stands for directories too small to be told apart.
    """

    name: str
    bytes: int = 0
    hidden: int = 0
    files: int = 0
    children: list[TreeNode] = []


def directory_rows(contents: Iterable[DirectoryRow], depth: int) -> list[DirectoryRow]:
    """Directories of up to ``depth`` components, the deepest ones with all below them; the heaviest first."""
    rows: dict[str, DirectoryRow] = {}
    for row in contents:
        path = "/".join(row.path.split("/")[: depth + 1])
        found = rows.setdefault(path, DirectoryRow(path=path))
        found.bytes += row.bytes
        found.files += row.files
        found.hidden += row.hidden
    return sorted(rows.values(), key=lambda row: (-row.bytes, row.path))


def directory_tree(contents: Iterable[DirectoryRow], largest: Iterable[FileRow] = ()) -> TreeNode:
    """The tree of all directories with the largest files; small ones are put together: it stays small for any image."""
    root = TreeNode(name="/")
    index: dict[str, TreeNode] = {}
    for row in contents:
        node, path = root, ""
        _count(node, row)
        for part in row.path.strip("/").split("/")[:_DEEPEST]:
            if not part:
                continue
            path = f"{path}/{part}"
            below = index.get(path)
            if below is None:
                below = index[path] = TreeNode(name=part, children=[])
                node.children.append(below)
            node = below
            _count(node, row)
    for large in largest:
        parent, _, name = large.path.rpartition("/")
        directory = index.get(parent) if parent else root
        if directory is not None:  # else it lies deeper than the tree goes
            leaf = index.get(large.path)
            if leaf is None:
                leaf = index[large.path] = TreeNode(name=name, children=[])
                directory.children.append(leaf)
            _count(leaf, large)
    _prune(root, root.bytes // PARTS)
    return root


def _count(node: TreeNode, row: DirectoryRow | FileRow | TreeNode) -> None:
    node.bytes += row.bytes
    node.files += 1 if isinstance(row, FileRow) else row.files
    node.hidden += row.hidden


def _prune(root: TreeNode, smallest: int) -> None:
    pending = [root]
    while pending:
        node = pending.pop()
        kept = [child for child in node.children if child.bytes > smallest]
        rest = TreeNode(name=_REST)
        for child in node.children:
            if child.bytes <= smallest:
                _count(rest, child)
        kept.sort(key=lambda child: (-child.bytes, child.name))
        pending.extend(kept)
        node.children = [*kept, rest] if rest.bytes else kept
