"""Records made from a real database: what belongs together, what is shared, what is used."""

from __future__ import annotations

import tarfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from tare.build.cache import BuildCache, Part, Result, make_key
from tare.build.cache_ledger import Entry, StepLedger, make_ledger, read_facts, record_id
from tare.build.phrasing import describe_fields
from tare.model import Digest
from tare.oci.image import ImageConfig, RootFS
from tare.store.gc import Node
from tare.store.snapshotter import Lower
from tare.store.store import Store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path)
    yield opened
    await opened.close()


def tar_of(name: str) -> Callable[[BinaryIO], None]:
    def produce(sink: BinaryIO) -> None:
        with tarfile.open(fileobj=sink, mode="w|") as archive:
            member = tarfile.TarInfo(name)
            member.type = tarfile.DIRTYPE
            archive.addfile(member)

    return produce


class Steps:
    """Makes what steps make."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.cache = BuildCache(store)

    async def layer(self, name: str) -> Part:
        return Part(kind="layer", key=str((await self.store.layers.write(tar_of(name))).diff_id))

    async def snapshot(self, key: str, *below: Part) -> Part:
        snapshots = self.store.snapshots
        lowers = [
            await snapshots.ensure_layer(Digest.parse(part.key)) if part.kind == "layer" else Lower(part.key)
            for part in below
        ]
        await snapshots.prepare(key, lowers)
        await snapshots.commit(key)
        return Part(kind="snapshot", key=key)

    async def put(self, name: str, chain: tuple[Part, ...], **fields: object) -> str:
        key = make_key({"name": name, **fields})
        await self.cache.put(key, Result(part=chain[-1], chain=chain))
        return key.digest

    async def image(self, *layers: Part) -> Digest:
        config = ImageConfig(architecture="amd64", os="linux", rootfs=RootFS(diff_ids=[part.key for part in layers]))
        return await self.store.images.create(config)

    async def date(self, key: str, used: float) -> None:
        statement = "UPDATE build_cache SET last_used = ? WHERE key = ?"
        await self.store.db.write(lambda db: db.execute(statement, (used, key)))

    async def ledger(self) -> StepLedger:
        facts = await self.store.db.read(read_facts)
        return make_ledger(facts, dict.fromkeys(facts.nodes, 1))


@pytest.fixture
def steps(store: Store) -> Steps:
    return Steps(store)


def of(ledger: StepLedger, part: Part) -> Entry:
    return ledger.entries[record_id(part)]


async def test_a_chain_over_an_image(steps: Steps) -> None:
    base, copied = await steps.layer("base"), await steps.layer("copied")
    await steps.image(base)
    ran = await steps.snapshot("aa" * 32, base)
    first = await steps.put("run", (base, ran), op="run", argv=["/bin/sh", "-c", "make"])
    second = await steps.put("copy", (base, ran, copied), op="copy", sources=["a", "b"], destination="/d/")
    await steps.date(first, 10.0)
    await steps.date(second, 20.0)
    ledger = await steps.ledger()
    assert len(ledger.entries) == 2, "the image's layers are not the cache's"
    run, copy = of(ledger, ran).record, of(ledger, copied).record
    assert (run.description, run.parents, run.dangling, run.shared, run.size) == ("RUN make", (), True, False, 1)
    assert (copy.description, copy.parents, copy.last_used) == ("COPY a b /d/", (run.id,), 20.0)
    assert run.last_used == 20.0, "who uses a step uses what it stands on"
    assert of(ledger, copied).needs == frozenset(), "a layer stands on its own"


async def test_layers_of_an_image_that_is_gone_belong_to_the_cache(steps: Steps) -> None:
    base = await steps.layer("base")
    image = await steps.image(base)
    ran = await steps.snapshot("aa" * 32, base)
    await steps.put("run", (base, ran))
    await steps.store.images.remove(image)
    await steps.store.collect()
    ledger = await steps.ledger()
    below = of(ledger, base)
    assert of(ledger, ran).needs == {below.record.id}
    assert (below.rows, below.record.size, below.record.description) == ((), 2, f"layer {base.key}")
    assert below.record.last_used == of(ledger, ran).record.last_used


async def test_an_exported_step_owns_its_tar_until_an_image_has_it(steps: Steps) -> None:
    ran = await steps.snapshot("aa" * 32)
    await steps.put("run", (ran,))
    exported = Part(kind="layer", key=str(await steps.store.snapshots.write_layer(Lower(ran.key))))
    entry = of(await steps.ledger(), ran)
    assert {node.kind for node in entry.nodes} == {"snapshot", "layer"}
    assert (entry.record.size, entry.record.dangling) == (2, True)
    await steps.image(exported)
    record = of(await steps.ledger(), ran).record
    assert (record.size, record.dangling, record.shared) == (1, False, False)


async def test_a_layer_that_an_image_has_is_shared(steps: Steps) -> None:
    copied = await steps.layer("copied")
    await steps.put("one", (copied,))
    await steps.put("two", (copied,))
    await steps.image(copied)
    entry = of(await steps.ledger(), copied)
    assert (entry.record.shared, entry.record.dangling, entry.record.size) == (True, False, 1)
    assert (len(entry.rows), entry.record.uses) == (2, 1)


async def test_layers_that_stand_on_each_other_in_both_orders(steps: Steps) -> None:
    one, two = await steps.layer("one"), await steps.layer("two")
    keys = [await steps.put("a", (one, two)), await steps.put("b", (two, one))]
    await steps.date(keys[0], 5.0)
    await steps.date(keys[1], 9.0)
    ledger = await steps.ledger()
    assert of(ledger, one).record.parents == (record_id(two),)
    assert of(ledger, two).record.parents == (record_id(one),)
    assert {entry.record.last_used for entry in ledger.entries.values()} == {9.0}


async def test_content_keys_belong_to_what_they_looked_at(steps: Steps) -> None:
    ran = await steps.snapshot("aa" * 32)
    await steps.put("run", (ran,))
    base = await steps.layer("base")
    await steps.image(base)
    for name, chain in (("a", [ran]), ("b", [base]), ("c", [Part(kind="snapshot", key="gone")])):
        key = make_key({"op": "content", "n": name, "chain": [[part.kind, part.key] for part in chain]})
        await steps.cache.put(key, Result(value="sha256:x"), kind="content")
    ledger = await steps.ledger()
    assert len(of(ledger, ran).rows) == 2
    assert (len(ledger.loose), len(ledger.stale)) == (1, 1)


async def test_what_builds_hold_is_in_use(steps: Steps) -> None:
    below, above = await steps.layer("below"), await steps.layer("above")
    ran = await steps.snapshot("aa" * 32, below)
    await steps.put("copy", (below,))
    await steps.put("run", (below, ran))
    await steps.put("other", (above,))
    async with steps.store.leases.hold() as lease:
        await steps.store.leases.add(lease, "snapshot", ran.key)
        ledger = await steps.ledger()
        assert {part: of(ledger, part).record.in_use for part in (below, ran, above)} == {
            below: True, ran: True, above: False
        }  # fmt: skip
    assert not any(entry.record.in_use for entry in (await steps.ledger()).entries.values())
    await steps.store.snapshots.prepare("step", [Lower(ran.key)])
    assert of(await steps.ledger(), below).record.in_use
    await steps.store.snapshots.remove("step")


async def test_every_object_of_the_cache_has_one_record(steps: Steps) -> None:
    base = await steps.layer("base")
    first = await steps.snapshot("aa" * 32, base)
    twin = await steps.snapshot("bb" * 32, base)
    for name, part in (("a", first), ("b", twin)):
        await steps.put(name, (base, part))
        await steps.store.snapshots.write_layer(Lower(part.key))
    ledger = await steps.ledger()
    found: list[Node] = [node for entry in ledger.entries.values() for node in entry.nodes]
    assert len(found) == len(set(found))
    facts = await steps.store.db.read(read_facts)
    assert set(found) == facts.nodes
    without = [entry for entry in ledger.entries.values() if not entry.rows]
    assert len(without) == 2, "the base, and the tar that both steps have"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"op": "run", "argv": ["/bin/sh", "-c", "a && b"]}, "RUN a && b"),
        ({"op": "run", "argv": ["a", "b c"]}, 'RUN ["a" "b c"]'),
        ({"op": "copy", "sources": ["x"], "inline": [["f", "text"]], "destination": "/y"}, "COPY x f /y"),
        ({"op": "copy", "downloads": ["https://a/b"], "destination": "/y"}, "ADD https://a/b /y"),
        ({"op": "workdir", "path": "/w"}, "WORKDIR /w"),
        ({"op": "layer"}, ""),
        ({}, ""),
    ],
)
def test_records_are_described_by_their_instruction(fields: dict[str, object], text: str) -> None:
    assert describe_fields(fields) == text
