"""A check beside what goes on in the store: what is in flight is no problem, and a check can be ended."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import shutil
from collections.abc import AsyncIterator, Iterator

import pytest

from stored_things import Things, copy_of, file, filled_store, tar_of
from tare.errors import Exhausted
from tare.model import Digest
from tare.oci.image import ImageConfig, RootFS
from tare.store import files
from tare.store.fsck.findings import Options, Problem, Progress
from tare.store.snapshotter import Lower
from tare.store.store import Store

pytestmark = pytest.mark.root

ROUNDS = 12


@pytest.fixture(scope="module")
def template() -> Iterator[Things]:
    with filled_store() as filled:
        yield filled


@pytest.fixture
async def things(template: Things) -> AsyncIterator[Things]:
    async with copy_of(template) as opened:
        yield opened


async def images_come_and_go(store: Store, number: int) -> None:
    for turn in range(ROUNDS):
        async with store.leases.hold() as lease:
            data = tar_of(file("n", f"{number} {turn % 3}".encode() * 10_000))
            layer = await store.layers.import_stream(io.BytesIO(data), None, lease=lease)
            config = ImageConfig(
                architecture="amd64", os="linux", author=str(turn), rootfs=RootFS(diff_ids=[str(layer.diff_id)])
            )
            image = await store.images.create(config)
            await store.snapshots.ensure_layer(layer.diff_id)
        await store.images.remove(image)
        await store.collect()


async def steps_come_and_go(store: Store, base: Digest) -> None:
    for turn in range(ROUNDS):
        key = f"step-{turn}"
        async with store.leases.hold() as lease:
            await store.leases.add(lease, "snapshot", key)
            await store.snapshots.prepare(key, [Lower(str(base))])
            (await store.snapshots.upper_path(key) / "made").write_bytes(key.encode())
            lower = await store.snapshots.commit(key)
            await store.snapshots.write_layer(lower)
        await store.snapshots.remove(key)
        await store.snapshots.prepare("writable", [Lower(str(base))])
        await store.snapshots.remove("writable")


@pytest.mark.parametrize("repair", [False, True])
async def test_what_is_in_flight_is_no_problem(things: Things, repair: bool) -> None:
    store, base = things.store, things.layers["base"]
    busy = asyncio.gather(
        images_come_and_go(store, 1), images_come_and_go(store, 2), steps_come_and_go(store, base)
    )  # fmt: skip
    checks = 0
    while not busy.done():
        found, report = await things.check(repair=repair, deep=True)
        assert found == [] and report.is_clean
        checks += 1
    await busy
    assert checks > 1
    assert (await things.check())[0] == []


async def test_a_layer_is_not_replaced_while_it_is_read(things: Things) -> None:
    """Whoever stores a layer again waits for its check, so that no half of two files is hashed."""
    tar = things.tar("top").read_bytes()
    checks = [things.check() for _ in range(4)]
    stores = [things.store.layers.import_stream(io.BytesIO(tar), None) for _ in range(8)]
    results = await asyncio.gather(*checks, *stores)
    assert all(found == [] for found, _ in results[:4])  # type: ignore[misc]


async def test_a_check_that_nobody_wants_any_more_ends(things: Things) -> None:
    first = asyncio.Event()

    def observe(_: Problem | Progress) -> None:
        first.set()

    running = asyncio.ensure_future(things.store.check.run(Options(repair=True, deep=True), observe))
    await first.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (await things.check(deep=True))[0] == []


async def test_without_space_nothing_is_given_up(things: Things, monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer that could be written anew must not count as lost, nor go from the cache, because the disk is full."""
    lower = await things.store.snapshots.ensure_layer(things.layers["cached"])
    await things.check(repair=True)
    things.tar("step").unlink()
    shutil.rmtree(things.directory("top"))
    before = sorted(str(path) for path in things.root.rglob("*") if "tare.db" not in path.name)

    def full(fd: int, data: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "write", full)
        with pytest.raises(Exhausted, match="No space left"):
            await things.check(repair=True)
    assert lower and before == sorted(str(path) for path in things.root.rglob("*") if "tare.db" not in path.name)
    _, report = await things.check(repair=True)
    assert (report.repaired, report.left) == (2, 0)
    assert (await things.check(deep=True))[0] == []


async def test_an_image_whose_blob_is_no_configuration(things: Things) -> None:
    digest = await things.store.content.write(b"[]", "x")
    things.corrupt(f"INSERT INTO images VALUES ('{digest}', 0, 0)")
    (problem,), report = await things.check(repair=True)
    assert (problem.code, problem.object, report.left) == ("image-configuration", str(digest), 1)
    assert problem.fix == f"remove it: `tare rmi -f {digest}`"


async def test_a_broken_database_is_told_and_nothing_is_written(things: Things) -> None:
    await things.store.close()
    path = things.store.db.path
    data = bytearray(path.read_bytes())
    (page,) = things.query("SELECT rootpage FROM sqlite_master WHERE name = 'tags_by_image'")
    size = int.from_bytes(data[16:18], "big")
    start = (int(str(page[0])) - 1) * size
    data[start + 8 : start + size] = bytes(size - 8)
    path.write_bytes(bytes(data))
    before = sorted(str(item) for item in things.root.rglob("*"))
    store = await Store.open(things.root)
    try:
        found, report = await Things(store, things.layers, things.images).check(repair=True)
        assert {one.code for one in found} == {"database-damaged"} and report.left == len(found)
        assert all(".recover" in one.fix for one in found)
        assert report.checked == {"databases": 1}
    finally:
        await store.close()
    assert [name for name in before if "tare.db" not in name] == sorted(
        str(item) for item in things.root.rglob("*") if "tare.db" not in str(item)
    )
