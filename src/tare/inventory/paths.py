"""Names of files as package databases have them, brought to the names that the tree has."""

from __future__ import annotations

from tare.errors import DataCorrupt
from tare.inventory.tree import Node, resolve


def printable(text: str) -> str:
    """``text`` with what is no Unicode (bytes of names that are not UTF-8) as escapes, so that JSON can hold it."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


class Canonical:
    """Follows links among the directories of a path, as ``/lib`` of a merged ``/usr``; each directory once."""

    def __init__(self, root: Node) -> None:
        self._root = root
        self._directories: dict[str, str] = {"": ""}

    def path(self, path: str) -> str:
        """The tree's name for ``path`` (no leading slash in either); a link at the end stays."""
        parent, _, name = path.rpartition("/")
        found = self._directories.get(parent)
        if found is None:
            try:
                found = "/".join(resolve(self._root, parent))
            except DataCorrupt:  # a loop of links: nothing is there
                found = parent
            self._directories[parent] = found
        return f"{found}/{name}" if found else name
