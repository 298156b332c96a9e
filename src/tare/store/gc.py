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
    """The nodes that no root reaches along ``references``.

    References and roots may name nodes that do not exist; they count for nothing.
    """
    everything = set(nodes)
    return everything - reachable(everything, roots, references)


def reachable(nodes: set[Node], roots: Iterable[Node], references: Mapping[Node, Iterable[Node]]) -> set[Node]:
    """The nodes that a root reaches along ``references``, itself included: the grey ones, once none is left."""
    found = {root for root in roots if root in nodes}
    grey = list(found)
    while grey:
        for node in references.get(grey.pop(), ()):
            if node not in found and node in nodes:
                found.add(node)
                grey.append(node)
    return found


def graph(connection: sqlite3.Connection) -> tuple[set[Node], dict[Node, list[Node]]]:
    """All objects of this database and what each refers to.

    An image refers to its configuration, its layers and the manifests that registries have of it, a layer to the
    snapshot that it was unpacked into, a snapshot to its lowers and its layer. Rows that name what does not exist
    (which foreign keys forbid, damage does not) count for nothing: an engine with such rows must start, so that they
    can be found.
    """
    known: dict[str, dict[str | int, Node]] = {
        kind: {row[0]: Node(kind, str(row[0])) for row in connection.execute(query)} for kind, query in _OBJECTS
    }
    references: dict[Node, list[Node]] = {}
    for (from_kind, to_kind), query in _REFERENCES:
        sources, destinations = known[from_kind], known[to_kind]
        # grouped by the database's own names, which are quicker to look up than nodes
        found: dict[str | int, list[Node]] = {}
        for source, destination in connection.execute(query):
            if (there := destinations.get(destination)) is not None:
                found.setdefault(source, []).append(there)
        for source, several in found.items():
            if (here := sources.get(source)) is not None:
                references.setdefault(here, []).extend(several)
    return {node for some in known.values() for node in some.values()}, references


def leased(connection: sqlite3.Connection) -> list[Node]:
    """What leases hold."""
    return [Node(kind, str(name)) for kind, name in connection.execute(_LEASED)]


def plan(connection: sqlite3.Connection) -> set[Node]:
    """What of this database is garbage.

    Roots: images, active snapshots, build cache rows, failed steps that are kept (with what their mounts show), leases.
    """
    nodes, references = graph(connection)
    return unreachable(nodes, roots(connection), references)


def roots(connection: sqlite3.Connection, *, build_cache: bool = True) -> list[Node]:
    """What keeps objects: see :func:`plan`; without ``build_cache`` what of it would stay if there were none."""
    queries = (_ROOTS, _CACHE_ROOTS) if build_cache else (_ROOTS,)
    found = [Node(kind, str(name)) for query in queries for kind, name in connection.execute(query)]
    return [*found, *leased(connection)]


_OBJECTS = (
    ("blob", "SELECT digest FROM blobs"),
    ("layer", "SELECT diff_id FROM layers"),
    ("snapshot", "SELECT id FROM snapshots"),
    ("image", "SELECT id FROM images"),
)
_REFERENCES = (
    (("image", "blob"), "SELECT id, id FROM images"),
    (("image", "layer"), "SELECT image, diff_id FROM image_layers"),
    (("image", "blob"), "SELECT image, digest FROM image_digests UNION SELECT image, manifest FROM image_digests"),
    (("layer", "snapshot"), "SELECT diff_id, id FROM snapshots WHERE kind = 'layer'"),
    (("snapshot", "layer"), "SELECT id, diff_id FROM snapshots WHERE diff_id IS NOT NULL"),
    (("snapshot", "snapshot"), "SELECT snapshot, lower FROM snapshot_lowers"),
)
_ROOTS = """
SELECT 'image', id FROM images
UNION ALL SELECT 'snapshot', id FROM snapshots WHERE kind = 'active'
UNION ALL SELECT 'snapshot', snapshot FROM kept_steps
UNION ALL SELECT 'snapshot', s.id FROM kept_step_parts p JOIN snapshots s ON s.key = p.object
UNION ALL SELECT 'layer', object FROM kept_step_parts WHERE kind = 'layer'
"""
_CACHE_ROOTS = """
SELECT 'snapshot', snapshot FROM build_cache WHERE snapshot IS NOT NULL
UNION ALL SELECT 'layer', diff_id FROM build_cache WHERE diff_id IS NOT NULL
"""
_LEASED = """
SELECT 'snapshot', s.id FROM lease_references r JOIN snapshots s ON s.key = r.object WHERE r.kind = 'snapshot'
UNION ALL SELECT kind, object FROM lease_references WHERE kind <> 'snapshot'
"""
