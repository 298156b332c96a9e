from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tare.errors import Conflict, InvalidArgument, NotFound
from tare.store.database import Database
from tare.volumes.catalogue import VolumeCatalogue
from tare.volumes.protection import Protections
from tare.volumes.snapshots import DATA, Snapshot, SnapshotStore, check_removable


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await Database.open(tmp_path / "tare.db")
    yield opened
    await opened.close()


@pytest.fixture
async def volumes(db: Database, tmp_path: Path) -> VolumeCatalogue:
    made = VolumeCatalogue(db, tmp_path / "volumes")
    made.add_guard(check_removable)
    await made.create("data")
    (made.path("data") / "file").write_text("old")
    return made


@pytest.fixture
def store(db: Database, tmp_path: Path) -> SnapshotStore:
    return SnapshotStore(db, tmp_path / "volumes")


def prepared(store: SnapshotStore, text: str, name: str = "one") -> Snapshot:
    directory = store.make_directory()
    (directory / DATA / "file").write_text(text)
    return Snapshot(
        volume="data",
        name=name,
        directory=directory.name,
        created=1.0,
        automatic=False,
        method="copy",
        size=7,
        frozen=0.5,
    )


def agree(_: sqlite3.Connection) -> None:
    return


async def test_rows_and_directories(volumes: VolumeCatalogue, store: SnapshotStore) -> None:
    one, two = prepared(store, "1"), prepared(store, "2", "two")
    await store.add(one)
    await store.add(two)
    assert await store.list("data") == [one, two] and await store.usage() == {"data": (2, 14)}
    assert (store.content(await store.get("data", "two")) / "file").read_text() == "2"
    assert await store.remove("data", "one") == one
    assert not store.content(one).exists() and await store.list("data") == [two]
    with pytest.raises(NotFound, match="data has no snapshot one") as error:
        await store.get("data", "one")
    assert (error.value.hint, error.value.code) == ("it has two", "no-such-snapshot")
    assert await volumes.get("data")


async def test_names(volumes: VolumeCatalogue, store: SnapshotStore) -> None:
    assert volumes
    await store.add(prepared(store, "1"))
    with pytest.raises(Conflict, match="data already has a snapshot one"):
        await store.check_free("data", "one")
    with pytest.raises(Conflict, match="data already has a snapshot one"):
        await store.add(prepared(store, "2"))
    for name in ("", "-a", ".a", "a/b", "a b", "ä", "x" * 129):
        with pytest.raises(InvalidArgument, match="not a valid snapshot name"):
            await store.check_free("data", name)


async def test_a_swap_keeps_both(volumes: VolumeCatalogue, store: SnapshotStore) -> None:
    kept = prepared(store, "new", "before")
    await store.swap(kept, agree)
    assert (volumes.path("data") / "file").read_text() == "new"
    assert (store.content(kept) / "file").read_text() == "old" and await store.list("data") == [kept]


async def test_a_refused_swap_leaves_nothing(volumes: VolumeCatalogue, store: SnapshotStore) -> None:
    def refuse(_: sqlite3.Connection) -> None:
        raise Conflict("in use")

    kept = prepared(store, "new", "before")
    with pytest.raises(Conflict, match="in use"):
        await store.swap(kept, refuse)
    assert (volumes.path("data") / "file").read_text() == "old"
    assert not store.content(kept).exists() and await store.list("data") == []


@pytest.mark.parametrize("swapped", [False, True])
async def test_a_crash_around_the_swap(
    volumes: VolumeCatalogue, store: SnapshotStore, db: Database, swapped: bool
) -> None:
    """The row says pending, as it does when the engine dies beside the exchange; the next start decides."""
    kept = prepared(store, "new", "before")
    new, data = store.content(kept), volumes.path("data")
    inode = new.stat().st_ino
    await store.add(kept)
    await db.write(lambda connection: connection.execute("UPDATE volume_snapshots SET pending_inode = ?", (inode,)))
    if swapped:
        parked = data.with_name("parked")
        data.rename(parked)
        new.rename(data)
        parked.rename(new)
    assert await store.list("data") == []
    await store.recover()
    assert (data / "file").read_text() == ("new" if swapped else "old")
    assert [one.name for one in await store.list("data")] == (["before"] if swapped else [])
    assert new.exists() is swapped
    if swapped:
        assert (new / "file").read_text() == "old"


async def test_recovery_collects_what_no_row_knows(volumes: VolumeCatalogue, store: SnapshotStore) -> None:
    one = prepared(store, "1")
    await store.add(one)
    orphan = store.make_directory()
    half = store.make_directory()
    store.install(half, "half")
    whole = store.make_directory()
    store.install(whole, "whole")
    await volumes.create("whole")
    foreign = volumes.path("foreign")
    foreign.mkdir(parents=True)
    await store.recover()
    assert store.content(one).exists() and not orphan.exists() and foreign.exists()
    assert not volumes.path("half").parent.exists() and os.listdir(volumes.path("whole").parent) == ["_data"]


async def test_install_refuses_a_directory_that_is_there(volumes: VolumeCatalogue, store: SnapshotStore) -> None:
    volumes.path("foreign").mkdir(parents=True)
    with pytest.raises(Conflict, match="foreign exists, but no volume of that name"):
        store.install(store.make_directory(), "foreign")
    store.uninstall("foreign")
    assert volumes.path("foreign").exists()


class Killed(BaseException):
    """Stands for the end of the process: nothing is undone."""


def killed_after(count: int, patched: pytest.MonkeyPatch) -> None:
    """Let ``count`` calls that change directories happen, and none after them."""
    left = count

    def limited(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return real(*arguments, **named)

        return call

    for name in ("mkdir", "touch", "rename", "rmdir"):
        patched.setattr(Path, name, limited(getattr(Path, name)))


@pytest.mark.parametrize("count", range(5))
async def test_a_crash_in_the_middle_of_install_leaves_no_volume(
    volumes: VolumeCatalogue, store: SnapshotStore, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    directory, place = store.make_directory(), volumes.path("half").parent
    with monkeypatch.context() as patched, pytest.raises(Killed):
        killed_after(count, patched)
        store.install(directory, "half")
    assert not place.exists() or (place / ".unfinished").exists()
    await store.recover()
    assert not place.exists() and not directory.exists()


async def test_what_cannot_be_deleted_does_not_keep_the_engine_from_starting(
    store: SnapshotStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    orphan = store.make_directory()

    def refuse(path: Path) -> None:
        raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(path))

    with monkeypatch.context() as patched:
        patched.setattr("tare.volumes.snapshots.remove_tree", refuse)
        await store.recover()
    assert f"{orphan}, which belongs to nothing, stays until the next start" in caplog.text
    await store.recover()
    assert not orphan.exists()


async def test_what_keeps_a_volume(volumes: VolumeCatalogue, store: SnapshotStore, db: Database) -> None:
    protections = Protections(db)
    await protections.protect("data")
    await protections.protect("data")
    for force in (False, True):
        with pytest.raises(Conflict, match="remove data: volume is protected") as error:
            await volumes.remove("data", force=force)
        assert error.value.code == "volume-protected"
    await store.add(prepared(store, "1"))
    await protections.unprotect("data")
    with pytest.raises(Conflict, match=r"remove data: volume has snapshots - \[one\]"):
        await volumes.remove("data", force=True)
    await store.remove("data", "one")
    await volumes.remove("data")
    with pytest.raises(NotFound, match="no such volume"):
        await protections.protect("data")


async def test_the_database_itself_protects(volumes: VolumeCatalogue, db: Database) -> None:
    assert volumes
    await Protections(db).protect("data")
    with pytest.raises(sqlite3.IntegrityError):
        await db.write(lambda connection: connection.execute("DELETE FROM volumes"))
