"""What the store does about damage that it meets on its way."""

from __future__ import annotations

import io
import shutil
import sqlite3
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tare.errors import DataCorrupt, NotFound
from tare.model import Digest
from tare.oci.image import ImageConfig, RootFS
from tare.store import gc
from tare.store.store import Store

pytestmark = pytest.mark.root


def tar_of(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path / "data")
    yield opened
    await opened.close()


async def keep(store: Store, data: bytes) -> Digest:
    """A layer that an image has."""
    layer = await store.layers.import_stream(io.BytesIO(data), None)
    config = ImageConfig(architecture="amd64", os="linux", rootfs=RootFS(diff_ids=[str(layer.diff_id)]))
    await store.images.create(config)
    return layer.diff_id


async def test_an_unpacked_layer_whose_directory_is_gone_is_unpacked_again(store: Store) -> None:
    diff_id = await keep(store, tar_of(a=b"1"))
    await store.snapshots.ensure_layer(diff_id)
    (directory,) = (path for path in (store.root / "snapshots").iterdir() if path.name.isdigit())
    shutil.rmtree(directory)
    await store.snapshots.ensure_layer(diff_id)
    assert (directory / "fs/a").read_bytes() == b"1"
    assert [path.name for path in (store.root / "snapshots").iterdir() if path.name.startswith("stage-")] == []


async def test_a_layer_whose_file_is_cut_short_is_not_unpacked(store: Store) -> None:
    data = tar_of(a=b"1", b=b"2")
    diff_id = await keep(store, data)
    assert await store.layers.is_whole(diff_id)
    store.layers.path(diff_id).write_bytes(data[:1024])  # ends where a member does: no reader of tars would notice
    assert not await store.layers.is_whole(diff_id)
    async with store.leases.hold() as lease:
        assert await store.layers.hold(diff_id, lease) and not await store.layers.hold_whole(diff_id, lease)
    with pytest.raises(DataCorrupt, match=rf"1024 bytes, expected {len(data)} \(`tare fsck --repair`") as caught:
        await store.snapshots.ensure_layer(diff_id)
    assert caught.value.code == "layer-damaged"
    store.layers.path(diff_id).unlink()
    with pytest.raises(NotFound, match="its file is gone") as missing:
        await store.snapshots.ensure_layer(diff_id)
    assert missing.value.code == "layer-missing"
    await keep(store, data)
    assert await store.layers.is_whole(diff_id)
    async with store.leases.hold() as lease:
        assert await store.layers.hold_whole(diff_id, lease)
    await store.snapshots.ensure_layer(diff_id)


async def test_a_damaged_configuration_hides_no_other_image(store: Store) -> None:
    await keep(store, tar_of(a=b"1"))
    await keep(store, tar_of(b=b"2"))
    first, second = await store.images.list()
    assert await store.is_whole(first.id) and await store.is_whole(second.id)
    store.content.path(first.id).write_bytes(b"rot")
    assert [one.id for one in await store.images.list()] == [second.id]
    assert not await store.is_whole(first.id)
    with pytest.raises(DataCorrupt, match="does not match its name"):
        await store.images.get(first.id)
    found = await store.images.resolve(first.id.hex, damaged=True)
    assert (found.id, found.size, found.diff_ids) == (first.id, first.size, ())
    store.content.path(first.id).unlink()
    assert [one.id for one in await store.images.list()] == [second.id]
    store.layers.path(second.diff_ids[0]).unlink()
    assert not await store.is_whole(second.id) and not await store.is_whole(Digest.of(b"none"))


async def test_what_a_step_has_left_is_written_again_when_its_layer_is_gone(store: Store) -> None:
    await store.snapshots.prepare("step", ())
    (await store.snapshots.upper_path("step") / "made").write_bytes(b"by a RUN")
    lower = await store.snapshots.commit("step")
    diff_id = await store.snapshots.write_layer(lower)
    tar = store.layers.path(diff_id)
    written, when = tar.read_bytes(), tar.stat().st_mtime_ns
    assert await store.snapshots.write_layer(lower) == diff_id and tar.stat().st_mtime_ns == when
    tar.unlink()
    assert await store.snapshots.write_layer(lower) == diff_id
    assert tar.read_bytes() == written


async def test_a_store_whose_database_is_damaged_deletes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "data"
    opened = await Store.open(root)
    layer = await keep(opened, tar_of(file=b"x"))
    async with opened.leases.hold() as lease:
        await opened.images.create(ImageConfig(architecture="amd64", os="linux", rootfs=RootFS(diff_ids=[str(layer)])))
        await opened.leases.add(lease, "layer", str(layer))
    path = opened.layers.path(layer)
    await opened.close()

    with sqlite3.connect(root / "tare.db") as connection:
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'sqlite_autoindex_layers_1'"
        ).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    with (root / "tare.db").open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\x0a\x00\x00\x00\x00\x00\x00\x00")  # a leaf without cells: the index has lost its rows
    again = await Store.open(root)
    await again.close()
    assert path.exists()


async def test_rows_that_name_nothing_do_not_keep_the_store_from_collecting(store: Store) -> None:
    diff_id = await keep(store, tar_of(a=b"1"))
    await store.snapshots.ensure_layer(diff_id)
    damage = sqlite3.connect(store.db.path)
    damage.execute("DELETE FROM layers")
    damage.execute("DELETE FROM blobs")
    damage.execute("INSERT INTO snapshot_lowers VALUES (99, 0, 98)")
    damage.commit()
    damage.close()
    nodes, references = await store.db.read(gc.graph)
    assert {node.kind for node in nodes} == {"image", "snapshot"} and not any(references.values())
    await store.collect()
