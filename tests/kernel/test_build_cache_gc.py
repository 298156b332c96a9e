"""The build cache's life on a real kernel: what it takes, what goes, what stays while builds run."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import pytest
from build_bench import Bench
from build_parts import BASE

from tare.build.cache import Key, Result, make_key
from tare.build.cache_ledger import CACHE_MOUNT, REGULAR, CacheRecord
from tare.build.cache_policy import CacheLimits, DiskSpace, Policy, private_size
from tare.build.events import BuildEvent, VertexOutput
from tare.build.failures import BuildStepFailed
from tare.build.request import BuildRequest
from tare.model import Digest, Platform, Reference

pytestmark = pytest.mark.root

FROM = "FROM test.local/base:1\n"
ALL = Policy(everything=True)
STEPS = "RUN cat /bin/busybox > /copy; busybox ln /copy /again\nCOPY big /big\nRUN echo x > /x\n"


@pytest.fixture
def big(bench: Bench) -> Path:
    path = bench.context / "big"
    path.write_bytes(b"0123456789abcdef" * 20_000)
    return path


def du(*places: Path) -> int:
    """Bytes that files and trees take on disk, as the program says."""
    listed = subprocess.run(["du", "-s", "-c", "-B1", *places], capture_output=True, text=True, check=True)
    return int(listed.stdout.splitlines()[-1].split()[0])


def everything(bench: Bench) -> int:
    """What the store and the builder's files take."""
    places = [bench.work / "data" / "layers", bench.work / "data" / "snapshots", bench.work / "cache" / "mounts"]
    cache = bench.work / "cache"
    return du(*places, *cache.glob("context-hashes"), *cache.glob("manifests"))


async def unpack_base(bench: Bench) -> None:
    """So that the base image's own files do not count as the cache's."""
    image = await bench.sources.resolve(BASE, Platform.host(), lambda *_: None)
    for diff_id in image.diff_ids:
        await bench.store.snapshots.ensure_layer(diff_id)
    (bench.work / "cache" / "mounts").mkdir(parents=True)


async def records(bench: Bench) -> dict[str, CacheRecord]:
    await bench.builder.close()  # what is written after builds
    return {record.description: record for record in await bench.builder.cache.records()}


async def cached(bench: Bench, text: str) -> list[bool]:
    await bench.build(text)
    return [event.cached for name, event in bench.done().items() if not name.startswith("FROM")]


async def test_sizes_are_what_the_disk_says(bench: Bench, big: Path) -> None:
    await unpack_base(bench)
    before = everything(bench)
    mount = "RUN --mount=type=cache,target=/c cat /bin/busybox > /c/f\n"
    result = await bench.build(FROM + STEPS + mount)
    await bench.store.images.remove(result.image_id)
    await bench.store.collect()
    found = await bench.builder.cache.records()
    assert not any(record.shared for record in found)
    assert private_size(found) == everything(bench) - before
    assert (await records(bench))["cache mount /c"].type == CACHE_MOUNT
    pruned = await bench.builder.cache.prune(ALL)
    assert everything(bench) == before
    assert (pruned.size, len(pruned.ids)) == (private_size(found), len(found))
    assert await bench.builder.cache.records() == []


async def test_what_an_image_has_is_counted_once_and_kept(bench: Bench, big: Path) -> None:
    await unpack_base(bench)
    before = everything(bench)
    await bench.build(FROM + STEPS, tags=(Reference.parse("app:1"),))
    await bench.build(FROM + "RUN echo other > /other\n")
    found = await records(bench)
    assert found["COPY big /big"].shared
    query = (
        "SELECT l.diff_id, s.id FROM image_layers l LEFT JOIN snapshots s ON s.diff_id = l.diff_id AND s.kind = 'layer'"
    )
    layers = dict(await bench.store.db.read(lambda db: db.execute(query).fetchall()))
    base = await bench.sources.resolve(BASE, Platform.host(), lambda *_: None)
    del layers[str(base.diff_ids[0])]
    assert len(layers) == 4
    shared = [bench.store.layers.path(Digest.parse(diff_id)) for diff_id in layers]
    shared += [bench.work / "data" / "snapshots" / str(number) for number in layers.values() if number]
    assert private_size(found.values()) == everything(bench) - before - du(*shared)
    pruned = await bench.builder.cache.prune(Policy())
    assert not {record.id for record in found.values() if record.type == REGULAR} & set(pruned.ids)
    assert await cached(bench, FROM + STEPS) == [True, True, True]
    await bench.builder.cache.prune(ALL)
    assert await cached(bench, FROM + STEPS) == [False, False, False]


async def test_the_least_recently_used_goes_first(bench: Bench) -> None:
    texts = {name: FROM + f"RUN echo {name} > /{name}\nRUN echo more >> /{name}\n" for name in ("first", "second")}
    for name in ("first", "second", "first"):
        result = await bench.build(texts[name], tags=(Reference.parse(name),))
    for image in await bench.store.images.list():
        if BASE not in image.tags:
            await bench.store.images.remove(image.id)
    await bench.store.collect()
    found = await records(bench)
    total = private_size(found.values())
    second = sum(record.size for name, record in found.items() if "second" in name)
    limits = CacheLimits(limit=DiskSpace(size=total))
    assert (await bench.builder.cache.collect(limits)).ids == ()
    pruned = await bench.builder.cache.collect(CacheLimits(limit=DiskSpace(size=total - second)))
    assert {name for name, record in found.items() if record.id in pruned.ids} == {
        "RUN echo second > /second", "RUN echo more >> /second"
    }  # fmt: skip
    assert found["RUN echo more >> /second"].id == pruned.ids[0], "what stands on another goes before it"
    assert await cached(bench, texts["first"]) == [True, True]
    assert await cached(bench, texts["second"]) == [False, False]
    assert result.image_id


async def test_a_running_build_keeps_what_it_has(bench: Bench) -> None:
    gate = "while [ ! -e /gate/open ]; do sleep 0.01; done; "
    mount = "RUN --mount=type=cache,target=/gate "
    text = FROM + "RUN echo found > /found\n"
    await bench.build(text)
    text += f"RUN echo made > /made\n{mount}echo waiting; {gate}echo end > /end\n"
    begun = asyncio.Event()

    async def build() -> None:
        def observe(event: BuildEvent) -> None:
            if isinstance(event, VertexOutput):
                begun.set()

        await bench.builder.build(BuildRequest(context=bench.context, dockerfile=text), observe)

    building = asyncio.create_task(build())
    await begun.wait()
    found = await records(bench)
    busy = ("RUN echo found > /found", "RUN echo made > /made", "cache mount /gate")
    assert {name for name, record in found.items() if record.in_use} == set(busy)
    pruned = await bench.builder.cache.prune(ALL)
    assert not {found[name].id for name in busy} & set(pruned.ids)
    (content,) = (bench.work / "cache" / "mounts").glob("*/data")
    (content / "open").touch()
    await building
    assert await cached(bench, text) == [True, True, True]
    assert not any(record.in_use for record in (await records(bench)).values())
    await bench.builder.cache.prune(ALL)
    assert not content.exists()
    assert await cached(bench, FROM + f"{mount}ls /gate\n") == [False], "a mount that is gone is made anew"


async def test_what_is_taken_up_after_the_choice_stays(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await bench.build(FROM + "RUN echo below > /below\nRUN echo above > /above\n")
    keeper, cache = bench.builder.cache, bench.builder.cache._bench.cache
    found, ledger = await records(bench), await keeper._ledger()

    async def chosen_before() -> Any:
        return ledger

    async def prune() -> set[str]:
        ids = (await keeper.prune(ALL)).ids
        return {name for name, record in found.items() if record.id in ids}

    monkeypatch.setattr(keeper, "_ledger", chosen_before)
    above = next(entry for entry in ledger.entries.values() if "above" in entry.record.description)
    async with cache.session():
        assert await cache.find(Key(above.rows[0].key, {})) is not None
        assert await prune() == set(), "a build has found it, and it stands on the other"
    async with bench.store.leases.hold() as lease:
        part = next(node for node in above.nodes if node.kind == "snapshot")
        query = "SELECT key FROM snapshots WHERE id = ?"
        key = await bench.store.db.read(lambda db: db.execute(query, (part.name,)).fetchone()[0])
        await bench.store.leases.add(lease, "snapshot", key)
        assert await prune() == set(), "a build holds it"
    async with cache.pruning.exclusive():
        finding = asyncio.create_task(cache.find(Key(above.rows[0].key, {})))
        for _ in range(20):
            await bench.store.db.read(lambda db: None)
        assert not finding.done(), "nothing is found while records are deleted"
    assert await finding is not None
    monkeypatch.undo()
    assert await prune() == {"RUN echo above > /above", "RUN echo below > /below"}


async def test_use_is_noted_also_when_the_build_fails(bench: Bench) -> None:
    await bench.build(FROM + "RUN echo one > /one\n")
    forget = "UPDATE build_cache SET last_used = 5, uses = 1"
    await bench.store.db.write(lambda db: db.execute(forget))
    with pytest.raises(BuildStepFailed):
        await bench.build(FROM + "RUN echo one > /one\nRUN exit 3\n")
    record = (await records(bench))["RUN echo one > /one"]
    assert (record.last_used > 5, record.uses) == (True, 2)
    await bench.build(FROM + "RUN echo one > /one\n")
    assert (await records(bench))["RUN echo one > /one"].uses == 3


async def test_builds_go_well_beside_pruning(bench: Bench, big: Path) -> None:
    texts = [
        FROM + "RUN echo base > /base\nCOPY big /big\n" + f"RUN echo {number} > /n && ls /big /base\n"
        for number in range(3)
    ]
    stop = asyncio.Event()

    async def prune() -> int:
        rounds = 0
        while not stop.is_set():
            await bench.builder.cache.prune(ALL)
            rounds += 1
        return rounds

    async def build(text: str) -> None:
        for _ in range(6):
            await bench.builder.build(BuildRequest(context=bench.context, dockerfile=text), lambda _: None)

    pruning = asyncio.create_task(prune())
    try:
        await asyncio.gather(*(build(text) for text in texts))
    finally:
        stop.set()
    assert await pruning > 0
    await bench.builder.cache.prune(ALL)
    await bench.store.collect()


async def test_the_first_collection_forgets_what_leads_to_nothing(bench: Bench) -> None:
    cache = bench.builder.cache._bench.cache
    gone = make_key({"op": "content", "chain": [["snapshot", "gone"]], "selection": []})
    await cache.put(gone, Result(value="sha256:x"), kind="content")
    await bench.build(FROM + "RUN echo one > /one\nFROM test.local/base:1\nCOPY --from=0 /one /one\n")
    assert await cache.find(gone) is not None
    assert (await bench.builder.cache.collect(CacheLimits())).ids == ()
    assert await cache.find(gone) is None
    text = FROM + "RUN echo one > /one\nFROM test.local/base:1\nCOPY --from=0 /one /one\n"
    assert await cached(bench, text) == [True, True]


async def test_a_damaged_directory_of_mounts_is_put_in_order(bench: Bench) -> None:
    await bench.build(FROM + "RUN --mount=type=cache,target=/c echo kept > /c/f\n")
    mounts = bench.work / "cache" / "mounts"
    (kept,) = mounts.iterdir()
    for name in ("a.new-12345678", "a.gone-12345678", "b"):
        (mounts / name / "data").mkdir(parents=True)
    (bench.work / "cache" / ".context-hashes.abc").touch()
    await bench.store.db.write(lambda db: db.execute("INSERT INTO cache_mounts VALUES ('lost', '/l', 1.0, 1.0, 1)"))
    await bench.builder.recover()
    assert list(mounts.iterdir()) == [kept]
    assert not list((bench.work / "cache").glob(".context-hashes.*"))
    assert [record.description for record in (await records(bench)).values() if record.mutable] == ["cache mount /c"]
    await bench.store.db.write(lambda db: db.execute("DELETE FROM cache_mounts"))
    await bench.builder.recover()
    assert "cache mount /c" in await records(bench), "a directory of an earlier version is taken up"
    assert (kept / "data" / "f").read_text() == "kept\n"
