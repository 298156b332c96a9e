"""update-alternatives(1), done to a tree: ``/etc/alternatives`` and the links that lead there."""

from __future__ import annotations

from collections.abc import Iterable

from tare.archive.entry import Entry, Kind
from tare.archive.filetree import FileTree
from tare.distroless.changes import Alternative
from tare.distroless.filters import is_unneeded

DIRECTORY = "etc/alternatives"


def apply_alternatives(tree: FileTree, offered: Iterable[Alternative]) -> None:
    """Of the paths offered for each name that are in the tree, the one of highest priority gets the link.

    As the program does in automatic mode: the links that follow it come along where their path is there, and a file
    that is in a link's place stays.
    """
    best: dict[str, Alternative] = {}
    for alternative in offered:
        if not _is_there(tree, alternative.path):
            continue
        if alternative.name not in best or alternative.priority > best[alternative.name].priority:
            best[alternative.name] = alternative
    for name, chosen in sorted(best.items()):
        _link(tree, chosen.link, name, chosen.path)
        for link, slave, path in chosen.slaves:
            if _is_there(tree, path):
                _link(tree, link, slave, path)


def _is_there(tree: FileTree, path: str) -> bool:
    return ".." not in path.split("/") and tree.get(tree.resolve(path)) is not None


def _link(tree: FileTree, link: str, name: str, path: str) -> None:
    present = tree.get(link)
    if "/" in name or is_unneeded(Entry(path=link.strip("/"), kind=Kind.SYMLINK, mode=0o777)):
        return
    if present is not None and present.entry.kind is not Kind.SYMLINK:
        return
    tree.add_symlink(f"{DIRECTORY}/{name}", path)
    tree.add_symlink(link, f"/{DIRECTORY}/{name}")
