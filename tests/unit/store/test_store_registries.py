"""What registries know of the store's images and layers: digests, manifests, compressed forms."""

from __future__ import annotations

import asyncio
import gzip
import io
import tarfile
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from tare.archive.expansion import ExpansionLimits
from tare.errors import DataCorrupt, InvalidArgument, NotFound
from tare.model import Digest, Reference
from tare.oci.image import ImageConfig, encode
from tare.store.images import KnownAs
from tare.store.layer_blobs import LayerBlob
from tare.store.store import Store

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
LIMITS = ExpansionLimits()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path / "data")
    yield opened
    await opened.close()


def tar_of(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("file")
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


async def known(store: Store, repository: str, *, tag: str = "", author: str = "") -> tuple[Digest, KnownAs]:
    """An image that a registry knows, as a pull leaves it."""
    async with store.leases.hold() as lease:
        manifest = await store.content.write(f"manifest {author}".encode(), MANIFEST_TYPE, lease)
        index = await store.content.write(f"index {author}".encode(), MANIFEST_TYPE, lease)
        known_as = KnownAs(repository=repository, digest=index, manifest=manifest)
        document = encode(ImageConfig(architecture="amd64", os="linux", author=author))
        name = Reference.parse(f"{repository}:{tag}") if tag else None
        return await store.images.create_from(document, tag=name, known_as=known_as), known_as


async def test_a_digest_names_the_image(store: Store) -> None:
    image, known_as = await known(store, "reg.test/app", tag="1")
    name = f"reg.test/app@{known_as.digest}"
    found = await store.images.resolve(name)
    assert (found.id, [str(one) for one in found.digests]) == (image, [name])
    assert (await store.images.resolve(f"reg.test/app:other@{known_as.digest}")).id == image
    with pytest.raises(NotFound, match=r"No such image: reg.test/other@sha256:"):
        await store.images.resolve(f"reg.test/other@{known_as.digest}")
    other = Digest.of(b"other")
    with pytest.raises(NotFound, match=f"No such image: reg.test/app:1@{other}"):
        await store.images.resolve(f"reg.test/app:1@{other}")  # the digest counts, not the tag
    assert await store.images.known_as(image) == [known_as]


async def test_a_digest_is_taken_away(store: Store) -> None:
    image, known_as = await known(store, "reg.test/app", tag="1")
    name = Reference.parse(f"reg.test/app@{known_as.digest}")
    await store.images.untag(name, image)
    assert (await store.images.get(image)).digests == ()
    with pytest.raises(NotFound, match="No such image"):
        await store.images.untag(name, image)
    assert (await store.images.resolve("reg.test/app:1")).id == image


async def test_manifests_live_as_long_as_the_image(store: Store) -> None:
    image, known_as = await known(store, "reg.test/app")
    assert await store.collect() == 0
    assert await store.content.read(known_as.manifest) == b"manifest "
    assert await store.content.read(known_as.digest) == b"index "
    await store.images.untag(Reference.parse(f"reg.test/app@{known_as.digest}"), image)
    assert await store.collect() > 0
    assert {path.name for path in (store.root / "blobs/sha256").iterdir()} == {image.hex}
    again = await known(store, "reg.test/app")
    await store.images.remove(again[0])
    await store.collect()
    assert list((store.root / "blobs/sha256").iterdir()) == []


async def test_images_of_one_index_have_its_digest(store: Store) -> None:
    first, known_as = await known(store, "reg.test/app", author="a")
    second, _ = await known(store, "reg.test/app", author="b")
    await store.images.know(second, known_as)
    assert (await store.images.resolve(f"reg.test/app@{known_as.digest}")).id == second  # known last
    await store.images.remove(second)
    assert (await store.images.resolve(f"reg.test/app@{known_as.digest}")).id == first
    with pytest.raises(NotFound, match="No such image"):
        await store.images.know(second, known_as)


async def test_images_of_one_index_share_its_tag(store: Store) -> None:
    tag = Reference.parse("reg.test/app:1")
    first, known_as = await known(store, "reg.test/app", author="a")
    second, _ = await known(store, "reg.test/app", author="b")
    await store.images.know(first, known_as, tag=tag)
    await store.images.know(second, known_as, tag=tag)
    assert [image.id for image in await store.images.named(tag)] == [second, first]
    third, newer = await known(store, "reg.test/app", author="c")
    await store.images.know(third, newer, tag=tag)
    assert [image.id for image in await store.images.named(tag)] == [third]  # of another index: they lose it


async def test_an_image_that_a_registry_knows_is_named(store: Store) -> None:
    image, known_as = await known(store, "reg.test/app")
    async with store.leases.hold() as lease:
        await store.images.remove_unnamed(image, lease)
        assert (await store.images.get(image)).tags == ()
        await store.images.untag(Reference.parse(f"reg.test/app@{known_as.digest}"), image)
        await store.images.remove_unnamed(image, lease)
    with pytest.raises(NotFound):
        await store.images.get(image)


async def test_forms_of_a_layer_go_with_it(store: Store) -> None:
    data = tar_of(b"x")
    layer = Digest.of(data)
    blob = LayerBlob(digest=Digest.of(b"gz"), size=2, media_type="m", repository="reg.test/app")
    await store.layer_blobs.add((layer, blob))  # no such layer
    assert await store.layer_blobs.of_layer(layer) == []
    async with store.leases.hold() as lease:
        await store.layers.import_stream(io.BytesIO(data), layer, lease=lease)
        other = LayerBlob(digest=Digest.of(b"zst"), size=3, media_type="m", repository="reg.test/other")
        for one in (blob, other):
            await store.layer_blobs.add((layer, one))
        assert await store.layer_blobs.of_layer(layer) == [other, blob]
        assert await store.layer_blobs.layer_of(blob.digest) == layer
        claimed = [replace(blob, repository="reg.test/new"), replace(blob, digest=Digest.of(b"claimed"))]
        await store.layer_blobs.confirm(*((layer, one) for one in claimed))
        assert await store.layer_blobs.of_layer(layer) == [claimed[0], other, blob]
        await store.layer_blobs.forget(layer, claimed[0])
        await store.layer_blobs.forget(layer, other)
        assert await store.layer_blobs.of_layer(layer) == [blob]
        assert await store.layers.hold(layer, lease)
    await store.collect()
    assert await store.layer_blobs.layer_of(blob.digest) is None
    async with store.leases.hold() as lease:
        assert not await store.layers.hold(layer, lease)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.ZstdCompressor().compress])
async def test_layers_come_compressed(store: Store, tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    data, blob = tar_of(b"x" * 3_000_000), tmp_path / "blob"
    blob.write_bytes(pack(data))
    read: list[int] = []
    layer = await store.layers.import_compressed(blob, Digest.of(data), LIMITS, observe=read.append)
    assert (layer.diff_id, layer.size) == (Digest.of(data), len(data))
    assert store.layers.path(layer.diff_id).read_bytes() == data
    assert read[-1] == blob.stat().st_size
    assert read == sorted(read)


@pytest.mark.parametrize("damage", ["other", "cut gzip", "cut zstd", "flipped"])
async def test_a_layer_that_is_not_the_one_leaves_nothing(store: Store, tmp_path: Path, damage: str) -> None:
    data, blob = tar_of(bytes(range(256)) * 4000), tmp_path / "blob"
    packed = gzip.compress(data)
    match damage:
        case "other":
            packed = gzip.compress(tar_of(b"other"))
        case "cut gzip":
            packed = packed[:-20]
        case "cut zstd":
            packed = zstandard.ZstdCompressor().compress(data)[:-20]
        case "flipped":
            packed = packed[:100] + bytes([packed[100] ^ 255]) + packed[101:]
    blob.write_bytes(packed)
    with pytest.raises(DataCorrupt, match="not the layer that the image's configuration names"):
        await store.layers.import_compressed(blob, Digest.of(data), LIMITS)
    assert [*(store.root / "layers").iterdir(), *(store.root / "staging").iterdir()] == []


@pytest.mark.parametrize(
    ("limits", "setting"),
    [
        (ExpansionLimits(size=1_000_000), "max_layer_bytes"),
        (ExpansionLimits(ratio=10, ratio_from=1_000_000), "max_layer_ratio"),
    ],
)
async def test_bombs_are_refused(store: Store, tmp_path: Path, limits: ExpansionLimits, setting: str) -> None:
    data, blob = tar_of(bytes(20_000_000)), tmp_path / "blob"
    blob.write_bytes(gzip.compress(data))
    with pytest.raises(InvalidArgument, match=setting) as caught:
        await store.layers.import_compressed(blob, Digest.of(data), limits)
    assert caught.value.code == "layer-bomb"
    assert [*(store.root / "layers").iterdir(), *(store.root / "staging").iterdir()] == []


async def test_a_cancelled_import_leaves_nothing(store: Store, tmp_path: Path) -> None:
    data, blob = tar_of(bytes(40_000_000)), tmp_path / "blob"
    blob.write_bytes(gzip.compress(data, 1))
    loop, begun = asyncio.get_running_loop(), asyncio.Event()

    def observe(_: int) -> None:
        loop.call_soon_threadsafe(begun.set)

    task = asyncio.ensure_future(
        store.layers.import_compressed(blob, Digest.of(data), ExpansionLimits(), observe=observe)
    )
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [*(store.root / "layers").iterdir(), *(store.root / "staging").iterdir()] == []
