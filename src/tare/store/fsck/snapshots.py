"""Snapshots that are no unpacked layers: what steps have left, what containers write; and directories without a row."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from tare.model import Digest
from tare.store.fsck.blobs import remove_any
from tare.store.fsck.directories import Replacement, replace_directory
from tare.store.fsck.findings import Problem, State
from tare.store.fsck.run import Lost, Run
from tare.store.gc import Node
from tare.store.unpacked import EMPTY


async def check_snapshots(run: Run) -> None:
    """Every committed and active snapshot with its directories."""
    for (key,) in await run.read("SELECT key FROM snapshots WHERE kind <> 'layer' ORDER BY id"):
        run.looking_at(f"snapshot {key}")
        async with run.parts.locks.hold(f"snapshot {key}"):
            rows = await run.read("SELECT id, kind, diff_id FROM snapshots WHERE key = ? AND kind <> 'layer'", key)
            for number, kind, diff_id in rows:
                run.checked["snapshots"] += 1
                await _check(run, key, int(number), kind, diff_id)
    await _check_lowers(run)


async def _check(run: Run, key: str, number: int, kind: str, diff_id: str | None) -> None:
    content = run.parts.snapshots.content_path(number, kind)
    if not await asyncio.to_thread(content.is_dir):
        problem = Problem(
            code="snapshot-missing", kind="snapshot", object=key, cause=f"its directory {content} is missing"
        )
        await _heal(run, problem, number, kind, diff_id)
    elif kind == "active" and not await asyncio.to_thread(content.with_name("work").is_dir):
        work = content.with_name("work")
        problem = Problem(
            code="snapshot-work",
            kind="snapshot",
            object=key,
            cause=f"{work}, where the kernel prepares what is written, is missing",
            repair="makes it anew: it holds nothing between runs",
        )
        await run.heal(problem, lambda: asyncio.to_thread(work.mkdir, mode=0o755))


async def _heal(run: Run, problem: Problem, number: int, kind: str, diff_id: str | None) -> None:
    """What a build step has left is its layer, if one was written; what a container has written is nowhere else."""
    node = Node("snapshot", str(number))
    if kind == "active":
        run.lost.append(Lost(node, problem))
        return
    layers = await run.read("SELECT size FROM layers WHERE diff_id = ?", diff_id)
    if diff_id is None or not layers or run.is_lost("layer", diff_id):
        run.lost.append(Lost(node, problem))
        return
    problem = msgspec.structs.replace(problem, repair=f"unpacks the layer {diff_id}, which was written of it")
    if not run.options.repair:
        run.tell(problem)
        return
    async with run.parts.locks.hold(f"layer {diff_id}"):
        wanted = Replacement(Digest.parse(diff_id), int(layers[0][0]), number, kind)
        fix = await replace_directory(run, wanted)
    if fix:
        run.leave(msgspec.structs.replace(problem, fix=fix))
    else:
        run.tell(msgspec.structs.replace(problem, state=State.REPAIRED))


async def _check_lowers(run: Run) -> None:
    """What a build step has left stands on what is there; containers are looked at with their images."""
    query = (
        "SELECT DISTINCT s.id, s.key, l.lower FROM snapshot_lowers l JOIN snapshots s ON s.id = l.snapshot"
        " WHERE l.lower NOT IN (SELECT id FROM snapshots) AND s.key NOT IN (SELECT id FROM containers)"
    )
    for number, key, lower in await run.read(query):
        cause = f"it stands on snapshot {lower}, which does not exist"
        problem = Problem(code="snapshot-lower", kind="snapshot", object=key, cause=cause)
        run.lost.append(Lost(Node("snapshot", str(number)), problem))


async def check_directories(run: Run) -> None:
    """Every directory below ``snapshots/`` has a row, or is being made or deleted right now."""
    root = run.parts.snapshots.content_path(0, "layer").parent.parent
    for path in await _unknown(run, root):
        problem = Problem(
            code="directory-unknown",
            kind="file",
            object=os.fspath(path),
            cause="the database does not know it",
            repair="deletes it",
        )
        await run.heal(problem, _removing(path))
    empty = root / EMPTY
    if not await asyncio.to_thread(empty.is_dir):
        problem = Problem(
            code="directory-missing",
            kind="file",
            object=os.fspath(empty),
            cause="the empty directory that stands below images without layers is missing",
            repair="makes it anew",
        )
        await run.heal(problem, lambda: asyncio.to_thread(empty.mkdir, mode=0o755))


def _removing(path: Path) -> Callable[[], Awaitable[None]]:
    return lambda: asyncio.to_thread(remove_any, path)


async def _unknown(run: Run, root: Path) -> list[Path]:
    """Directories without a row; looked for between two transactions, as rows and their directories come at once."""
    snapshots = run.parts.snapshots

    def find(connection: sqlite3.Connection) -> list[str]:
        before = set(snapshots.unfinished)
        names = os.listdir(root)  # noqa: PTH208 - many short strings
        known = {str(row[0]) for row in connection.execute("SELECT id FROM snapshots")}
        known |= before | snapshots.unfinished | {EMPTY}
        return sorted(name for name in names if name not in known and os.path.lexists(root / name))

    async with run.parts.collecting:  # which deletes rows before directories
        return [root / name for name in await run.parts.db.write(find, durable=False)]
