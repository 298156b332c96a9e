"""The database: transactions, the lock on the data root, schema versions, bad files."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from collections.abc import AsyncIterator
from contextlib import closing
from importlib import resources
from pathlib import Path

import pytest

from tare.errors import Conflict, DataCorrupt, Exhausted, Unsupported
from tare.store.database import Database


def add_lease(connection: sqlite3.Connection, name: str = "a") -> None:
    connection.execute("INSERT INTO leases VALUES (?, 1)", (name,))


def leases(connection: sqlite3.Connection) -> list[str]:
    return [row[0] for row in connection.execute("SELECT id FROM leases ORDER BY id")]


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await Database.open(tmp_path / "root" / "tare.db")
    yield opened
    await opened.close()


async def test_what_is_written_is_read(database: Database) -> None:
    await database.write(add_lease)
    assert await database.read(leases) == ["a"]


@pytest.mark.parametrize("durable", [True, False])
async def test_writes_survive_a_close(tmp_path: Path, durable: bool) -> None:
    first = await Database.open(tmp_path / "tare.db")
    await first.write(add_lease, durable=durable)
    await first.close()
    await first.close()
    second = await Database.open(tmp_path / "tare.db")
    assert await second.read(leases) == ["a"]
    await second.close()


async def test_a_transaction_that_raises_changes_nothing(database: Database) -> None:
    def broken(connection: sqlite3.Connection) -> None:
        add_lease(connection)
        raise LookupError("half-way")

    with pytest.raises(LookupError, match="half-way"):
        await database.write(broken)
    assert await database.read(leases) == []
    await database.write(add_lease)


async def test_references_are_kept(database: Database) -> None:
    def dangling(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO tags VALUES ('docker.io/library/x:latest', 'sha256:none', 1)")

    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        await database.write(dangling)


async def test_writers_queue_up(database: Database) -> None:
    await asyncio.gather(*(database.write(lambda c, n=n: add_lease(c, f"{n:03}")) for n in range(50)))
    assert len(await database.read(leases)) == 50


async def test_nobody_else_may_read_it(database: Database) -> None:
    await database.write(add_lease)
    for path in database.path.parent.glob("tare.db*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name


async def test_a_second_engine_is_kept_away(database: Database) -> None:
    with pytest.raises(Conflict, match=r"is in use by another engine .*--data-root"):
        await Database.open(database.path)
    await database.write(add_lease)


async def test_the_first_schema_is_brought_up_to_date(tmp_path: Path) -> None:
    first = resources.files("tare.store.schema").joinpath("0001_foundation.sql").read_text()
    with closing(sqlite3.connect(tmp_path / "tare.db")) as connection:
        connection.executescript(f"{first}\nPRAGMA user_version=1;")
        row = "INSERT INTO build_cache (key, kind, result, fields, created, last_used)"
        connection.execute(f"{row} VALUES ('k', 'content', '', '', 1, 2)")
        connection.commit()
    opened = await Database.open(tmp_path / "tare.db")
    try:
        kept = "SELECT key, last_used, uses FROM build_cache"
        assert await opened.read(lambda db: db.execute(kept).fetchall()) == [("k", 2.0, 1)]
        assert await opened.read(lambda db: db.execute("SELECT count(*) FROM cache_mounts").fetchone()) == (0,)
    finally:
        await opened.close()


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tare.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version=999")
    connection.close()
    with pytest.raises(Unsupported, match=r"the database has schema 999") as caught:
        await Database.open(path)
    assert caught.value.code == "database-newer"


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "tare.db"
    path.write_bytes(b"these are notes, not tables\n" * 100)
    with pytest.raises(DataCorrupt, match=r"tare.db: file is not a database"):
        await Database.open(path)
    assert path.read_bytes().startswith(b"these are notes")
    path.unlink()
    again = await Database.open(path)  # the refused one holds no lock
    await again.close()


async def test_no_space_left_is_said(database: Database) -> None:
    def fill(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA max_page_count=1")
        for number in range(10_000):
            add_lease(connection, f"{number:0200}")

    with pytest.raises(Exhausted, match="no space left") as caught:
        await database.write(fill)
    assert caught.value.code == "no-space"
    assert await database.read(leases) == []
