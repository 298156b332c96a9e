"""What can go: everything that no root reaches."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Node(NamedTuple):
    """An object of the store: kind is blob, layer, snapshot (by id) or image."""

    kind: str
    name: str


def unreachable(nodes: Iterable[Node], roots: Iterable[Node], references: Mapping[Node, Iterable[Node]]) -> set[Node]:
    """The nodes that no root reaches along ``references``: white ones, once no grey one is left.

    References and roots may name nodes that do not exist; they count for nothing.
    """
    white = set(nodes)
    grey = [root for root in roots if root in white]
    white.difference_update(grey)
    while grey:
        for node in references.get(grey.pop(), ()):
            if node in white:
                white.remove(node)
                grey.append(node)
    return white


def plan(connection: sqlite3.Connection) -> set[Node]:
    """What of this database is garbage.

    Roots: images, active snapshots, build cache rows, failed steps that are kept (with what their mounts show), leases.
    An image refers to its configuration and layers, a layer to the snapshot that it was unpacked into, a snapshot to
    its lowers and its layer.
    """
    nodes: list[Node] = []
    references: dict[Node, list[Node]] = {}
    for kind, query in _OBJECTS:
        nodes += [Node(kind, str(row[0])) for row in connection.execute(query)]
    for (from_kind, to_kind), query in _REFERENCES:
        for source, destination in connection.execute(query):
            references.setdefault(Node(from_kind, str(source)), []).append(Node(to_kind, str(destination)))
    roots = [Node(kind, str(name)) for kind, name in connection.execute(_ROOTS)]
    return unreachable(nodes, roots, references)


_OBJECTS = (
    ("blob", "SELECT digest FROM blobs"),
    ("layer", "SELECT diff_id FROM layers"),
    ("snapshot", "SELECT id FROM snapshots"),
    ("image", "SELECT id FROM images"),
)
_REFERENCES = (
    (("image", "blob"), "SELECT id, id FROM images"),
    (("image", "layer"), "SELECT image, diff_id FROM image_layers"),
    (("layer", "snapshot"), "SELECT diff_id, id FROM snapshots WHERE kind = 'layer'"),
    (("snapshot", "layer"), "SELECT id, diff_id FROM snapshots WHERE diff_id IS NOT NULL"),
    (("snapshot", "snapshot"), "SELECT snapshot, lower FROM snapshot_lowers"),
)
_ROOTS = """
SELECT 'image', id FROM images
UNION ALL SELECT 'snapshot', id FROM snapshots WHERE kind = 'active'
UNION ALL SELECT 'snapshot', snapshot FROM build_cache WHERE snapshot IS NOT NULL
UNION ALL SELECT 'layer', diff_id FROM build_cache WHERE diff_id IS NOT NULL
UNION ALL SELECT 'snapshot', snapshot FROM kept_steps
UNION ALL SELECT 'snapshot', s.id FROM kept_step_parts p JOIN snapshots s ON s.key = p.object
UNION ALL SELECT 'layer', object FROM kept_step_parts WHERE kind = 'layer'
UNION ALL SELECT 'snapshot', s.id FROM lease_references r JOIN snapshots s ON s.key = r.object WHERE r.kind = 'snapshot'
UNION ALL SELECT kind, object FROM lease_references WHERE kind <> 'snapshot'
"""
