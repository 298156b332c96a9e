"""What every snapshotter promises (``store.snapshotter``), run against each of them as root on real mounts."""

from __future__ import annotations

import asyncio
import io
import os
import stat
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

import pytest

from tare.archive.entry import Entry, Kind
from tare.archive.tar_stream import iter_entries
from tare.archive.tar_writer import TarWriter
from tare.errors import Conflict, DataCorrupt, NotFound
from tare.kernel import mounts
from tare.model import Digest
from tare.store.snapshotter import Lower, Snapshotter
from tare.store.store import Store

pytestmark = pytest.mark.root


class Bench:
    """A store with one snapshotter and a place to mount."""

    def __init__(self, store: Store, target: Path) -> None:
        self.store = store
        self.target = target

    @property
    def snapshots(self) -> Snapshotter:
        return self.store.snapshots

    async def layer(self, *members: tuple[Entry, bytes]) -> Lower:
        def produce(sink: BinaryIO) -> None:
            writer = TarWriter(sink)
            for entry, data in members:
                writer.add(entry, io.BytesIO(data) if entry.kind is Kind.FILE else None)
            writer.finish()

        stored = await self.store.layers.write(produce)
        return await self.snapshots.ensure_layer(stored.diff_id)

    @asynccontextmanager
    async def viewed(self, *lowers: Lower) -> AsyncIterator[Path]:
        await self.snapshots.view(lowers, self.target)
        try:
            yield self.target
        finally:
            await self.snapshots.unmount(self.target)

    @asynccontextmanager
    async def mounted(self, key: str) -> AsyncIterator[Path]:
        await self.snapshots.mount(key, self.target)
        try:
            yield self.target
        finally:
            await self.snapshots.unmount(self.target)

    @asynccontextmanager
    async def changing(self, key: str, lowers: Sequence[Lower]) -> AsyncIterator[Path]:
        await self.snapshots.prepare(key, lowers)
        async with self.mounted(key) as root:
            yield root
        await self.snapshots.commit(key)

    async def names(self, lower: Lower) -> list[str]:
        diff_id = await self.snapshots.write_layer(lower)
        with self.store.layers.path(diff_id).open("rb") as stream:
            return [entry.path for entry, _ in iter_entries(stream)]


def file(path: str, data: bytes = b"", **fields: object) -> tuple[Entry, bytes]:
    return Entry(path=path, kind=Kind.FILE, mode=0o644, size=len(data), **fields), data  # type: ignore[arg-type]


def directory(path: str, mode: int = 0o755) -> tuple[Entry, bytes]:
    return Entry(path=path, kind=Kind.DIRECTORY, mode=mode), b""


def tree(root: Path) -> dict[str, str]:
    return {
        os.path.relpath(os.path.join(parent, name), root): Path(parent, name).read_text()
        for parent, _, names in os.walk(root)
        for name in names
    }


@pytest.fixture(params=["unpacked"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    store = await Store.open(tmp_path / "data")
    assert store.snapshots.name == request.param
    target = tmp_path / "target"
    target.mkdir()
    yield Bench(store, target)
    await store.close()
    left = mounts.unmount_below(tmp_path)
    assert left == []


async def test_layers_stack_with_the_last_on_top(bench: Bench) -> None:
    one = await bench.layer(directory("d"), file("d/a", b"1"), file("d/b", b"1"))
    two = await bench.layer(file("d/b", b"2"), file("c", b"2"))
    async with bench.viewed(one, two) as root:
        assert tree(root) == {"d/a": "1", "d/b": "2", "c": "2"}
    async with bench.viewed(two, one) as root:
        assert tree(root) == {"d/a": "1", "d/b": "1", "c": "2"}


async def test_no_lowers_and_a_single_one(bench: Bench) -> None:
    async with bench.viewed() as root:
        assert os.listdir(root) == []
    lower = await bench.layer(file("a", b"1"), file(".wh.b"))
    async with bench.viewed(lower) as root:
        assert os.listdir(root) == ["a"]
        with pytest.raises(OSError, match="Read-only"):
            (root / "x").write_text("")
    async with bench.changing("scratch", ()) as root:
        (root / "made").write_text("from nothing")
    async with bench.viewed(Lower("scratch")) as root:
        assert tree(root) == {"made": "from nothing"}


async def test_a_view_needs_no_state_of_its_own_and_may_repeat(bench: Bench, tmp_path: Path) -> None:
    lower = await bench.layer(file("a", b"1"))
    second = tmp_path / "second"
    second.mkdir()
    async with bench.viewed(lower):
        await bench.snapshots.view([lower], second)
        assert tree(second) == {"a": "1"}
        await bench.snapshots.unmount(second)


async def test_many_layers(bench: Bench) -> None:
    lowers = [await bench.layer(file(f"f{number}", b"x"), file("last", b"%d" % number)) for number in range(128)]
    async with bench.viewed(*lowers) as root:
        assert len(os.listdir(root)) == 129 and (root / "last").read_text() == "127"
    async with bench.changing("top", lowers) as root:
        (root / "f0").unlink()
    assert await bench.names(Lower("top")) == [".wh.f0"]


async def test_whiteouts_and_opaque_directories_of_layers(bench: Bench) -> None:
    base = await bench.layer(file("d/a"), file("d/b"), file("gone/x"), file("file"))
    top = await bench.layer(directory("d"), file("d/.wh..wh..opq"), file("d/new"), file(".wh.gone"), file(".wh.file"))
    async with bench.viewed(base, top) as root:
        assert sorted(tree(root)) == ["d/new"]
        assert sorted(os.listdir(root)) == ["d"]


async def test_changes_become_a_layer_with_the_same_effect(bench: Bench) -> None:
    base = await bench.layer(file("keep", b"k"), file("edit", b"old"), file("drop/a"), file("redo/a"), file("redo/b"))
    async with bench.changing("run", [base]) as root:
        (root / "edit").write_text("new")
        (root / "drop/a").unlink()
        (root / "drop").rmdir()
        (root / "redo/a").unlink()
        (root / "redo/b").unlink()
        (root / "redo").rmdir()
        (root / "redo").mkdir()
        (root / "redo/c").write_text("c")
        expected = tree(root)
    assert await bench.names(Lower("run")) == [".wh.drop", "edit", "redo", "redo/.wh..wh..opq", "redo/c"]
    again = await bench.snapshots.ensure_layer(await bench.snapshots.write_layer(Lower("run")))
    for lower in (Lower("run"), again):
        async with bench.viewed(base, lower) as root:
            assert tree(root) == expected == {"keep": "k", "edit": "new", "redo/c": "c"}


async def test_renamed_directories_are_complete(bench: Bench) -> None:
    base = await bench.layer(file("old/sub/a", b"1"), file("old/b", b"2"))
    async with bench.changing("mv", [base]) as root:
        result = await asyncio.create_subprocess_exec("mv", root / "old", root / "new")
        assert await result.wait() == 0
    assert await bench.names(Lower("mv")) == ["new", "new/b", "new/sub", "new/sub/a", ".wh.old"]


async def test_hard_links_attributes_and_devices_survive(bench: Bench) -> None:
    base = await bench.layer(file("base", b"b", xattrs={"user.from": b"layer"}))
    async with bench.changing("links", [base]) as root:
        os.link(root / "base", root / "linked")
        (root / "one").write_text("1")
        os.link(root / "one", root / "two")
        os.setxattr(root / "one", "user.k", b"\0v")
        os.mknod(root / "dev", 0o600 | stat.S_IFCHR, os.makedev(1, 5))
        os.chown(root / "one", 12, 34)
        (root / "one").chmod(0o4711)
    layer = await bench.snapshots.ensure_layer(await bench.snapshots.write_layer(Lower("links")))
    async with bench.viewed(base, layer) as root:
        assert (root / "one").stat().st_ino == (root / "two").stat().st_ino
        assert (root / "base").stat().st_ino == (root / "linked").stat().st_ino
        status = (root / "one").stat()
        assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o4711, 12, 34)
        assert os.getxattr(root / "two", "user.k") == b"\0v"
        assert os.getxattr(root / "linked", "user.from") == b"layer"
        assert (root / "dev").stat().st_rdev == os.makedev(1, 5)


async def test_layer_tars_are_deterministic_and_written_once(bench: Bench) -> None:
    base = await bench.layer(file("a"))
    for key in ("x", "y"):
        async with bench.changing(key, [base]) as root:
            for name in ("z", "b", "ä"):
                (root / name).write_text(name)
                os.utime(root / name, (1, 1))
    first = await bench.snapshots.write_layer(Lower("x"))
    assert first == await bench.snapshots.write_layer(Lower("y"))
    bench.store.layers.path(first).write_bytes(b"would be noticed")
    assert await bench.snapshots.write_layer(Lower("x")) == first
    assert await bench.snapshots.write_layer(base) == Digest.parse(base)


async def test_committed_snapshots_are_lowers(bench: Bench) -> None:
    async with bench.changing("one", ()) as root:
        (root / "f").write_text("1")
    async with bench.changing("two", [Lower("one")]) as root:
        (root / "f").unlink()
    async with bench.viewed(Lower("one"), Lower("two")) as root:
        assert os.listdir(root) == []
    assert await bench.snapshots.usage("one") > 0


async def test_ensure_layer_is_single_flight_and_idempotent(bench: Bench) -> None:
    stored = await bench.store.layers.write(lambda sink: TarWriter(sink).finish())
    lowers = await asyncio.gather(*(bench.snapshots.ensure_layer(stored.diff_id) for _ in range(8)))
    assert len(set(lowers)) == 1
    count = await bench.store.db.read(lambda c: c.execute("SELECT count(*) FROM snapshots").fetchone()[0])
    assert count == 1


async def test_unknown_and_damaged_layers(bench: Bench) -> None:
    with pytest.raises(NotFound, match="no such layer"):
        await bench.snapshots.ensure_layer(Digest.of(b"unknown"))
    damaged = await bench.store.layers.write(lambda sink: sink.write(b"\1" * 1024))
    before = sorted(os.listdir(bench.store.root / "snapshots"))
    for _ in range(2):
        with pytest.raises(DataCorrupt):
            await bench.snapshots.ensure_layer(damaged.diff_id)
    assert sorted(os.listdir(bench.store.root / "snapshots")) == before


async def test_keys_are_unique_also_for_callers_at_the_same_time(bench: Bench) -> None:
    results = await asyncio.gather(*(bench.snapshots.prepare("k", ()) for _ in range(4)), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["Conflict", "Conflict", "Conflict", "NoneType"]


async def test_what_does_not_exist(bench: Bench) -> None:
    with pytest.raises(NotFound, match="no such snapshot: nope"):
        await bench.snapshots.prepare("k", [Lower("nope")])
    await bench.snapshots.prepare("k", ())
    with pytest.raises(NotFound, match="not committed"):
        await bench.snapshots.prepare("k2", [Lower("k")])
    for call in (
        bench.snapshots.mount("nope", bench.target),
        bench.snapshots.view([Lower("nope")], bench.target),
        bench.snapshots.commit("nope"),
        bench.snapshots.write_layer(Lower("nope")),
        bench.snapshots.upper_path("nope"),
        bench.snapshots.usage("nope"),
    ):
        with pytest.raises(NotFound):
            await call
    await bench.snapshots.remove("nope")
    await bench.snapshots.unmount(bench.target)


async def test_mounted_snapshots_are_neither_frozen_nor_removed(bench: Bench) -> None:
    await bench.snapshots.prepare("k", ())
    async with bench.mounted("k"):
        for call in (bench.snapshots.commit("k"), bench.snapshots.remove("k")):
            with pytest.raises(Conflict, match="mounted"):
                await call
    await bench.snapshots.commit("k")
    with pytest.raises(Conflict, match="committed already"):
        await bench.snapshots.commit("k")
    with pytest.raises(NotFound, match="no active snapshot"):
        await bench.snapshots.mount("k", bench.target)


async def test_what_carries_others_is_not_removed(bench: Bench) -> None:
    base = await bench.layer(file("a"))
    await bench.snapshots.prepare("above", [base])
    with pytest.raises(Conflict, match="in use by above"):
        await bench.snapshots.remove(base)
    path = await bench.snapshots.upper_path("above")
    assert path.is_dir()
    await bench.snapshots.remove("above")
    assert not path.exists()
    await bench.snapshots.remove(base)


async def test_remounting_keeps_the_changes(bench: Bench) -> None:
    base = await bench.layer(file("a", b"1"))
    await bench.snapshots.prepare("c", [base])
    async with bench.mounted("c") as root:
        (root / "a").unlink()
        (root / "b").write_text("2")
    async with bench.mounted("c") as root:
        assert tree(root) == {"b": "2"}


async def test_recovery_deletes_what_a_crash_left(bench: Bench) -> None:
    base = await bench.layer(file("a", b"1"))
    await bench.snapshots.prepare("kept", [base])
    stray = bench.store.root / "snapshots"
    (stray / "stage-abc/fs").mkdir(parents=True)
    (stray / "4711/upper").mkdir(parents=True)
    (stray / "4711/upper/file").write_text("x")
    await bench.snapshots.recover()
    assert not (stray / "stage-abc").exists() and not (stray / "4711").exists()
    async with bench.mounted("kept") as root:
        assert tree(root) == {"a": "1"}


async def test_leftovers_of_a_lost_transaction_do_not_matter(bench: Bench) -> None:
    await bench.snapshots.prepare("one", ())
    number = int((await bench.snapshots.upper_path("one")).parent.name)
    stale = bench.store.root / "snapshots" / str(number + 1) / "upper"
    stale.mkdir(parents=True)
    (stale / "stale").write_text("x")
    async with bench.changing("two", ()) as root:
        assert os.listdir(root) == []


async def test_cancelled_unpacking_leaves_nothing_and_can_be_repeated(bench: Bench) -> None:
    def produce(sink: BinaryIO) -> None:
        writer = TarWriter(sink)
        for number in range(3000):
            entry, data = file(f"f{number}", b"x" * 100)
            writer.add(entry, io.BytesIO(data))
        writer.finish()

    stored = await bench.store.layers.write(produce)
    before = sorted(os.listdir(bench.store.root / "snapshots"))
    task = asyncio.create_task(bench.snapshots.ensure_layer(stored.diff_id))
    for _ in range(5):
        await bench.store.db.read(lambda c: None)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(os.listdir(bench.store.root / "snapshots")) == before
    lower = await bench.snapshots.ensure_layer(stored.diff_id)
    async with bench.viewed(lower) as root:
        assert len(os.listdir(root)) == 3000
    assert len(os.listdir(bench.store.root / "snapshots")) == len(before) + 1


async def test_an_active_snapshot_tells_what_it_changes_and_becomes_a_layer(bench: Bench) -> None:
    base = await bench.layer(file("keep", b"k"), file("drop", b"d"), file("redo/a", b"a"), directory("etc"))
    await bench.snapshots.prepare("live", [base])
    assert await bench.snapshots.changes("live") == []
    async with bench.mounted("live") as root:
        (root / "drop").unlink()
        (root / "redo/a").unlink()
        (root / "redo").rmdir()
        (root / "redo").mkdir()
        (root / "new").write_text("n")
        (root / "proc").mkdir()
        (root / "etc/hosts").touch()
        points = {"proc", "etc/hosts"}
        found = await bench.snapshots.changes("live", points)
        assert [(change.path, change.kind.name) for change in found] == [
            ("drop", "DELETED"),
            ("new", "ADDED"),
            ("redo", "MODIFIED"),
            ("redo/a", "DELETED"),
        ]
        assert {change.path for change in await bench.snapshots.changes("live")} >= {"proc", "etc", "etc/hosts"}
        async with bench.store.leases.hold() as lease:
            diff_id = await bench.snapshots.write_changes("live", lease=lease, mount_points=points)
            layer = await bench.snapshots.ensure_layer(diff_id)
        (root / "new").write_text("goes on")
    async with bench.viewed(base, layer) as root:
        assert tree(root) == {"keep": "k", "new": "n"}
        assert sorted(path.name for path in root.iterdir()) == ["etc", "keep", "new", "redo"]
    await bench.snapshots.remove("live")
    for refused in (bench.snapshots.changes("live"), bench.snapshots.changes(str(base))):
        with pytest.raises(NotFound):
            await refused
