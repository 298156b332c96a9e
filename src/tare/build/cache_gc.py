"""Keeps the build cache within its limits, and tells what is in it."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tare.base.shielding import to_end
from tare.build.cache_ledger import CacheRecord, Entry, Facts, Row, StepLedger, make_ledger, read_busy, read_facts
from tare.build.cache_others import Other, other_records
from tare.build.cache_policy import CacheLimits, Policy, choose, collection_policies
from tare.build.ops.workbench import Workbench
from tare.model import Digest
from tare.store import gc
from tare.store.gc import Node
from tare.store.usage import file_usage

_OLD_SECONDS = 60 * 24 * 3600.0  # after which content keys of images' files are forgotten


@dataclass(frozen=True, slots=True)
class Pruned:
    """What went: identifiers of records, and the bytes that this has freed."""

    ids: tuple[str, ...] = ()
    size: int = 0

    def __add__(self, other: Pruned) -> Pruned:
        return Pruned(self.ids + other.ids, self.size + other.size)


@dataclass(frozen=True, slots=True)
class _Ledger:
    """Everything: the records of steps, and the others, which are no objects of the store."""

    steps: StepLedger
    entries: Mapping[str, Entry]
    others: Mapping[str, Other]


class CacheKeeper:
    """Lists and deletes records of the build cache; one thing at a time is deleted, beside running builds."""

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        self._store = bench.store
        self._one = asyncio.Lock()
        self._looked = False
        self._collected = 0

    async def records(self) -> list[CacheRecord]:
        """All records, those used last coming last."""
        ledger = await self._ledger()
        found = [entry.record for entry in ledger.entries.values()]
        return sorted(found, key=lambda record: (record.last_used, record.id))

    async def disk(self) -> tuple[int, int]:
        """Size of the disk that the cache is on and what of it is free, in bytes."""
        usage = await asyncio.to_thread(shutil.disk_usage, self._store.root)
        return usage.total, usage.free

    async def prune(self, policy: Policy) -> Pruned:
        """Delete what ``policy`` asks for and nothing needs; returns what went.

        Records go before files do: a crash in between leaves files, which the next start deletes.
        """
        async with self._one:
            return await self._prune(await self._ledger(), [policy])

    async def collect(self, limits: CacheLimits, *, cut_short: bool = False) -> Pruned:
        """Bring the cache within its limits, and delete what steps made and nothing refers to.

        Steps that were ``cut_short`` leave such things as well as those that ended, which show files of the context.
        """
        async with self._one:
            made = self._bench.cache.made
            if cut_short or made != self._collected:
                self._collected = made
                await to_end(self._store.collect())
            disk, _ = await self.disk()
            policies = collection_policies(limits, disk, time.time())
            if self._looked and not await self._may_exceed(policies):
                return Pruned()
            self._looked = True  # the first pass also forgets rows that lead to nothing any more
            return await self._prune(await self._ledger(), policies)

    async def _may_exceed(self, policies: Sequence[Policy]) -> bool:
        """A quick look whether a collection can have something to do: the cache is a part of what the store has."""
        query = "SELECT (SELECT total(size) FROM layers) + (SELECT total(size) FROM snapshots)"
        stored = await self._store.db.read(lambda db: float(db.execute(query).fetchone()[0]))
        stored += sum(other.record.size for other in await other_records(self._bench))
        return any(policy.keep is not None and stored > policy.keep for policy in policies)

    async def _ledger(self) -> _Ledger:
        facts = await self._store.db.read(read_facts)
        steps = await asyncio.to_thread(lambda: make_ledger(facts, self._sizes(facts)))
        entries = dict(steps.entries)
        others = {other.record.id: other for other in await other_records(self._bench)}
        for name, other in others.items():
            entries[name] = Entry(record=other.record, rows=(), nodes=frozenset(), needs=frozenset())
        return _Ledger(steps, entries, others)

    def _sizes(self, facts: Facts) -> dict[Node, int]:
        """Bytes on disk of layers' tars, and of snapshots with the directories that hold them."""
        sizes: dict[Node, int] = {}
        for diff_id in facts.layers:
            sizes[Node("layer", diff_id)] = file_usage(self._store.layers.path(Digest.parse(diff_id)))
        snapshots = self._store.root / "snapshots"
        for node, kind, size, _ in facts.snapshots.values():
            directory = snapshots / node.name
            content = directory / ("fs" if kind == "layer" else "upper")
            sizes[node] = size + file_usage(directory) + file_usage(content)
        return sizes

    async def _prune(self, ledger: _Ledger, policies: Sequence[Policy]) -> Pruned:
        done = Pruned()
        for policy in policies:
            chosen = choose(ledger.entries, policy)
            gone = await to_end(self._delete(ledger, chosen, self._loose(ledger, policy)))
            records = [ledger.entries[name].record for name in gone]
            done += Pruned(tuple(gone), sum(record.size for record in records if not record.shared))
            rest = {name: entry for name, entry in ledger.entries.items() if name not in gone}
            ledger = _Ledger(StepLedger(entries={}), rest, ledger.others)
        return done

    def _loose(self, ledger: _Ledger, policy: Policy) -> list[Row]:
        """Rows without a record that go with this pass."""
        everything = policy.everything and policy.keep is None and policy.before is None
        oldest = time.time() - _OLD_SECONDS
        loose = [row for row in ledger.steps.loose if everything or row.last_used < oldest]
        return [*ledger.steps.stale, *loose]

    async def _delete(self, ledger: _Ledger, chosen: Sequence[str], rows: Sequence[Row]) -> list[str]:
        """Delete these records but for what a build has taken meanwhile; returns which went."""
        gone: list[str] = []
        steps = {name: ledger.entries[name] for name in chosen if ledger.entries[name].nodes}
        if steps or rows:
            async with self._bench.cache.pruning.exclusive():
                taken = self._bench.cache.in_use()
                deleted = await self._store.db.write(lambda db: _delete_rows(db, steps, rows, taken, ledger.entries))
            await self._store.collect()
            gone += [name for name in steps if name in deleted]
        return gone + [name for name in chosen if name in ledger.others and await ledger.others[name].remove()]


def _delete_rows(
    db: sqlite3.Connection,
    steps: Mapping[str, Entry],
    rows: Iterable[Row],
    taken: set[str],
    entries: Mapping[str, Entry],
) -> set[str]:
    """Delete the rows of these records, inside a transaction; returns the records that went.

    A build may have taken up records since they were chosen: they stay, with all that they stand on.
    """
    nodes, references = gc.graph(db)
    busy = read_busy(db, nodes, references)
    used = dict(db.execute("SELECT key, last_used FROM build_cache").fetchall())

    def as_chosen(row: Row) -> bool:
        return row.key not in taken and used.get(row.key, row.last_used) == row.last_used

    staying = [
        name
        for name, entry in steps.items()
        if not entry.nodes.isdisjoint(busy) or not all(as_chosen(row) for row in entry.rows)
    ]
    kept = set(staying)
    while staying:
        for name in entries[staying.pop()].needs:
            if name in entries and name not in kept:
                kept.add(name)
                staying.append(name)
    gone = steps.keys() - kept
    doomed = [row.key for name in gone for row in steps[name].rows] + [row.key for row in rows if as_chosen(row)]
    db.executemany("DELETE FROM build_cache WHERE key = ?", [(key,) for key in doomed])
    return set(gone)
