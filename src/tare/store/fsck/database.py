"""The database file itself, and rows that name what does not exist; looked at beside the engine's own connections."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from tare.store.threads import Abort

T = TypeVar("T")

_STEPS = 20_000  # of SQLite's machine, after which it is asked whether the answer is still wanted
_FAULTS = 20  # of the file that are told


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A row whose ``column`` has a ``value`` that ``parent`` does not have; ``goes_along`` by its own definition."""

    table: str
    rowid: int
    row: Mapping[str, object]
    column: str
    value: object
    parent: str
    goes_along: bool


def read_faults(path: Path, abort: Abort) -> list[str]:
    """What SQLite finds wrong with the file (``PRAGMA integrity_check``); nothing when all is well. Blocks.

    Raises Aborted.
    """

    def look(connection: sqlite3.Connection) -> list[str]:
        return [row[0] for row in connection.execute(f"PRAGMA integrity_check({_FAULTS})") if row[0] != "ok"]

    try:
        return _reading(path, abort, look)
    except sqlite3.DatabaseError as error:
        abort.check()
        return [str(error)]


def read_violations(path: Path, abort: Abort) -> list[Violation]:
    """Every row that a foreign key forbids. Blocks; raises Aborted."""

    def look(connection: sqlite3.Connection) -> list[Violation]:
        connection.row_factory = sqlite3.Row
        connection.execute("BEGIN")
        found = connection.execute("PRAGMA foreign_key_check").fetchall()
        return [_violation(connection, *one) for one in found if one[1] is not None]

    return _reading(path, abort, look)


def _violation(connection: sqlite3.Connection, table: str, rowid: int, parent: str, key: int) -> Violation:
    keys = connection.execute(f'PRAGMA foreign_key_list("{table}")').fetchall()
    definition = next(one for one in keys if one["id"] == key)
    row = dict(connection.execute(f'SELECT * FROM "{table}" WHERE rowid = ?', (rowid,)).fetchone())  # noqa: S608
    return Violation(
        table=table,
        rowid=rowid,
        row=row,
        column=definition["from"],
        value=row[definition["from"]],
        parent=parent,
        goes_along=definition["on_delete"] == "CASCADE",
    )


def _reading(path: Path, abort: Abort, look: Callable[[sqlite3.Connection], T]) -> T:
    with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None)) as connection:
        wanted = True

        def unwanted() -> int:
            nonlocal wanted
            try:
                abort.check()
            except Exception:
                wanted = False
            return not wanted

        connection.set_progress_handler(unwanted, _STEPS)
        try:
            return look(connection)
        except sqlite3.OperationalError:
            abort.check()
            raise
