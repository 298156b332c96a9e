from __future__ import annotations

import asyncio
import errno
import io
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

import pytest

from tare.errors import Conflict, DataCorrupt, Exhausted, InvalidArgument, NotFound
from tare.model import Digest, Platform, Reference
from tare.oci.image import ImageConfig, RootFS, encode
from tare.store import files
from tare.store.store import Store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path / "data")
    yield opened
    await opened.close()


async def layer(store: Store, text: str = "layer", lease: str | None = None) -> Digest:
    return (await store.layers.write(lambda sink: void(sink.write(text.encode())), lease=lease)).diff_id


def void(_: object) -> None:
    return None


async def image(store: Store, *tags: str, author: str = "", layers: tuple[Digest, ...] = ()) -> Digest:
    config = ImageConfig(
        architecture="amd64", os="linux", author=author, rootfs=RootFS(diff_ids=[str(item) for item in layers])
    )
    digest = await store.images.create(config)
    for tag in tags:
        await store.images.tag(digest, Reference.parse(tag))
    return digest


def files_of(store: Store) -> set[str]:
    return {path.name for name in ("blobs/sha256", "layers", "staging") for path in (store.root / name).iterdir()}


async def use(store: Store, digest: Digest, name: str) -> None:
    await store.db.write(
        lambda c: void(
            c.execute("INSERT INTO containers VALUES (?, ?, ?, 'exited', 0, '{}')", (name * 8, name, str(digest)))
        )
    )


async def test_blobs_and_layers_are_what_they_are_called(store: Store) -> None:
    digest = await store.content.write(b"data", "text/plain")
    assert digest == Digest.of(b"data") == await store.content.write(b"data", "text/plain")
    assert await store.content.read(digest) == b"data"
    tar = bytes(1024)
    stored = await store.layers.import_stream(io.BytesIO(tar), Digest.of(tar))
    assert (stored.diff_id, stored.size) == (Digest.of(tar), 1024)
    assert await store.layers.get(stored.diff_id) == stored
    assert files_of(store) == {digest.hex, f"{stored.diff_id.hex}.tar"}


async def test_wrong_digests_and_sizes_leave_nothing(store: Store) -> None:
    with pytest.raises(DataCorrupt, match=f"expected {Digest.of(b'other')}"):
        await store.layers.import_stream(io.BytesIO(b"tar"), Digest.of(b"other"))
    with pytest.raises(DataCorrupt, match="digest"):
        await store.content.ingest(io.BytesIO(b"x"), "m", Digest.of(b"other"), 1)
    with pytest.raises(DataCorrupt, match="more than the expected 2 bytes"):
        await store.content.ingest(io.BytesIO(b"xxx"), "m", None, 2)
    with pytest.raises(DataCorrupt, match="3 bytes, expected 4"):
        await store.content.ingest(io.BytesIO(b"xxx"), "m", None, 4)
    assert files_of(store) == set()


async def test_damage_on_disk_is_noticed(store: Store) -> None:
    digest = await store.content.write(b"data", "m")
    store.content.path(digest).write_bytes(b"rot")
    with pytest.raises(DataCorrupt, match="does not match"):
        await store.content.read(digest)
    store.content.path(digest).unlink()
    with pytest.raises(NotFound, match="no such blob"):
        await store.content.read(digest)


async def test_a_full_disk_is_named_and_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "write", full)
    with pytest.raises(Exhausted, match=r"staging: No space left on device \(free space"):
        await layer(store)
    assert files_of(store) == set()


async def test_a_failing_producer_leaves_nothing(store: Store) -> None:
    def produce(sink: BinaryIO) -> None:
        sink.write(b"half")
        raise InvalidArgument("the source is gone")

    with pytest.raises(InvalidArgument, match="the source is gone"):
        await store.layers.write(produce)
    assert files_of(store) == set()


async def test_a_cancelled_writer_leaves_nothing(store: Store) -> None:
    loop = asyncio.get_running_loop()
    running = asyncio.Event()

    def produce(sink: BinaryIO) -> None:
        loop.call_soon_threadsafe(running.set)
        while True:
            sink.write(bytes(1 << 20))

    task = asyncio.create_task(store.layers.write(produce))
    await running.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert files_of(store) == set()


async def test_names_ids_and_their_starts(store: Store) -> None:
    digest = await image(store, "debian:12", "tare.local/debian:12", "debian")
    for name in (
        "debian", "debian:latest", "debian:12", "docker.io/library/debian:12", "tare.local/debian:12",
        str(digest), digest.hex, digest.hex[:12], digest.hex[:1], f"sha256:{digest.hex[:7]}", f"debian@{digest}",
    ):  # fmt: skip
        assert (await store.images.resolve(name)).id == digest, name
    tags = (await store.images.get(digest)).tags
    assert [str(tag) for tag in tags] == [
        "docker.io/library/debian:12", "docker.io/library/debian:latest", "tare.local/debian:12"
    ]  # fmt: skip


async def test_a_name_wins_over_an_id(store: Store) -> None:
    first = await image(store)
    second = await image(store, first.hex[:12], author="other")
    assert (await store.images.resolve(first.hex[:12])).id == second
    assert (await store.images.resolve(first.hex)).id == first


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("x", "x:latest"),
        ("x:1", "x:1"),
        ("a/b", "a/b:latest"),
        ("deadbeef", "deadbeef:latest"),
        ("f" * 64, "sha256:" + "f" * 64),
    ],
)
async def test_unknown_names_in_dockers_words(store: Store, name: str, shown: str) -> None:
    with pytest.raises(NotFound) as caught:
        await store.images.resolve(name)
    assert caught.value.message == f"No such image: {shown}"


@pytest.mark.parametrize("name", ["", "UPPER", "a b", "x:", "../x", "x@sha256:1"])
async def test_invalid_names(store: Store, name: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid reference format"):
        await store.images.resolve(name)


async def test_ambiguous_ids_conflict(store: Store) -> None:
    starts: set[str] = set()
    for number in range(17):
        starts.add((await image(store, author=str(number))).hex[0])
    ambiguous = [start for start in "0123456789abcdef" if start in starts]
    with pytest.raises(Conflict, match="is ambiguous"):
        for start in ambiguous:
            await store.images.resolve(start)


async def test_tags_move_and_go(store: Store) -> None:
    one, two = await image(store, "app"), await image(store, author="2")
    await store.images.tag(two, Reference.parse("app"))
    assert (await store.images.resolve("app")).id == two
    assert (await store.images.get(one)).tags == ()
    with pytest.raises(NotFound, match="No such image: app:latest"):
        await store.images.untag(Reference.parse("app"), one)
    await store.images.untag(Reference.parse("app"), two)
    with pytest.raises(NotFound, match="No such image: app:latest"):
        await store.images.untag(Reference.parse("app"), two)
    with pytest.raises(NotFound, match="No such image"):
        await store.images.tag(Digest.of(b"none"), Reference.parse("app"))


def foreign(architecture: str, variant: str = "", author: str = "") -> bytes:
    return encode(ImageConfig(architecture=architecture, os="linux", variant=variant, author=author))


async def test_a_name_stands_for_one_image_of_each_platform(store: Store) -> None:
    app = Reference.parse("app")
    own = await store.images.create_from(foreign(Platform.host().architecture), tag=app)
    arm = await store.images.create_from(foreign("arm", "v7"), tag=app, beside=True)
    risc = await store.images.create_from(foreign("riscv64"), tag=app, beside=True)
    assert [image.id for image in await store.images.named(app)] == [risc, arm, own]
    assert (await store.images.resolve("app")).id == own
    assert (await store.images.resolve("app", Platform("linux", "arm"))).id == arm
    assert (await store.images.resolve("app", Platform("linux", "arm", "v6"))).id == own  # the caller compares
    for digest in (own, arm, risc):
        assert (await store.images.get(digest)).tags == (app,)

    newer = await store.images.create_from(foreign("arm", "v7", author="2"), tag=app, beside=True)
    assert {image.id for image in await store.images.named(app)} == {own, newer, risc}
    assert (await store.images.get(arm)).tags == ()

    await store.images.untag(app, own)
    assert (await store.images.resolve("app")).id == newer  # none for this machine: the youngest
    await store.images.tag(arm, app)
    assert [image.id for image in await store.images.named(app)] == [arm]  # a plain tag takes the name from all


async def test_images_need_their_layers_and_count_them(store: Store) -> None:
    with pytest.raises(NotFound, match="no such layer"):
        await image(store, layers=(Digest.of(b"none"),))
    first, second = await layer(store, "12345"), await layer(store, "123")
    digest = await image(store, "x", layers=(first, second, first))
    found = await store.images.get(digest)
    assert (found.size, found.diff_ids) == (13, (first, second, first))
    assert await image(store, layers=(first, second, first)) == digest


async def test_lists_are_newest_first(store: Store) -> None:
    digests = [await image(store, author=str(number)) for number in range(4)]
    assert [item.id for item in await store.images.list()] == digests[::-1]


async def test_images_in_use_stay(store: Store) -> None:
    digest = await image(store, "x")
    await use(store, digest, "web")
    with pytest.raises(Conflict, match=r"being used by container webwebwebweb \(web\)"):
        await store.images.remove(digest)
    assert (await store.images.resolve("x")).id == digest
    with pytest.raises(NotFound):
        await store.images.remove(Digest.of(b"none"))


async def test_collection_keeps_what_is_referred_to(store: Store) -> None:
    shared, own = await layer(store, "shared"), await layer(store, "own")
    one, two = await image(store, layers=(shared, own)), await image(store, layers=(shared,))
    cached = await layer(store, "cached")
    await store.db.write(
        lambda c: void(
            c.execute(
                "INSERT INTO build_cache (key, kind, result, fields, diff_id, created, last_used)"
                " VALUES ('k', 'content', '{}', '{}', ?, 0, 0)",
                (str(cached),),
            )
        )
    )
    await layer(store, "unused")
    assert await store.collect() == len("unused")
    assert await store.collect() == 0
    await store.images.remove(one)
    await store.collect()
    assert files_of(store) == {two.hex, f"{shared.hex}.tar", f"{cached.hex}.tar"}
    with pytest.raises(NotFound):
        await store.layers.get(own)


async def test_leases_keep_what_is_in_flight(store: Store) -> None:
    async with store.leases.hold() as lease:
        held = await layer(store, "held", lease)
        blob = await store.content.write(b"blob", "m", lease)
        late = await layer(store, "late")
        await store.leases.add(lease, "layer", str(late))
        await store.snapshots.prepare("active", ())
        await store.collect()
        assert files_of(store) == {blob.hex, f"{held.hex}.tar", f"{late.hex}.tar"}
    with pytest.raises(NotFound, match="no such lease"):
        await store.leases.add(lease, "layer", str(late))
    with pytest.raises(NotFound, match="no such lease"):
        await layer(store, "after", lease)
    await store.collect()
    assert files_of(store) == set()
    assert (await store.snapshots.upper_path("active")).is_dir()


async def test_a_layer_written_while_it_is_collected_is_there_afterwards(store: Store) -> None:
    for _ in range(20):
        async with store.leases.hold() as lease:
            _, diff_id = await asyncio.gather(store.collect(), layer(store, "again", lease))
            assert store.layers.path(diff_id).exists() and (await store.layers.get(diff_id)).size == 5


async def test_opening_deletes_what_a_crash_left(tmp_path: Path) -> None:
    store = await Store.open(tmp_path)
    kept = await layer(store, "kept")
    await image(store, layers=(kept,))
    hold = store.leases.hold()
    await hold.__aenter__()
    before = files_of(store)
    await store.close()
    (tmp_path / "layers" / f"{kept.hex}.erofs").write_bytes(b"an index of a known layer stays")
    (tmp_path / "layers/.x.tar.tmp").write_bytes(b"half")
    (tmp_path / "blobs/sha256" / ("0" * 64)).write_bytes(b"no row")
    (tmp_path / "layers" / ("0" * 64 + ".tar")).write_bytes(b"no row")
    (tmp_path / "layers" / ("0" * 64 + ".erofs")).write_bytes(b"no row")
    (tmp_path / "staging/stage-1").write_bytes(b"half")
    again = await Store.open(tmp_path)
    assert files_of(again) == before | {f"{kept.hex}.erofs"}
    assert await again.db.read(lambda c: c.execute("SELECT count(*) FROM leases").fetchone()[0]) == 0
    await again.close()


async def test_one_engine_at_a_time(store: Store) -> None:
    with pytest.raises(Conflict, match="another engine"):
        await Store.open(store.root)


async def test_related_images_have_the_same_bottom_layer_or_none(store: Store) -> None:
    one, two, three = [await layer(store, text) for text in ("one", "two", "three")]
    ids = [
        await store.images.create(ImageConfig(architecture="amd64", os="linux", author=f"{number}", rootfs=rootfs))
        for number, rootfs in enumerate(
            RootFS(diff_ids=[str(diff_id) for diff_id in stack])
            for stack in ([one], [one, two], [two, one], [], [three, two])
        )
    ]
    loaded = [await store.images.get(identifier) for identifier in ids]
    assert {image.id for image in await store.images.related(loaded[1])} == {ids[0], ids[1], ids[3]}
    assert {image.id for image in await store.images.related(loaded[2])} == {ids[2], ids[3]}
    assert {image.id for image in await store.images.related(loaded[3])} == set(ids)


async def test_ids_of_names(store: Store) -> None:
    image = await store.images.create(ImageConfig(architecture="amd64", os="linux"), tag=Reference.parse("a:1"))
    found = await store.images.ids(["a:1", "a", "BAD NAME", "", str(image), image.hex[:8], "docker.io/library/a:1"])
    assert found == {"a:1": {image}, str(image): {image}, image.hex[:8]: {image}, "docker.io/library/a:1": {image}}
