"""Read an image's layer tars once, in order: what is in each, what hides what, and whose the files are.

Contents are hashed as they stream by and not kept, but for package databases; memory goes with the number of names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tare.archive.entry import Entry, Kind
from tare.archive.tar_reader import WHITEOUT_PREFIX
from tare.archive.tar_stream import iter_entries
from tare.base.readers import CHUNK, Readable
from tare.errors import DataCorrupt
from tare.inventory.databases import find_packages, is_record
from tare.inventory.packages import NOBODY, Package, Registry
from tare.inventory.tree import Content, LayerTree, Node, merge, new_root, walk

_RECORD_LIMIT = 16 << 20  # bytes of one database file that are read
_RECORDS_LIMIT = 256 << 20  # of all together
_BUFFER = 1 << 18


@dataclass(slots=True, kw_only=True)
class LayerScan:
    """One layer: ``size`` in bytes of its tar, ``contents`` are the files that it ships."""

    size: int
    contents: list[Content] = field(default_factory=list)

    @property
    def shipped(self) -> int:
        """Bytes of its files; the rest of the tar is headers and padding."""
        return sum(content.size for content in self.contents)


@dataclass(slots=True, kw_only=True)
class Inventory:
    """An image: ``root`` is what a container sees, ``packages`` are those of that tree.

    ``owners`` gives the package of each content that has one, also of those which are hidden: the one that had it when
    its layer was written.
    """

    root: Node
    layers: list[LayerScan]
    packages: Registry
    owners: dict[Content, Package]

    def contents(self) -> Iterator[Content]:
        """All that is shipped, the bottom layer first."""
        for layer in self.layers:
            yield from layer.contents

    def files(self) -> Iterator[tuple[str, Node, Content]]:
        """Every visible name of a regular file, sorted; hard links give one content several times."""
        for path, node in walk(self.root):
            if node.content is not None:
                yield path, node, node.content


def take_inventory(
    layers: Sequence[Path], *, sha1: bool = False, keep: Callable[[str], bool] = lambda _: False
) -> Inventory:
    """Read the tars ``layers``, bottom first. Blocking, for seconds where images are large.

    ``keep`` names further files whose content is kept, ``sha1`` asks for that digest too. Raises DataCorrupt for a
    layer that cannot be unpacked either, and for package databases past 256 MB; OSError.
    """
    scanner = _Scanner(sha1=sha1, keep=keep)
    for number, path in enumerate(layers):
        scanner.add(number, path)
    return scanner.finish()


class _Scanner:
    def __init__(self, *, sha1: bool, keep: Callable[[str], bool]) -> None:
        self._sha1 = sha1
        self._keep = keep
        self._root = new_root()
        self._layers: list[LayerScan] = []
        self._registry = Registry()
        self._owners: dict[Content, Package] = {}
        self._kept = 0
        self._names = 0

    def add(self, number: int, path: Path) -> None:
        layer = LayerTree(number, self._names)
        scan = LayerScan(size=path.stat().st_size)
        changed = False
        with path.open("rb", buffering=_BUFFER) as stream:
            for entry, data in iter_entries(stream):
                place = layer.locate(entry.path)
                content = self._read(number, place, entry, data) if data is not None else None
                if content is not None:
                    scan.contents.append(content)
                is_mark = place.rpartition("/")[2].startswith(WHITEOUT_PREFIX)
                changed |= is_mark or (content is not None and is_record(place))
                layer.add(replace(entry, path=place) if place != entry.path else entry, content)
        self._names = layer.names
        merge(self._root, layer)
        self._layers.append(scan)
        if changed:
            self._registry = find_packages(self._root)
        for content in scan.contents:
            owner = self._registry.owner(content.path)
            if owner is not NOBODY:
                self._owners[content] = owner

    def finish(self) -> Inventory:
        for layer in self._layers:
            for content in layer.contents:
                if content not in self._owners and (owner := self._registry.owner(content.path)) is not NOBODY:
                    self._owners[content] = owner  # the database came with a later layer
        return Inventory(root=self._root, layers=self._layers, packages=self._registry, owners=self._owners)

    def _read(self, layer: int, path: str, entry: Entry, data: Readable) -> Content | None:
        if entry.kind is not Kind.FILE:
            return None
        if not entry.size and path.rpartition("/")[2].startswith(WHITEOUT_PREFIX):
            return None
        sha256, sha1 = hashlib.sha256(), hashlib.sha1(usedforsecurity=False) if self._sha1 else None
        kept: list[bytes] | None = [] if is_record(path) or self._keep(path) else None
        if kept is not None:
            self._kept += min(entry.size, _RECORD_LIMIT)
            if entry.size > _RECORD_LIMIT:
                kept = None
            elif self._kept > _RECORDS_LIMIT:
                raise DataCorrupt(
                    f"layer {layer}: package databases of more than {_RECORDS_LIMIT} bytes, at /{path[:200]}",
                    hint="no distribution has that much: look at what the layer puts there",
                    code="inventory-too-large",
                )
        while chunk := data.read(CHUNK):
            sha256.update(chunk)
            if sha1 is not None:
                sha1.update(chunk)
            if kept is not None:
                kept.append(chunk)
        return Content(
            layer=layer,
            path=path,
            size=entry.size,
            sha256=sha256.digest(),
            sha1=sha1.digest() if sha1 is not None else b"",
            text=b"".join(kept) if kept is not None else None,
        )
