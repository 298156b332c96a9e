"""What a registry keeps: compressed forms of layers, and images that clients are fetching."""

from __future__ import annotations

import asyncio
import gzip
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tare.archive.compression import Compression, decompress
from tare.engine.image_holds import ImageHolds
from tare.errors import NotFound
from tare.model import Digest, Reference
from tare.oci.image import ImageConfig, RootFS
from tare.registry.server.layer_forms import LayerForms
from tare.store.store import Store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path / "data")
    yield opened
    await opened.close()


async def image(store: Store, data: bytes, tag: str = "app:1") -> tuple[Digest, Digest]:
    """An image with one layer, and that layer."""
    async with store.leases.hold() as lease:
        layer = await store.layers.write(lambda sink: (sink.write(data), None)[1], lease=lease)
        config = ImageConfig(architecture="amd64", os="linux", rootfs=RootFS(diff_ids=[str(layer.diff_id)]))
        return await store.images.create(config, tag=Reference.parse(tag)), layer.diff_id


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


async def test_layers_as_they_are_take_no_space(store: Store, tmp_path: Path) -> None:
    _, layer = await image(store, b"data" * 1000)
    forms = LayerForms(store, tmp_path / "served", Compression.NONE)
    form = await forms.get(layer)
    assert (form.digest, form.size) == (layer, 4000)
    assert await forms.file(form) == store.layers.path(layer)
    await forms.tidy()
    assert not (tmp_path / "served").exists()
    with pytest.raises(NotFound):
        await forms.get(Digest("0" * 64))


@pytest.mark.parametrize("kind", [Compression.GZIP, Compression.ZSTD])
async def test_a_layer_is_compressed_once_and_known_afterwards(store: Store, tmp_path: Path, kind: Compression) -> None:
    _, layer = await image(store, b"data" * 100_000)
    forms = LayerForms(store, tmp_path / "served", kind)
    assert await forms.known(layer) is None
    form, other = await asyncio.gather(forms.get(layer), forms.get(layer))
    assert form == other == await LayerForms(store, tmp_path / "served", kind).known(layer)
    path = await forms.file(form)
    assert path is not None
    data = path.read_bytes()
    assert Digest.of(data) == form.digest and len(data) == form.size < 400_000
    with path.open("rb") as opened:
        assert decompress(opened).read() == b"data" * 100_000
    path.unlink()
    assert await forms.file(form) == path and path.read_bytes() == data, "made again, and the same"


async def test_what_another_compressor_made_is_not_taken_for_ours(store: Store, tmp_path: Path) -> None:
    _, layer = await image(store, b"data" * 1000)
    forms = LayerForms(store, tmp_path / "served", Compression.GZIP)
    form = await forms.get(layer)
    path = await forms.file(form)
    assert path is not None
    path.unlink()
    foreign = type(form)(layer, Digest.of(gzip.compress(b"data" * 1000, mtime=0)), 1, Compression.GZIP)
    assert await forms.file(foreign) is None


async def test_what_was_not_asked_for_the_longest_goes_first(store: Store, tmp_path: Path) -> None:
    directory = tmp_path / "served"
    layers = [(await image(store, os.urandom(50_000), f"app:{number}"))[1] for number in range(3)]
    forms = LayerForms(store, directory, Compression.GZIP, limit=120_000)
    made = [await forms.get(layer) for layer in layers[:2]]
    for number, form in enumerate(made):
        os.utime(directory / f"{form.digest.hex}.gzip", (number + 1, number + 1))
    assert await forms.file(made[0]) is not None, "asked for"
    made.append(await forms.get(layers[2]))
    assert {name for name in names(directory) if not name.endswith(".json")} == {
        f"{form.digest.hex}.gzip" for form in (made[0], made[2])
    }
    assert await forms.known(layers[1]) == made[1], "its digest stays known"


async def test_tidying_takes_what_nobody_knows(store: Store, tmp_path: Path) -> None:
    directory = tmp_path / "served"
    kept, gone = await image(store, b"kept" * 100), await image(store, b"gone" * 100, "gone:1")
    forms = LayerForms(store, directory, Compression.GZIP)
    form = await forms.get(kept[1])
    await forms.get(gone[1])
    for name, text in ((f"{'a' * 64}.gzip", "nobody's"), ("stage-x", "half"), (f"{'b' * 64}.gzip.json", "{")):
        (directory / name).write_text(text)
    await store.images.remove(gone[0])
    await store.collect()
    await forms.tidy()
    assert names(directory) == {f"{form.digest.hex}.gzip", f"{kept[1].hex}.gzip.json"}


async def test_an_image_stays_for_whoever_fetches_it(store: Store) -> None:
    name, layer = await image(store, b"data")
    holds = ImageHolds(store, seconds=0.0)
    async with holds.using(name, "app"):
        assert holds.of("app") == [name] and holds.of("other") == []
        async with holds.using(name, "library/app") as found:
            assert found.id == name
        await store.images.remove(name)
        await store.collect()
        assert store.layers.path(layer).exists() and await store.content.read(name)
    await holds.close()
    assert not store.layers.path(layer).exists()
    assert holds.of("app") == []
    with pytest.raises(NotFound):
        async with holds.using(name, "app"):
            pass
    assert holds.of("app") == []


async def test_an_image_stays_between_requests_and_goes_when_none_comes(store: Store) -> None:
    name, layer = await image(store, b"data")
    held, passing = ImageHolds(store, seconds=3600.0), ImageHolds(store, seconds=0.0)
    for holds in (held, passing):
        async with holds.using(name, "app"):
            pass
    await store.images.remove(name)
    while passing.of("app"):
        await asyncio.sleep(0)
    await store.collect()
    assert store.layers.path(layer).exists(), "the other one holds it"
    async with held.using(name, "app") as found:
        assert found.id == name
    await held.close()
    assert not store.layers.path(layer).exists()


async def test_those_who_gave_up_waiting_hold_nothing(store: Store) -> None:
    name, _ = await image(store, b"data")
    holds = ImageHolds(store)

    async def use() -> None:
        async with holds.using(name, "app"):
            raise AssertionError("cancelled before")

    task = asyncio.ensure_future(use())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await holds.close()
    assert await store.db.read(lambda c: c.execute("SELECT count(*) FROM leases").fetchone()) == (0,)
