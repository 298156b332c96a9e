"""Files beside blobs and layers that the database does not know."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tare.errors import InvalidArgument
from tare.model import Digest
from tare.oci.image import MEDIA_TYPE_CONFIG
from tare.store.fsck.blobs import remove_any
from tare.store.fsck.database import Violation
from tare.store.fsck.findings import Problem
from tare.store.fsck.reading import examine
from tare.store.fsck.run import Run
from tare.store.threads import run_undoable


@dataclass(frozen=True, slots=True)
class _Kind:
    """``blob`` or ``layer``: its table, the table's key, and what a file's name has after the digest."""

    name: str
    table: str
    column: str
    suffix: str

    def path(self, run: Run, digest: Digest) -> Path:
        return run.parts.content.path(digest) if self.name == "blob" else run.parts.layers.path(digest)

    def digest(self, file_name: str) -> Digest | None:
        try:
            return Digest(file_name.removesuffix(self.suffix)) if file_name.endswith(self.suffix) else None
        except InvalidArgument:
            return None


_KINDS = (_Kind("blob", "blobs", "digest", ""), _Kind("layer", "layers", "diff_id", ".tar"))


async def check_strays(run: Run, violations: Iterable[Violation], configured: Iterable[str]) -> None:
    """Every file without a row: one that a row needs is taken up again, any other is garbage.

    ``violations`` are the rows that name something missing, ``configured`` the diffIDs of images' configurations.
    """
    wanted = {(one.parent, str(one.value)) for one in violations}
    wanted |= {("layers", diff_id) for diff_id in configured}
    for kind in _KINDS:
        directory = kind.path(run, Digest("0" * 64)).parent
        names = await asyncio.to_thread(lambda path: sorted(item.name for item in path.iterdir()), directory)
        rows = await run.read(f"SELECT {kind.column} FROM {kind.table}")  # noqa: S608 - names from the table above
        known = {row[0].partition(":")[2] for row in rows}
        for name in names:
            digest = kind.digest(name)
            stem, dot, _ = name.partition(".")
            if digest is None and not (dot and stem in known and name != f"{stem}.tar"):
                await _check_unknown(run, directory / name)
            elif digest is not None and digest.hex not in known:
                await _check_stray(run, kind, digest, wanted=(kind.table, str(digest)) in wanted)


async def _check_unknown(run: Run, path: Path) -> None:
    problem = Problem(
        code="file-unknown",
        kind="file",
        object=os.fspath(path),
        cause="it is nothing that belongs there",
        repair="deletes it",
    )
    if await asyncio.to_thread(os.path.lexists, path):
        await run.heal(problem, lambda: asyncio.to_thread(remove_any, path))


async def _check_stray(run: Run, kind: _Kind, digest: Digest, *, wanted: bool) -> None:
    path, key = kind.path(run, digest), f"{kind.name} {digest}"
    query = f"SELECT 1 FROM {kind.table} WHERE {kind.column} = ?"  # noqa: S608 - names from the table above
    # While garbage is collected, rows are gone before their files are.
    async with run.parts.collecting, run.parts.locks.hold(key):
        if await run.read(query, str(digest)) or not await asyncio.to_thread(os.path.lexists, path):
            return
        size = None
        if wanted:
            seen = await run_undoable(
                lambda abort: examine(path, abort, lambda count: run.count_bytes(count, key)), lambda _: None
            )
            size = seen.size if seen.digest == digest else None
        if size is not None:
            await _take_up(run, kind, digest, size)
            return
        problem = Problem(
            code=f"{kind.name}-unknown",
            kind=kind.name,
            object=str(digest),
            cause=f"the database does not know {path}",
            repair="deletes it",
        )
        await run.heal(problem, lambda: asyncio.to_thread(remove_any, path))


async def _take_up(run: Run, kind: _Kind, digest: Digest, size: int) -> None:
    problem = Problem(
        code=f"{kind.name}-row-missing",
        kind=kind.name,
        object=str(digest),
        cause="its file is whole and an image needs it, but the database has lost its row",
        repair="writes the row anew",
    )

    media_type = await asyncio.to_thread(_media_type, kind.path(run, digest)) if kind.name == "blob" else ""

    def insert(connection: sqlite3.Connection) -> None:
        if kind.name == "blob":
            row = (str(digest), size, media_type, time.time())
            connection.execute("INSERT OR IGNORE INTO blobs VALUES (?, ?, ?, ?)", row)
        else:
            connection.execute(
                "INSERT OR IGNORE INTO layers (diff_id, size, created) VALUES (?, ?, ?)",
                (str(digest), size, time.time()),
            )

    run.promised.add((kind.table, str(digest)))
    await run.heal(problem, lambda: run.change(insert))


class _Document(msgspec.Struct, rename={"media_type": "mediaType"}):
    media_type: str = MEDIA_TYPE_CONFIG  # configurations do not say what they are


def _media_type(path: Path) -> str:
    """What a blob says that it is. Blocks."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Document).media_type
    except (OSError, msgspec.DecodeError):
        return MEDIA_TYPE_CONFIG
