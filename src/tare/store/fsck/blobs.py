"""Blobs: each is the bytes that its name says."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tare.model import Digest
from tare.store.fsck.findings import Problem
from tare.store.fsck.reading import Seen, examine
from tare.store.fsck.run import Lost, Run
from tare.store.gc import Node
from tare.store.threads import run_undoable
from tare.store.unpacked import remove_tree

DAMAGED = ".damaged"  # <hex>.damaged lies beside what has the name; the store's own sweep keeps it as long as the row


async def check_blobs(run: Run) -> None:
    """Every row of ``blobs`` with its file."""
    for (digest,) in await run.read("SELECT digest FROM blobs ORDER BY digest"):
        await _check_blob(run, Digest.parse(digest))


async def _check_blob(run: Run, digest: Digest) -> None:
    what, path = f"blob {digest}", run.parts.content.path(digest)
    run.looking_at(what)
    async with run.parts.locks.hold(what):
        size = await _size(run, digest)
        if size is None:
            return  # deleted meanwhile
        run.checked["blobs"] += 1
        seen = await run_undoable(
            lambda abort: examine(path, abort, lambda count: run.count_bytes(count, what)), lambda _: None
        )
        if await _size(run, digest) is None:
            return
        if seen.digest == digest:
            await forget_damaged(run, path)
            if seen.size != size:
                await _correct_size(run, digest, size, seen.size)
            return
    run.lost.append(Lost(Node("blob", str(digest)), broken("blob", digest, seen), path, seen))


async def _size(run: Run, digest: Digest) -> int | None:
    rows = await run.read("SELECT size FROM blobs WHERE digest = ?", str(digest))
    return int(rows[0][0]) if rows else None


async def _correct_size(run: Run, digest: Digest, stored: int, actual: int) -> None:
    problem = wrong_size("blob", digest, stored, actual)
    await run.heal(problem, lambda: run.write("UPDATE blobs SET size = ? WHERE digest = ?", actual, str(digest)))


def wrong_size(kind: str, digest: Digest, stored: int, actual: int) -> Problem:
    """The problem that the database has another size than a whole file."""
    return Problem(
        code=f"{kind}-size",
        kind=kind,
        object=str(digest),
        cause=f"the database says {stored} bytes, and the file, whose digest is right, has {actual}",
        repair="corrects the size in the database",
    )


def broken(kind: str, digest: Digest, seen: Seen) -> Problem:
    """The problem that a file is not what its name says, or not there."""
    if seen.digest is not None:
        cause = f"its file has the digest {seen.digest} ({seen.size} bytes)"
    elif seen.what == "missing":
        cause = "its file is missing"
    else:
        cause = f"its file is {seen.what}"
    code = f"{kind}-missing" if seen.what == "missing" else f"{kind}-damaged"
    return Problem(code=code, kind=kind, object=str(digest), cause=cause)


async def forget_damaged(run: Run, path: Path) -> None:
    """Delete the copy that a repair set aside, now that the file at ``path`` is whole again."""
    if run.options.repair:
        await asyncio.to_thread(remove_any, path.with_suffix(DAMAGED))


def remove_any(path: Path) -> None:
    """Delete a file, or a directory with all that is in it; quiet when nothing is there. Blocks."""
    if path.is_dir() and not path.is_symlink():
        remove_tree(path)
    else:
        path.unlink(missing_ok=True)
