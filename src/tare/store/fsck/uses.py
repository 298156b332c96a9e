"""Who needs an object of the store, and how it can be had again."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from tare.errors import InvalidArgument
from tare.model import Reference
from tare.model.ids import short_id
from tare.store import gc
from tare.store.gc import Node
from tare.store.origins import ImageOrigin


@dataclass(frozen=True, slots=True)
class Uses:
    """Names of users as they are shown, and sentences that say how to get the object again, best first.

    ``needed`` says whether anything but the build cache needs it.
    """

    names: tuple[str, ...]
    fixes: tuple[str, ...]
    needed: bool

    @property
    def fix(self) -> str:
        """One sentence."""
        return "; ".join(self.fixes)


class Graph:
    """Everything that refers to anything, as it was in one transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        nodes, everything = gc.graph(connection)
        committed = {
            Node("snapshot", str(row[0]))
            for row in connection.execute("SELECT id FROM snapshots WHERE kind = 'committed'")
        }
        # What a step has left can be without the layer that was written of it.
        references = {
            source: [to for to in targets if not (source in committed and to.kind == "layer")]
            for source, targets in everything.items()
        }
        self._nodes = nodes
        self._above: dict[Node, list[Node]] = {}
        for source, several in references.items():
            for target in several:
                self._above.setdefault(target, []).append(source)
        roots = gc.roots(connection, build_cache=False)
        self._needed = gc.reachable(nodes, roots, references)

    def __contains__(self, node: Node) -> bool:
        return node in self._nodes

    def needs(self, node: Node) -> bool:
        """Whether anything but the build cache needs it."""
        return node in self._needed

    def above(self, node: Node) -> set[Node]:
        """It, and all that cannot be without it; a layer can be without the directory that it is unpacked into."""
        found, pending = {node}, [node]
        while pending:
            current = pending.pop()
            for source in self._above.get(current, ()):
                unpacked = source.kind == "layer" and current.kind == "snapshot"
                if not unpacked and source not in found:
                    found.add(source)
                    pending.append(source)
        return found


def find_uses(connection: sqlite3.Connection, graph: Graph, node: Node) -> Uses:
    """Who needs ``node``, inside a transaction."""
    above = graph.above(node)
    found = (item.name for item in above if item.kind == "image")
    images = sorted(found, key=lambda image: image_name(connection, image))
    snapshots = sorted(int(item.name) for item in above if item.kind == "snapshot")
    names = [f"image {image_name(connection, image)}" for image in images]
    names += [f"container {name}" for name in _containers(connection, snapshots, images)]
    names += [f"kept step step:{name[:8]}" for name in _kept_steps(connection, snapshots)]
    if not names and _is_cached(connection, above):
        names = ["build cache"]
    named = [image for image in images if _tags(connection, image)]
    fixes = [how_to_get(connection, image, node) for image in named or images]
    return Uses(tuple(names), tuple(dict.fromkeys(fixes)), graph.needs(node))


def image_name(connection: sqlite3.Connection, image: str) -> str:
    """What a user calls an image: its first name, else its short ID."""
    tags = _tags(connection, image)
    return tags[0].familiar() if tags else short_id(image)


def how_to_get(connection: sqlite3.Connection, image: str, node: Node | None = None) -> str:
    """How to get an image again; with a layer as ``node``, which instruction made that."""
    tags = _tags(connection, image)
    for tag in tags:
        if tag.is_virtual:
            return f"assemble it again with `tare pull {tag.familiar()}`"
    name = tags[0].familiar() if tags else short_id(image)
    query = "SELECT repository, digest FROM image_digests WHERE image = ? ORDER BY updated DESC"
    for repository, digest in connection.execute(query, (image,)):
        with suppress(InvalidArgument):
            return f"pull it again with `tare pull {Reference.parse(f'{repository}@{digest}').familiar()}`"
    row = connection.execute("SELECT document FROM image_origins WHERE image = ?", (image,)).fetchone()
    if row is not None:
        with suppress(msgspec.DecodeError):
            origin = msgspec.json.decode(row[0], type=ImageOrigin)
            return _how_to_build(connection, name, image, origin, node)
    return f"pull, load or import {name} again"


def _tags(connection: sqlite3.Connection, image: str) -> list[Reference]:
    found = []
    rows = connection.execute("SELECT reference FROM tags WHERE image = ? ORDER BY reference", (image,))
    for (text,) in rows.fetchall():
        with suppress(InvalidArgument):
            found.append(Reference.parse(text))
    return found


def _how_to_build(connection: sqlite3.Connection, name: str, image: str, origin: ImageOrigin, node: Node | None) -> str:
    """How an image that was built here gets its configuration or one of its layers again."""
    query = "SELECT position FROM image_layers WHERE image = ? AND diff_id = ? ORDER BY position"
    found = connection.execute(query, (image, node.name if node is not None else "")).fetchone()
    if found is None:
        return f"build {name} again"
    index = found[0] - origin.below
    if index < 0 and origin.base:
        return f"get {origin.base.removeprefix('FROM ')}, the base of {name}, again"
    if 0 <= index < len(origin.layers) and (made := origin.layers[index]).line:
        return f"build {name} again ({made.file}:{made.line} makes the layer)"
    return f"build {name} again"


def _containers(connection: sqlite3.Connection, snapshots: Collection[int], images: Collection[str]) -> list[str]:
    query = "SELECT s.id, c.name, c.image FROM containers c LEFT JOIN snapshots s ON s.key = c.id ORDER BY c.name"
    rows = connection.execute(query)
    return [name.lstrip("/") for number, name, image in rows if number in snapshots or image in images]


def _kept_steps(connection: sqlite3.Connection, snapshots: Collection[int]) -> list[str]:
    rows = connection.execute("SELECT snapshot, id FROM kept_steps ORDER BY created")
    return [name for number, name in rows if number in snapshots]


def _is_cached(connection: sqlite3.Connection, nodes: Collection[Node]) -> bool:
    return any(
        (snapshot is not None and Node("snapshot", str(snapshot)) in nodes)
        or (diff_id is not None and Node("layer", diff_id) in nodes)
        for snapshot, diff_id in connection.execute("SELECT snapshot, diff_id FROM build_cache")
    )
