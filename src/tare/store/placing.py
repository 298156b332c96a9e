"""Give a staged file its final name and its row: both or neither."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path

from tare.base.shielding import finish, to_end
from tare.store.database import Database
from tare.store.files import StagedFile
from tare.store.threads import run_undoable


async def place(
    db: Database, staged: StagedFile, target: Path, insert: Callable[[sqlite3.Connection], None], query: str
) -> None:
    """Rename, then write the row with ``insert``; when that fails the file goes again, unless ``query`` finds a row.

    ``query`` takes the digest as its parameter. The caller holds the lock of the object.
    """
    key = str(staged.digest)

    async def withdraw() -> None:
        if await db.read(lambda connection: connection.execute(query, (key,)).fetchone()) is None:
            await asyncio.to_thread(target.unlink, missing_ok=True)

    try:
        await run_undoable(lambda _: staged.install(target), lambda _: None)
        await to_end(db.write(insert))  # a row that comes after its file has been withdrawn would be worse
    except BaseException:
        await finish(withdraw(), what=f"withdraw {target}")
        raise
    finally:
        staged.discard()
