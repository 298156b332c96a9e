"""What the build cache consists of: records with their sizes, and which must go before which.

A record is one piece of a root file system with all that is kept of it: the rows of table ``build_cache`` that lead to
it, the frozen directory of a RUN, the tar of a layer, the tar's unpacked form. Bytes that an image needs as well are
the image's; a record that is nothing but such bytes is ``shared``.
"""

from __future__ import annotations

import heapq
import itertools
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from tare.build.cache import Part, Result
from tare.build.phrasing import describe_fields
from tare.store import gc
from tare.store.gc import Node

ID_LENGTH = 25  # characters, as of BuildKit's identifiers

REGULAR, CACHE_MOUNT, LOCAL_SOURCE, GIT_SOURCE = "regular", "exec.cachemount", "source.local", "source.git.checkout"
"""Record types by the names that Docker has for them (client/diskusage.go of BuildKit)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheRecord:
    """One record; ``size`` in bytes on disk, times in seconds since 1970.

    ``dangling``: no image has it. ``in_use``: a running build has it. ``mutable``: its content may change.
    """

    id: str
    type: str
    description: str
    size: int
    created: float
    last_used: float
    uses: int = 1
    parents: tuple[str, ...] = ()
    shared: bool = False
    dangling: bool = True
    in_use: bool = False
    mutable: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A row of ``build_cache``: its key and when it was used, which tells whether it still is the same."""

    key: str
    last_used: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A record of the store and what hangs on it: its rows, its objects, the records that it cannot be without."""

    record: CacheRecord
    rows: tuple[Row, ...]
    nodes: frozenset[Node]
    needs: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLedger:
    """The records of steps by id, and the rows that lead to nothing any more or to no record."""

    entries: Mapping[str, Entry]
    stale: tuple[Row, ...] = ()
    loose: tuple[Row, ...] = ()


class _Line(msgspec.Struct, frozen=True):
    key: str
    result: Result
    fields: str
    created: float
    last_used: float
    uses: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """One consistent view of the database: rows of the cache and the graph of stored objects with its roots."""

    lines: Sequence[_Line]
    nodes: set[Node]
    references: Mapping[Node, Sequence[Node]]
    snapshots: Mapping[str, tuple[Node, str, int, float]]
    layers: Mapping[str, float]
    of_images: set[Node]
    busy: set[Node]


def read_facts(connection: sqlite3.Connection) -> Facts:
    """Everything that the ledger is made from, inside a transaction."""
    nodes, references = gc.graph(connection)
    rows = connection.execute("SELECT key, result, fields, created, last_used, uses FROM build_cache").fetchall()
    return Facts(
        lines=[_Line(row[0], msgspec.json.decode(row[1], type=Result), *row[2:]) for row in rows],
        nodes=nodes,
        references=references,
        snapshots={
            key: (Node("snapshot", str(number)), kind, size, created)
            for number, key, kind, size, created in connection.execute(
                "SELECT id, key, kind, size, created FROM snapshots"
            )
        },
        layers=dict(connection.execute("SELECT diff_id, created FROM layers").fetchall()),
        of_images=gc.reachable(nodes, _of_images(connection), references),
        busy=read_busy(connection, nodes, references),
    )


def read_busy(connection: sqlite3.Connection, nodes: set[Node], references: Mapping[Node, Sequence[Node]]) -> set[Node]:
    """What running builds hold: by leases, and below the writable directories of their steps."""
    query = "SELECT id FROM snapshots WHERE kind = 'active' AND key NOT IN (SELECT id FROM containers)"
    steps = [Node("snapshot", str(row[0])) for row in connection.execute(query)]
    return gc.reachable(nodes, [*gc.leased(connection), *steps], references)


def _of_images(connection: sqlite3.Connection) -> list[Node]:
    query = (
        "SELECT 'image', id FROM images UNION ALL SELECT 'snapshot', id FROM snapshots"
        " WHERE kind = 'active' AND key IN (SELECT id FROM containers)"
    )
    return [Node(kind, str(name)) for kind, name in connection.execute(query)]


@dataclass(slots=True)
class _Group:
    """A record in the making."""

    part: Part
    nodes: set[Node] = field(default_factory=set)
    lines: list[_Line] = field(default_factory=list)


def make_ledger(facts: Facts, sizes: Mapping[Node, int]) -> StepLedger:
    """The records of steps; ``sizes`` has the bytes on disk of every object that matters."""
    groups, owner = _group(facts)
    stale, loose = _attach(facts, groups, owner)
    needs: dict[str, set[str]] = {}
    for name, group in groups.items():
        below = {owner.get(to, name) for node in group.nodes for to in facts.references.get(node, ())}
        needs[name] = below - {name}
    parents = {name: _parents(group, owner, facts) for name, group in groups.items()}
    used = _last_used(groups, {name: needs[name] | set(parents[name]) for name in groups})
    entries: dict[str, Entry] = {}
    for name, group in groups.items():
        if not group.lines and group.nodes <= facts.of_images:
            continue  # layers of images that steps stand on: the images' own
        record = _record(name, group, facts, sizes, used[name])
        rows = tuple(Row(line.key, line.last_used) for line in group.lines)
        entries[name] = Entry(record=record, rows=rows, nodes=frozenset(group.nodes), needs=frozenset(needs[name]))
    shown = {
        name: replace(entry, record=replace(entry.record, parents=tuple(p for p in parents[name] if p in entries)))
        for name, entry in entries.items()
    }
    return StepLedger(entries=shown, stale=tuple(stale), loose=tuple(loose))


def _group(facts: Facts) -> tuple[dict[str, _Group], dict[Node, str]]:
    """The objects that the cache keeps, by record, and the record of each object."""
    own_parts = [line.result.part for line in facts.lines if line.result.part is not None]
    roots = [node for part in own_parts if (node := _node(part, facts)) is not None]
    kept = gc.reachable(facts.nodes, roots, facts.references)
    layers_of_rows = {part.key for part in own_parts if part.kind == "layer"}
    exports: dict[str, list[str]] = {}
    for key, (node, kind, _, _) in facts.snapshots.items():
        if kind == "committed" and node in kept:
            for to in facts.references.get(node, ()):
                if to.kind == "layer":
                    exports.setdefault(to.name, []).append(key)
    groups: dict[str, _Group] = {}
    owner: dict[Node, str] = {}

    def add(part: Part, node: Node) -> None:
        name = record_id(part)
        groups.setdefault(name, _Group(part)).nodes.add(node)
        owner[node] = name

    def home(diff_id: str) -> Part:
        """The tar of one RUN's result belongs to it, any other layer is a record of its own."""
        exported = exports.get(diff_id, [])
        if len(exported) == 1 and diff_id not in layers_of_rows:
            return Part(kind="snapshot", key=exported[0])
        return Part(kind="layer", key=diff_id)

    for key, (node, kind, _, _) in facts.snapshots.items():
        if node in kept:
            add(Part(kind="snapshot", key=key) if kind != "layer" else home(key), node)
    for diff_id in facts.layers:
        if (node := Node("layer", diff_id)) in kept:
            add(home(diff_id), node)
    return groups, owner


def _attach(facts: Facts, groups: Mapping[str, _Group], owner: Mapping[Node, str]) -> tuple[list[Row], list[Row]]:
    """Give the groups their rows; returns the rows without: what they are about is gone, or is only an image's."""
    stale: list[Row] = []
    loose: list[Row] = []
    for line in facts.lines:
        part = line.result.part or _about(line.fields)
        node = _node(part, facts) if part is not None else None
        if node is not None and node in owner:
            groups[owner[node]].lines.append(line)
        else:
            (stale if node is None else loose).append(Row(line.key, line.last_used))
    return stale, loose


class _Content(msgspec.Struct):
    chain: list[tuple[str, str]] = []


def _about(fields: str) -> Part | None:
    """What a row that only remembers a content key looked at: the top of that file system."""
    chain = msgspec.json.decode(fields, type=_Content).chain
    return msgspec.convert({"kind": chain[-1][0], "key": chain[-1][1]}, Part) if chain else None


def _node(part: Part, facts: Facts) -> Node | None:
    if part.kind == "layer":
        return Node("layer", part.key) if part.key in facts.layers else None
    found = facts.snapshots.get(part.key)
    return found[0] if found is not None else None


def record_id(part: Part) -> str:
    """The identifier of a piece's record."""
    return part.key.removeprefix("sha256:")[:ID_LENGTH]


def _parents(group: _Group, owner: Mapping[Node, str], facts: Facts) -> tuple[str, ...]:
    """The records that the step's results stand on."""
    found: dict[str, None] = {}
    for line in group.lines:
        chain = line.result.chain
        node = _node(chain[-2], facts) if line.result.part is not None and len(chain) > 1 else None
        if node is not None and node in owner:
            found[owner[node]] = None
    return tuple(found)


def _last_used(groups: Mapping[str, _Group], below: Mapping[str, set[str]]) -> dict[str, float]:
    """When each was last used; whoever uses a step uses what it stands on."""
    own = {name: max((line.last_used for line in group.lines), default=0.0) for name, group in groups.items()}
    used: dict[str, float] = {}
    for start in sorted(own, key=lambda name: own[name], reverse=True):
        pending = [start]
        while pending:
            name = pending.pop()
            if name not in used:
                used[name] = own[start]
                pending += [other for other in below[name] if other not in used]
    return used


def _record(name: str, group: _Group, facts: Facts, sizes: Mapping[Node, int], used: float) -> CacheRecord:
    private = group.nodes - facts.of_images
    lines = group.lines
    dates = [line.created for line in lines] or [_created(group, facts)]
    return CacheRecord(
        id=name,
        type=REGULAR,
        description=_description(lines) or f"{group.part.kind} {group.part.key}",
        size=sum(sizes.get(node, 0) for node in private or group.nodes),
        created=min(dates),
        last_used=used or max(dates),
        uses=max((line.uses for line in lines), default=0),
        shared=not private,
        dangling=private == group.nodes,
        in_use=not group.nodes.isdisjoint(facts.busy),
    )


def _created(group: _Group, facts: Facts) -> float:
    part = group.part
    return facts.layers.get(part.key, 0.0) if part.kind == "layer" else facts.snapshots[part.key][3]


def _description(lines: Iterable[_Line]) -> str:
    for line in sorted(lines, key=lambda line: line.created):
        if text := describe_fields(msgspec.json.decode(line.fields)):
            return text
    return ""


def removal_order(entries: Mapping[str, Entry], candidates: Iterable[str]) -> Iterable[str]:
    """The candidates in the order in which they can go: least recently used first, none before what stands on it.

    A candidate that something stands on that stays is left out. The order may be followed for a part only.
    """
    wanted = set(candidates)
    holders = dict.fromkeys(entries, 0)
    for entry in entries.values():
        for name in entry.needs & holders.keys():
            holders[name] += 1
    counter = itertools.count()
    ready = [(entries[name].record.last_used, next(counter), name) for name in wanted if not holders[name]]
    heapq.heapify(ready)
    while ready:
        _, _, name = heapq.heappop(ready)
        yield name
        for below in entries[name].needs & holders.keys():
            holders[below] -= 1
            if not holders[below] and below in wanted:
                heapq.heappush(ready, (entries[below].record.last_used, next(counter), below))
