"""The check of a store: one test for each kind of damage, and any damage at random."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from stored_things import Things, copy_of, filled_store
from tare.store.fsck.findings import State

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def template() -> Iterator[Things]:
    with filled_store() as filled:
        yield filled


@pytest.fixture
async def things(template: Things) -> AsyncIterator[Things]:
    async with copy_of(template) as opened:
        yield opened


async def test_nothing_is_wrong_with_a_store_that_is_whole(things: Things) -> None:
    for repair in (False, True):
        for deep in (False, True):
            found, report = await things.check(repair=repair, deep=deep)
            assert found == [] and report.is_clean
    assert report.checked == {
        "databases": 1, "blobs": 3, "layers": 5, "snapshots": 9, "images": 3, "tags": 3, "containers": 1,
        "build cache records": 3,
    }  # fmt: skip
    stored = things.query("SELECT (SELECT sum(size) FROM blobs) + (SELECT sum(size) FROM layers)")
    assert report.bytes == stored[0][0]


NOTHING = f"sha256:{'0' * 64}"

Damage = Callable[[Things], object]


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:512])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def rewrite(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    os.utime(path, (1000, 1000))


HEALED: list[tuple[str, Damage, list[str]]] = [
    ("a flipped bit in a layer that is unpacked", lambda t: flip(t.tar("base")), ["layer-damaged"]),
    ("a layer cut short", lambda t: shorten(t.tar("top")), ["layer-damaged"]),
    ("a layer without a file", lambda t: t.tar("base").unlink(), ["layer-missing"]),
    ("a directory in place of a layer", lambda t: (t.tar("base").unlink(), t.tar("base").mkdir()), ["layer-damaged"]),
    (
        "a link in place of a layer",
        lambda t: (t.tar("base").unlink(), t.tar("base").symlink_to("x")),
        ["layer-damaged"],
    ),
    (
        "a layer that a step left, its directory gone, too",
        lambda t: (t.tar("step").unlink(), shutil.rmtree(t.directory("step"))),
        ["snapshot-missing", "layer-missing"],
    ),
    ("an unpacked layer without its directory", lambda t: shutil.rmtree(t.directory("top")), ["snapshot-missing"]),
    (
        "an unpacked layer of other size",
        lambda t: (t.directory("foreign") / "fs/z").write_bytes(b"x"),
        ["snapshot-damaged"],
    ),
    (
        "an unpacked layer that lacks a file",
        lambda t: (t.directory("base") / "fs/bin/sh").unlink(),
        ["snapshot-damaged"],
    ),
    ("an unpacked layer with one too many", lambda t: (t.directory("base") / "fs/new").touch(), ["snapshot-damaged"]),
    ("a whiteout that is gone", lambda t: (t.directory("top") / "fs/etc/old").unlink(), ["snapshot-damaged"]),
    ("what a step left, which is a layer, too", lambda t: shutil.rmtree(t.directory("left")), ["snapshot-missing"]),
    ("what a step left, and only the cache has", lambda t: shutil.rmtree(t.directory("loose")), ["snapshot-missing"]),
    (
        "a layer that only the cache has, with its directory",
        lambda t: (flip(t.tar("cached")), shutil.rmtree(t.directory("cached"))),
        ["layer-damaged", "snapshot-missing"],
    ),
    ("a work directory that is gone", lambda t: (t.directory(t.web) / "work").rmdir(), ["snapshot-work"]),
    ("the empty directory that is gone", lambda t: (t.root / "snapshots/empty").rmdir(), ["directory-missing"]),
    ("a blob without a row", lambda t: (t.root / "blobs/sha256" / ("0" * 64)).touch(), ["blob-unknown"]),
    ("a layer without a row", lambda t: (t.root / "layers" / ("0" * 64 + ".tar")).touch(), ["layer-unknown"]),
    ("a half-made file", lambda t: (t.root / "layers/.x.tar.tmp").write_bytes(b"half"), ["file-unknown"]),
    ("a directory among the blobs", lambda t: (t.root / "blobs/sha256/x/y").mkdir(parents=True), ["file-unknown"]),
    ("a snapshot without a row", lambda t: (t.root / "snapshots/99/upper").mkdir(parents=True), ["directory-unknown"]),
    ("a half-made snapshot", lambda t: (t.root / "snapshots/stage-1").mkdir(), ["directory-unknown"]),
    (
        "another size of a blob in the database",
        lambda t: t.corrupt("UPDATE blobs SET size = size + 1"),
        ["blob-size"] * 3,
    ),
    (
        "another size of a layer in the database",
        lambda t: t.corrupt(f"UPDATE layers SET size = 1 WHERE diff_id = '{t.layers['top']}'"),
        ["layer-size"],
    ),
    ("another size of an image in the database", lambda t: t.corrupt("UPDATE images SET size = 1"), ["image-size"] * 3),
    (
        "a blob's row that is gone",
        lambda t: t.corrupt(f"DELETE FROM blobs WHERE digest = '{t.images['app:1']}'"),
        ["blob-row-missing"],
    ),
    (
        "a layer's row that is gone",
        lambda t: t.corrupt(f"DELETE FROM layers WHERE diff_id = '{t.layers['foreign']}'"),
        ["layer-row-missing"],
    ),
    (
        "a layer's row and file that are gone, which was unpacked",
        lambda t: (t.corrupt(f"DELETE FROM layers WHERE diff_id = '{t.layers['top']}'"), t.tar("top").unlink()),
        ["row-dangling"],
    ),
    (
        "an image's row that is gone",
        lambda t: t.corrupt(f"DELETE FROM images WHERE id = '{t.images['app:1']}'"),
        ["image-row-missing"],
    ),
    (
        "an image's layers that are gone",
        lambda t: t.corrupt(f"DELETE FROM image_layers WHERE image = '{t.images['loaded:1']}'"),
        ["image-layers"],
    ),
    (
        "an image's layers in another order",
        lambda t: t.corrupt(
            f"UPDATE image_layers SET position = 7 WHERE position = 0 AND image = '{t.images['app:1']}'"
        ),
        ["image-layers"],
    ),
    (
        "a name of nothing",
        lambda t: t.corrupt(f"INSERT INTO tags VALUES ('docker.io/library/x:1', '{NOTHING}', 0)"),
        ["row-dangling"],
    ),
    (
        "a name that is none",
        lambda t: t.corrupt(f"INSERT INTO tags VALUES ('NO:1', '{t.images['app:1']}', 0)"),
        ["tag-invalid"],
    ),
    (
        "what a container stands on",
        lambda t: t.corrupt(f"DELETE FROM snapshot_lowers WHERE snapshot = {t.number(t.web)}"),
        ["container-layers"],
    ),
    (
        "a layer below a container whose snapshot is gone",
        lambda t: (
            shutil.rmtree(t.directory("top")),
            t.corrupt(f"DELETE FROM snapshots WHERE id = {t.number(str(t.layers['top']))}"),
        ),
        ["container-layers"],
    ),
    (
        "a record of the cache that leads to nothing",
        lambda t: t.corrupt("UPDATE build_cache SET snapshot = 98 WHERE key = 'loose'"),
        ["row-dangling"],
    ),
    (
        "a record of the cache that cannot be read",
        lambda t: t.corrupt("UPDATE build_cache SET result = '{' WHERE key = 'loose'"),
        ["build-cache-record"],
    ),
    (
        "a record of the cache that leads elsewhere",
        lambda t: t.corrupt(
            "UPDATE build_cache SET snapshot = (SELECT id FROM snapshots WHERE key = 'left') WHERE key = 'loose'"
        ),
        ["build-cache-record"],
    ),
    (
        "a failed step without its files' row",
        lambda t: t.corrupt("UPDATE kept_steps SET snapshot = 98"),
        ["row-dangling"],
    ),
    (
        "a failed step's mount that shows nothing",
        lambda t: t.corrupt("UPDATE kept_step_parts SET object = 'sha256:00'"),
        ["kept-step-part"],
    ),
    (
        "a lease that has ended",
        lambda t: t.corrupt("INSERT INTO lease_references VALUES ('gone', 'layer', 'x')"),
        ["row-dangling"],
    ),
    ("an origin of no image", lambda t: t.corrupt("INSERT INTO image_origins VALUES ('gone', '{}')"), ["row-dangling"]),
]


@pytest.mark.parametrize(("damage", "codes"), [one[1:] for one in HEALED], ids=[one[0] for one in HEALED])
async def test_healed(things: Things, damage: Damage, codes: list[str]) -> None:
    before = whole(things)
    damage(things)
    found, report = await things.check()
    assert sorted(one.code for one in found) == sorted(codes)
    assert report.found == len(codes) and not report.is_clean
    assert all(one.repair and one.state is State.FOUND for one in found), found
    found, report = await things.check(repair=True)
    assert {one.code for one in found} >= set(codes)
    assert report.left == report.found == 0 and report.is_clean and report.repaired >= len(codes), found
    assert (await things.check(deep=True))[0] == []
    assert {name: state for name, state in whole(things).items() if name in before} == before
    assert not list((things.root / "layers").glob("*.damaged"))


def whole(things: Things) -> dict[str, object]:
    """What every repair must have kept: images, their layers, the container."""
    found: dict[str, object] = {f"image {row[0]}": row[1:] for row in things.query("SELECT id, size FROM images")}
    query = "SELECT diff_id FROM image_layers WHERE image = ? ORDER BY position"
    found |= {f"layers of {name}": things.query(query, str(image)) for name, image in things.images.items()}
    found |= {f"name {row[0]}": row[1:] for row in things.query("SELECT reference, image FROM tags")}
    found["container"] = things.query("SELECT id, name, image FROM containers")
    return found


LEFT: list[tuple[str, Damage, str, list[str], str]] = [
    (
        "a configuration",
        lambda t: flip(t.config("app:1")),
        "blob-damaged",
        ["image app:1", "container web"],
        "pull, load or import app:1 again",
    ),
    (
        "a configuration that is gone",
        lambda t: t.config("loaded:1").unlink(),
        "blob-missing",
        ["image loaded:1"],
        "pull, load or import loaded:1 again",
    ),
    (
        "a layer that no directory gives again",
        lambda t: flip(t.tar("foreign")),
        "layer-damaged",
        ["image loaded:1"],
        "pull, load or import loaded:1 again",
    ),
    (
        "a layer that was built",
        lambda t: (flip(t.tar("step")), [shutil.rmtree(t.directory(one)) for one in ("step", "left")]),
        "layer-damaged",
        ["image built:1"],
        "build built:1 again (Dockerfile:3 makes the layer)",
    ),
    (
        "a layer without row and file",
        lambda t: (t.corrupt(f"DELETE FROM layers WHERE diff_id = '{t.layers['foreign']}'"), t.tar("foreign").unlink()),
        "layer-missing",
        ["image loaded:1"],
        "pull, load or import loaded:1 again",
    ),
    (
        "what a container has written",
        lambda t: shutil.rmtree(t.directory(t.web)),
        "snapshot-missing",
        ["container web"],
        "remove the container and make it again: what it had written is lost",
    ),
    (
        "the row of what a container has written",
        lambda t: t.corrupt(f"DELETE FROM snapshots WHERE key = '{t.web}'"),
        "container-snapshot",
        [],
        "remove the container and make it again",
    ),
    (
        "a container's document",
        lambda t: t.corrupt("UPDATE containers SET document = '{'"),
        "container-document",
        [],
        "restore the database from a backup",
    ),
    (
        "a failed step",
        lambda t: shutil.rmtree(t.directory("kept")),
        "snapshot-missing",
        ["kept step step:ffffffff"],
        "build again: the step's files are lost",
    ),
    (
        "an image that a container has",
        lambda t: t.corrupt(f"UPDATE containers SET image = '{NOTHING}'"),
        "row-dangling",
        [],
        "pull, load, import or build the image sha256:000000000000 again, or remove the container web",
    ),
]


@pytest.mark.parametrize(("damage", "code", "users", "fix"), [one[1:] for one in LEFT], ids=[one[0] for one in LEFT])
async def test_left_with_who_needs_it_and_what_to_do(
    things: Things, damage: Damage, code: str, users: list[str], fix: str
) -> None:
    damage(things)
    await things.check(repair=True)
    for repair in (False, True, True):
        found, report = await things.check(repair=repair)
        (one,) = (item for item in found if item.code.partition("-")[0] == code.partition("-")[0] and item.fix)
        assert (one.code, one.used_by, one.fix) == (code.replace("damaged", "missing"), users, fix)
        assert not report.is_clean
        if repair:
            assert one.state is State.LEFT and report.left
