"""Layers: each tar is the bytes that its name says, and what was unpacked of it is what it holds."""

from __future__ import annotations

import asyncio
import itertools
import os
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from tare.archive.diff import write_upper
from tare.archive.expected import ExpectedTree
from tare.archive.tar_writer import TarWriter
from tare.errors import Exhausted, TareError
from tare.model import Digest
from tare.store.fsck.blobs import DAMAGED, broken, forget_damaged, wrong_size
from tare.store.fsck.directories import Replacement, replace_directory
from tare.store.fsck.findings import Problem, State
from tare.store.fsck.reading import Seen, examine
from tare.store.fsck.run import Lost, Run
from tare.store.gc import Node
from tare.store.threads import Abort, run_undoable

REWRITTEN = "writes it anew from the files that were unpacked of it, or that a build step left"
_EXAMPLES = 3  # differing paths that are named


class _Stored(NamedTuple):
    """The rows of a layer: bytes of the tar, and the number of the snapshot that it is unpacked in."""

    size: int
    snapshot: int | None


async def check_layers(run: Run) -> None:
    """Every row of ``layers`` with its tar and its unpacked directory."""
    for (text,) in await run.read("SELECT diff_id FROM layers ORDER BY diff_id"):
        diff_id = Digest.parse(text)
        run.looking_at(f"layer {diff_id}")
        seen = await _check(run, diff_id)
        if seen is None:
            continue
        problem = broken("layer", diff_id, seen)
        if run.options.repair and await restore(run, diff_id):
            await _check(run, diff_id, again=True)
            run.tell(msgspec.structs.replace(problem, state=State.REPAIRED, repair=REWRITTEN))
            continue
        aside = run.parts.layers.path(diff_id).with_suffix(DAMAGED)
        tried = await asyncio.to_thread(os.path.lexists, aside)
        can_try = not (run.options.repair or tried) and bool(await _sources(run, diff_id))
        await _note_missing_directory(run, diff_id, can_try=can_try)
        if can_try:
            problem = msgspec.structs.replace(problem, repair=f"{REWRITTEN}, if that makes exactly the same tar")
        run.lost.append(Lost(Node("layer", str(diff_id)), problem, run.parts.layers.path(diff_id), seen))


async def _check(run: Run, diff_id: Digest, *, again: bool = False) -> Seen | None:
    """Look at a tar and its directory; the result is what the tar is, where it is not what it should be."""
    what, path = f"layer {diff_id}", run.parts.layers.path(diff_id)
    async with run.parts.locks.hold(what):
        stored = await _stored(run, diff_id)
        if stored is None:
            return None  # deleted meanwhile
        run.checked["layers"] += not again
        directory = None if stored.snapshot is None else run.parts.snapshots.content_path(stored.snapshot, "layer")
        is_there = directory is not None and await asyncio.to_thread(directory.is_dir)
        seen = await run_undoable(
            lambda abort: examine(
                path,
                abort,
                lambda count: run.count_bytes(count, what),
                tree=is_there,
                content=run.options.deep,
            ),
            lambda _: None,
        )
        if await _stored(run, diff_id) is None:
            return None
        run.checked["snapshots"] += directory is not None and not again
        if seen.digest != diff_id:
            return seen
        await forget_damaged(run, path)
        if seen.size != stored.size:
            update = "UPDATE layers SET size = ? WHERE diff_id = ?"
            problem = wrong_size("layer", diff_id, stored.size, seen.size)
            run.corrected.add(str(diff_id))
            await run.heal(problem, lambda: run.write(update, seen.size, str(diff_id)))
        if directory is not None and stored.snapshot is not None:
            await _check_directory(run, diff_id, stored.snapshot, seen if is_there else None, seen.size)
    return None


async def _note_missing_directory(run: Run, diff_id: Digest, *, can_try: bool) -> None:
    """A layer that is lost may lack what was unpacked of it as well."""
    stored = await _stored(run, diff_id)
    if stored is None or stored.snapshot is None:
        return
    directory = run.parts.snapshots.content_path(stored.snapshot, "layer")
    if not await asyncio.to_thread(directory.is_dir):
        problem = _no_directory(diff_id, directory)
        if not can_try:
            problem = msgspec.structs.replace(problem, repair="")
        run.lost.append(Lost(Node("snapshot", str(stored.snapshot)), problem))


async def _stored(run: Run, diff_id: Digest) -> _Stored | None:
    query = (
        "SELECT l.size, s.id FROM layers l LEFT JOIN snapshots s ON s.key = l.diff_id AND s.kind = 'layer'"
        " WHERE l.diff_id = ?"
    )
    rows = await run.read(query, str(diff_id))
    return _Stored(int(rows[0][0]), int(rows[0][1]) if rows[0][1] is not None else None) if rows else None


def _no_directory(diff_id: Digest, directory: Path) -> Problem:
    return Problem(
        code="snapshot-missing",
        kind="snapshot",
        object=str(diff_id),
        cause=f"the layer is unpacked, says the database, but {directory} is missing",
        repair="unpacks the layer anew",
    )


async def _check_directory(run: Run, diff_id: Digest, number: int, seen: Seen | None, size: int) -> None:
    """Compare the unpacked directory with what the tar says; the caller holds the layer's lock."""
    directory = run.parts.snapshots.content_path(number, "layer")
    if seen is None:
        problem = _no_directory(diff_id, directory)
    elif (tree := seen.tree) is None:
        problem = _differing(diff_id, f"the layer cannot be unpacked: {seen.flaw}")
    else:
        said = await run_undoable(lambda abort: _differences(tree, directory, abort), lambda _: None)
        if not said:
            return
        problem = _differing(diff_id, f"{directory} is not as the layer has it: {said}")
    stored = await _stored(run, diff_id)
    if stored is None or stored.snapshot != number:
        return  # deleted meanwhile
    if not run.options.repair:
        run.tell(problem)
        return
    fix = await replace_directory(run, Replacement(diff_id, size, number, "layer"))
    if fix:
        run.leave(msgspec.structs.replace(problem, fix=fix))
    else:
        run.tell(msgspec.structs.replace(problem, state=State.REPAIRED))


def _differing(diff_id: Digest, cause: str) -> Problem:
    return Problem(
        code="snapshot-damaged",
        kind="snapshot",
        object=str(diff_id),
        cause=cause,
        repair="unpacks the layer anew and exchanges the directory",
    )


def _differences(tree: ExpectedTree, directory: Path, abort: Abort) -> str:
    """The first differing paths and how many more there are; empty when nothing differs. Blocks."""
    found = tree.differences(directory, abort.check)
    shown = [str(one) for one in itertools.islice(found, _EXAMPLES)]
    more = sum(1 for _ in found)
    return ", ".join(shown) + (f", and {more} more" if more else "")


async def _sources(run: Run, diff_id: Digest) -> list[str]:
    """The snapshots that have the content of a layer, what a build step has left before what was unpacked."""
    query = "SELECT key FROM snapshots WHERE diff_id = ? AND kind <> 'active' ORDER BY kind"
    return [key for (key,) in await run.read(query, str(diff_id))]


async def restore(run: Run, diff_id: Digest) -> bool:
    """Write a tar, and its row, anew from a directory with its content, if that makes exactly the same bytes.

    Raises Exhausted: without space nobody knows whether it would.
    """
    for key in await _sources(run, diff_id):
        try:
            await _restore_from(run, diff_id, key)
        except Exhausted:
            raise
        except (TareError, OSError):
            continue  # another tar comes of it, or the directory is damaged, too
        return True
    return False


async def _restore_from(run: Run, diff_id: Digest, key: str) -> None:
    async with run.parts.leases.hold() as lease, run.parts.locks.hold(f"snapshot {key}"):
        await run.parts.leases.add(lease, "snapshot", key)
        directory = await run.parts.snapshots.upper_path(key)

        def produce(sink: BinaryIO) -> None:
            writer = TarWriter(sink)
            write_upper(directory, writer)
            writer.finish()

        await run.parts.layers.write(produce, lease=lease, expected=diff_id)
