"""Puts a layer that is unpacked anew in the place of a snapshot's directory."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from tare.errors import Exhausted, TareError
from tare.kernel.filesystem import exchange
from tare.kernel.mounts import MountEntry, mount_table
from tare.model import Digest
from tare.store.fsck.run import Run

_RUNNING = ("running", "paused", "restarting")


@dataclass(frozen=True, slots=True)
class Replacement:
    """Which snapshot gets the content of which layer; ``size`` are the bytes of the layer's tar."""

    diff_id: Digest
    size: int
    snapshot: int
    kind: str


async def replace_directory(run: Run, wanted: Replacement) -> str:
    """Unpack the layer and exchange the snapshot's directory; the caller holds the layer's lock.

    Returns what keeps it from being done, first of all that the directory is in use: what is mounted must not change
    under its users. The tar has been verified. Raises Exhausted.
    """
    try:
        return await _replace(run, wanted)
    except Exhausted:
        raise
    except (TareError, OSError) as error:
        return f"the repair failed: {error}"


async def _replace(run: Run, wanted: Replacement) -> str:
    snapshots = run.parts.snapshots
    content = snapshots.content_path(wanted.snapshot, wanted.kind)
    async with snapshots.unpacking(wanted.diff_id, wanted.size, content.name) as (staging, size):
        async with snapshots.mounting.exclusive():
            above = await run.parts.db.read(lambda connection: _standing_on(connection, wanted.snapshot))
            places = await asyncio.to_thread(lambda: mounted_at(mount_table(), content, above))
            users = [name for key, (name, status) in above.items() if status in _RUNNING or _is_at(key, places)]
            if users:
                return f"stop {', '.join(users)} and repair again: what runs must not change under it"
            if places:
                return f"it is mounted at {', '.join(places)}: end what uses it and repair again"
            await asyncio.to_thread(_put, staging, content.parent)
        await run.write("UPDATE snapshots SET size = ? WHERE id = ?", size, wanted.snapshot)
    return ""


def _put(staging: Path, directory: Path) -> None:
    """Exchange the two; where there is no directory the new one gets its name."""
    if os.path.lexists(directory):
        exchange(os.fspath(staging), os.fspath(directory))
    else:
        staging.rename(directory)
    fd = os.open(directory.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def mounted_at(table: Iterable[MountEntry], directory: Path, containers: Collection[str]) -> list[str]:
    """Where overlays stand that have ``directory`` among theirs, or are the root of one of ``containers``.

    Mounts with mapped ids do not tell their directories.
    """
    wanted = os.fspath(directory)
    return [
        entry.target
        for entry in table
        if entry.fstype == "overlay"
        and (wanted in entry.overlay_directories() or any(_is_at(key, [entry.target]) for key in containers))
    ]


def _is_at(key: str, places: Iterable[str]) -> bool:
    return any(key in place.split("/") for place in places)


def _standing_on(connection: sqlite3.Connection, snapshot: int) -> dict[str, tuple[str, str]]:
    """Name and status of the containers that have the snapshot below, however far, by their id."""
    query = """
    WITH RECURSIVE standing (id) AS (
        SELECT ? UNION SELECT l.snapshot FROM snapshot_lowers l JOIN standing ON l.lower = standing.id
    )
    SELECT c.id, c.name, c.status FROM containers c JOIN snapshots s ON s.key = c.id
    WHERE s.id IN (SELECT id FROM standing) ORDER BY c.name
    """
    rows = connection.execute(query, (snapshot,))
    return {key: (f"container {name.lstrip('/')}", status) for key, name, status in rows}
