"""The check as a service: one at a time, with the snapshots of volumes."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tare.engine.fsck import Fsck
from tare.errors import Conflict
from tare.store.fsck.findings import Options, Problem, Progress, State
from tare.store.store import Store
from tare.volumes.snapshots import Snapshot, SnapshotStore


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path / "data")
    yield opened
    await opened.close()


async def test_one_check_at_a_time(store: Store) -> None:
    fsck = Fsck(store, SnapshotStore(store.db, store.root / "volumes"))
    first = asyncio.Event()

    def observe(_: Problem | Progress) -> None:
        first.set()

    running = asyncio.ensure_future(fsck.run(Options(), observe))
    await first.wait()
    with pytest.raises(Conflict, match="another check of the store is running") as caught:
        await fsck.run(Options(), observe)
    assert caught.value.code == "fsck-running"
    assert (await running).is_clean
    assert (await fsck.run(Options(), observe)).is_clean


async def test_a_volumes_snapshot_without_its_directory(store: Store) -> None:
    snapshots = SnapshotStore(store.db, store.root / "volumes")
    await store.db.write(lambda c: c.execute("INSERT INTO volumes VALUES ('data', 'local', 0, 0, '{}', '{}')"))
    for name in ("kept", "lost"):
        directory = await asyncio.to_thread(snapshots.make_directory)
        await snapshots.add(
            Snapshot(
                volume="data", name=name, directory=directory.name, created=0, automatic=False, method="copy", size=0,
                frozen=0,
            )
        )  # fmt: skip
    fsck = Fsck(store, snapshots)
    found: list[Problem | Progress] = []
    assert (await fsck.run(Options(), found.append)).is_clean
    shutil.rmtree(snapshots.content(await snapshots.get("data", "lost")).parent)
    found.clear()
    report = await fsck.run(Options(repair=True), found.append)
    (problem,) = (one for one in found if isinstance(one, Problem))
    assert (problem.code, problem.object, problem.state) == ("volume-snapshot-missing", "data:lost", State.LEFT)
    assert problem.fix == "it is lost: delete it with `tare volume snapshot rm data lost`"
    assert report.left == 1
    await snapshots.remove("data", "lost")
    assert (await fsck.run(Options(), found.append)).is_clean
