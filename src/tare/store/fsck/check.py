"""The check of a whole store, beside a working engine.

Each object is looked at under its lock, and its row is read again before anything is said of it: what is in flight is
no problem. Files are read in threads, one at a time; the memory taken grows with the names in one layer.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence

import msgspec

from tare.store.fsck.blobs import DAMAGED, check_blobs, remove_any
from tare.store.fsck.database import read_faults
from tare.store.fsck.findings import Observe, Options, Problem, Report
from tare.store.fsck.images import check_containers, check_images, read_configurations
from tare.store.fsck.layers import check_layers
from tare.store.fsck.reading import Seen, identity
from tare.store.fsck.references import (
    check_build_cache,
    check_foreign_keys,
    check_kept_steps,
    check_tags,
    find_violations,
)
from tare.store.fsck.run import Lost, Parts, Run
from tare.store.fsck.snapshots import check_directories, check_snapshots
from tare.store.fsck.strays import check_strays
from tare.store.fsck.uses import Graph, Uses, find_uses
from tare.store.gc import Node
from tare.store.threads import run_undoable


class StoreCheck:
    """Checks one store, and repairs it; the caller sees to it that one check runs at a time."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def run(self, options: Options, observe: Observe, more: Sequence[Problem] = ()) -> Report:
        """Look at everything and tell ``observe`` of each problem; ``more`` were found by others, who cannot heal them.

        Problems that one repair leads to are told as well: a corrected size of a layer corrects those of its images.
        Raises Exhausted when a repair finds no space; what was repaired before stays so.
        """
        run = Run(self._parts, options, observe)
        if not await _check_database(run):
            return run.report()
        sizes = await run.read("SELECT (SELECT total(size) FROM blobs) + (SELECT total(size) FROM layers)")
        run.total = int(float(sizes[0][0]))
        await check_strays(run, await find_violations(run), await _configured(run))
        await check_blobs(run)
        await check_layers(run)
        await check_foreign_keys(run)
        configured = await read_configurations(run)
        await check_images(run, configured)
        await check_tags(run)
        await check_containers(run, configured)
        await check_kept_steps(run)
        await check_build_cache(run)
        await check_snapshots(run)
        for problem in more:
            run.leave(problem)
        await _conclude(run)
        await check_directories(run)
        return run.report()


async def _check_database(run: Run) -> bool:
    """Whether the file is whole: of a broken one nothing can be believed, and nothing is to be written to it."""
    path = run.parts.db.path
    run.looking_at("database")
    faults = await run_undoable(lambda abort: read_faults(path, abort), lambda _: None)
    run.checked["databases"] += 1
    for fault in faults:
        run.leave(
            Problem(
                code="database-damaged",
                kind="database",
                object=str(path),
                cause=fault,
                fix="stop the engine and restore the file from a backup, or write what is left of it into a new one:"
                f" `sqlite3 {path} .recover | sqlite3 {path}.new`",
            )
        )
    return not faults


async def _configured(run: Run) -> set[str]:
    return {diff_id for layers in (await read_configurations(run)).values() for diff_id in layers}


async def _conclude(run: Run) -> None:
    """Delete what could not be healed and only the build cache needs; tell how to get what anything else needs."""
    dropped = False
    graph = await run.parts.db.read(Graph) if run.lost else None
    for lost in run.lost:
        if graph is None or lost.node not in graph:
            continue  # deleted meanwhile
        uses = await run.parts.db.read(lambda connection, node=lost.node: find_uses(connection, graph, node))  # type: ignore[misc]
        problem = msgspec.structs.replace(lost.problem, used_by=list(uses.names))
        if not uses.needed:
            told = (
                "deletes it with its records: a build makes it again" if uses.names else "deletes it: nothing needs it"
            )
            await run.heal(msgspec.structs.replace(problem, repair=told), lambda node=lost.node: _drop(run, node))  # type: ignore[misc]
            dropped = True
            continue
        problem = msgspec.structs.replace(problem, fix=_fix(problem, uses))
        if problem.repair and not run.options.repair:
            run.tell(problem)
            continue
        run.leave(msgspec.structs.replace(problem, repair=""))
        if run.options.repair:
            await _set_aside(run, lost)
    if dropped and run.options.repair:
        await run.parts.collect()


def _fix(problem: Problem, uses: Uses) -> str:
    if uses.fix:
        return uses.fix
    if any(name.startswith("container ") for name in uses.names):
        return "remove the container and make it again: what it had written is lost"
    if any(name.startswith("kept step ") for name in uses.names):
        return "build again: the step's files are lost"
    return problem.fix or "what is being built or pulled with it now will fail: do that again"


async def _drop(run: Run, node: Node) -> None:
    """Delete what of the build cache cannot be without ``node``; the node itself is garbage then."""

    def delete(connection: sqlite3.Connection) -> None:
        graph = Graph(connection)
        if node not in graph or graph.needs(node):
            return  # somebody has come to need it
        for one in graph.above(node):
            column, value = ("diff_id", one.name) if one.kind == "layer" else ("snapshot", one.name)
            if one.kind in ("layer", "snapshot"):
                connection.execute(f"DELETE FROM build_cache WHERE {column} = ?", (value,))  # noqa: S608 - two columns
        if node.kind == "layer":
            connection.execute(
                "UPDATE snapshots SET diff_id = NULL WHERE kind = 'committed' AND diff_id = ?", (node.name,)
            )

    await run.change(delete)


async def _set_aside(run: Run, lost: Lost) -> None:
    """Rename a damaged file, so that nobody takes it for what it was, and what is left of it is not lost."""
    path, seen = lost.path, lost.seen
    if path is None or seen is None or seen.what == "missing":
        return

    def rename() -> None:
        try:
            now = identity(path.lstat())
        except FileNotFoundError:
            return
        if seen.identity in (now, Seen("").identity):
            aside = path.with_suffix(DAMAGED)
            remove_any(aside)
            path.rename(aside)

    async with run.parts.locks.hold(f"{lost.node.kind} {lost.node.name}"):
        await asyncio.to_thread(rename)  # what has come in its place meanwhile stays
