"""Any damage at random: what a repair leaves is named again by the next check, and what was whole is whole."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stored_things import Things, copy_of, filled_store
from tare.model import Digest
from tare.store.fsck.findings import State

pytestmark = pytest.mark.root

TABLES = (
    "blobs", "layers", "snapshots", "snapshot_lowers", "images", "image_layers", "tags", "containers", "build_cache",
    "kept_steps", "kept_step_parts",
)  # fmt: skip
COLUMNS = (
    ("blobs", "size", "7"),
    ("layers", "size", "7"),
    ("images", "size", "7"),
    ("image_layers", "position", "position + 9"),
    ("tags", "image", "'sha256:00'"),
    ("build_cache", "diff_id", "'sha256:00'"),
    ("build_cache", "result", "'{'"),
    ("snapshots", "diff_id", "NULL"),
    ("snapshot_lowers", "lower", "97"),
    ("kept_step_parts", "object", "'sha256:00'"),
)

FILES = st.tuples(
    st.just("file"), st.integers(0, 999), st.sampled_from(["delete", "shorten", "flip", "grow", "directory", "add"])
)
ROWS = st.tuples(st.just("row"), st.integers(0, 999), st.sampled_from(TABLES))
VALUES = st.tuples(st.just("value"), st.integers(0, 999), st.sampled_from(COLUMNS))
DAMAGE = st.lists(st.one_of(FILES, ROWS, VALUES), min_size=1, max_size=4)


def stored_paths(root: Path) -> list[Path]:
    """Everything in the store that can be damaged, in the order of names."""
    found = []
    for name in ("blobs/sha256", "layers", "snapshots"):
        found += [path for path in (root / name).rglob("*") if not path.is_symlink()]
    return sorted(found)


def damage_file(root: Path, number: int, how: str) -> None:
    paths = stored_paths(root)
    path = paths[number % len(paths)]
    if how == "add":
        (path if path.is_dir() else path.parent).joinpath("added").write_bytes(b"x")
    elif path.is_dir():
        shutil.rmtree(path)
    elif not path.is_file() or how == "delete":
        path.unlink()
    elif how == "directory":
        path.unlink()
        path.mkdir()
    else:
        data = path.read_bytes()
        middle = len(data) // 2
        changed = {"shorten": data[:middle], "grow": data + b"x", "flip": data[:middle] + b"~" + data[middle + 1 :]}
        path.write_bytes(changed[how])


def damage(things: Things, steps: list[tuple[str, int, Any]]) -> None:
    for kind, number, what in steps:
        if kind == "file":
            damage_file(things.root, number, what)
            continue
        table, change = (
            (what, f"DELETE FROM {what}") if kind == "row" else (what[0], f"UPDATE {what[0]} SET {what[1]} = {what[2]}")
        )
        rows = things.query(f"SELECT rowid FROM {table}")
        if rows:
            things.corrupt(f"{change} WHERE rowid = {rows[number % len(rows)][0]}")


def whole(things: Things) -> Iterator[str]:
    """What is whole: files that are what they are called, names of images, what containers and steps have written."""
    root = things.root
    blobs = {path.name for path in (root / "blobs/sha256").iterdir() if is_called(path, path.name)}
    layers = {path.stem for path in (root / "layers").iterdir() if is_called(path, path.stem)}
    for name, image in things.images.items():
        row = things.query("SELECT 1 FROM images WHERE id = ?", str(image))
        needed = [str(one[0]) for one in things.query("SELECT diff_id FROM image_layers WHERE image = ?", str(image))]
        if row and image.hex in blobs:
            yield f"configuration of {name}"
            if needed:
                yield from (f"layer {diff_id} of {name}" for diff_id in needed if diff_id[7:] in layers)
            named = things.query("SELECT reference FROM tags WHERE image = ?", str(image))
            yield from (f"name {one[0]}" for one in named)
    for key in (things.web, "kept", "loose", "left"):
        found = things.query("SELECT id FROM snapshots WHERE key = ?", key)
        users = {
            things.web: "SELECT 1 FROM containers",
            "kept": "SELECT 1 FROM kept_steps WHERE snapshot = ?",
        }.get(key)
        if found and users and things.query(users, *(found[0] if "?" in users else ())):
            upper = root / "snapshots" / str(found[0][0]) / "upper"
            if upper.is_dir():
                yield from (f"{key} has {path.name}" for path in upper.iterdir())


def is_called(path: Path, digits: str) -> bool:
    return path.is_file() and not path.is_symlink() and Digest.of(path.read_bytes()).hex == digits


def what_is_left(problems: list[Any]) -> set[tuple[str, str]]:
    """A damaged file is a missing one once it is set aside."""
    return {(one.code.replace("damaged", "missing"), one.object) for one in problems if one.state is State.LEFT}


async def run(template: Things, steps: list[tuple[str, int, Any]]) -> None:
    async with copy_of(template) as things:
        damage(things, steps)
        before = set(whole(things))
        seen, _ = await things.check(deep=True)
        assert set(whole(things)) == before, "a check changes nothing"
        first, _ = await things.check(repair=True, deep=True)
        assert before <= set(whole(things)), before - set(whole(things))
        assert bool(seen) == bool(first)
        second, report = await things.check(repair=True, deep=True)
        assert [one for one in second if one.state is not State.LEFT] == []
        assert what_is_left(second) == what_is_left(first)
        assert all(one.fix for one in second)
        third, _ = await things.check(deep=True)
        assert {(one.code, one.object) for one in third} == {(one.code, one.object) for one in second}
        assert report.is_clean == (not second)


@pytest.fixture(scope="module")
def template() -> Iterator[Things]:
    with filled_store() as filled:
        yield filled


@settings(max_examples=int(os.environ.get("TARE_FSCK_EXAMPLES", "20")), deadline=None)
@given(DAMAGE)
@example([("file", 863, "delete"), ("row", 294, "layers")])  # a layer's row that comes back is looked at as well
def test_nothing_whole_is_lost_and_nothing_lost_is_silent(template: Things, steps: list[tuple[str, int, Any]]) -> None:
    asyncio.run(run(template, steps))
