"""Layers put on each other: what is visible, what hides what, hard links, hostile layers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from layer_parts import Member, directory, file, hardlink, opaque, symlink, whiteout, write_layers

from tare.errors import DataCorrupt
from tare.inventory import tree
from tare.inventory.scan import Inventory, take_inventory
from tare.inventory.tree import Fate, lookup, walk


def inventory(place: Path, *layers: Sequence[Member]) -> Inventory:
    return take_inventory(write_layers(place, *layers), sha1=True)


def names(found: Inventory) -> list[str]:
    return [path for path, _ in walk(found.root)]


def fates(found: Inventory) -> dict[tuple[int, str], tuple[Fate, int, bool]]:
    return {(one.layer, one.path): (one.fate, one.hidden_by, one.same) for one in found.contents()}


def test_a_whiteout_hides_what_is_below_and_nothing_of_its_own_layer(tmp_path: Path) -> None:
    found = inventory(
        tmp_path,
        [directory("d"), file("d/a", "old"), file("d/b", "other"), file("e", "gone")],
        [whiteout("d"), directory("d"), file("d/a", "newer"), whiteout("e")],
    )
    assert names(found) == ["d", "d/a"]
    assert fates(found) == {
        (0, "d/a"): (Fate.REPLACED, 1, False),
        (0, "d/b"): (Fate.DELETED, 1, False),
        (0, "e"): (Fate.DELETED, 1, False),
        (1, "d/a"): (Fate.VISIBLE, -1, False),
    }


def test_a_whiteout_after_what_its_layer_adds_hides_only_what_is_below(tmp_path: Path) -> None:
    found = inventory(
        tmp_path,
        [directory("d"), file("d/a", "1"), file("f", "1")],
        [directory("d"), file("d/b", "2"), whiteout("d"), file("f", "2"), whiteout("f")],
    )
    assert names(found) == ["d", "d/b", "f"]
    assert fates(found)[0, "f"] == (Fate.REPLACED, 1, False)


def test_an_opaque_directory_hides_its_members_wherever_the_mark_stands(tmp_path: Path) -> None:
    for number, layer in enumerate(([opaque("d"), file("d/n", "2")], [file("d/n", "2"), opaque("d")])):
        place = tmp_path / str(number)
        place.mkdir()
        found = inventory(place, [directory("d"), file("d/o", "1"), file("x", "1")], layer)
        assert names(found) == ["d", "d/n", "x"]
    assert names(inventory(tmp_path, [file("a", "1")], [opaque(""), file("b", "2")])) == ["b"]


def test_what_takes_the_place_of_a_directory_deletes_it(tmp_path: Path) -> None:
    found = inventory(
        tmp_path,
        [directory("d"), file("d/a", "1"), file("f", "1"), symlink("l", "d")],
        [file("d", "2"), directory("f"), file("f/x", "2"), file("l/y", "2")],
    )
    assert names(found) == ["d", "f", "f/x", "l", "l/y"]  # a link of a layer below is not followed
    assert fates(found)[0, "d/a"][0] is Fate.DELETED
    assert fates(found)[0, "f"][0] is Fate.DELETED


def test_equal_content_under_new_metadata_is_seen(tmp_path: Path) -> None:
    found = inventory(tmp_path, [file("f", "same")], [file("f", "same", mode=0o600)], [file("f", "other")])
    assert fates(found) == {
        (0, "f"): (Fate.REPLACED, 1, True),
        (1, "f"): (Fate.REPLACED, 2, False),
        (2, "f"): (Fate.VISIBLE, -1, False),
    }


def test_bytes_are_visible_for_as_long_as_one_name_is(tmp_path: Path) -> None:
    layers = [[file("a", "bytes"), hardlink("b", "a"), hardlink("c", "b")], [whiteout("a")], [file("b", "new")]]
    found = inventory(tmp_path, *layers)
    assert fates(found)[0, "a"][0] is Fate.VISIBLE
    assert sum(one.size for one in found.contents()) == 8
    assert fates(inventory(tmp_path, *layers, [whiteout("c")]))[0, "a"] == (Fate.DELETED, 3, False)


def test_a_path_that_is_packed_twice_counts_twice_and_is_seen_once(tmp_path: Path) -> None:
    found = inventory(tmp_path, [file("f", "first"), file("f", "second"), hardlink("g", "f"), hardlink("g", "f")])
    assert [(one.size, one.fate, one.names) for one in found.contents()] == [
        (5, Fate.REPLACED, 0),
        (6, Fate.VISIBLE, 2),
    ]


def test_links_of_the_same_layer_are_followed(tmp_path: Path) -> None:
    found = inventory(
        tmp_path, [directory("usr"), directory("usr/lib"), symlink("lib", "usr/lib"), file("lib/libc.so", "elf")]
    )
    assert names(found) == ["lib", "usr", "usr/lib", "usr/lib/libc.so"]
    assert next(found.contents()).path == "usr/lib/libc.so"
    assert lookup(found.root, "lib/libc.so") is lookup(found.root, "/usr/../lib/./libc.so")
    assert lookup(found.root, "lib", follow=False) is not lookup(found.root, "lib")


def test_digests_are_those_of_the_content(tmp_path: Path) -> None:
    (content,) = inventory(tmp_path, [file("f", b"abc")]).contents()
    assert content.sha256.hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert content.sha1.hex() == "a9993e364706816aba3e25717850c26c9cd0d89d"
    assert content.text is None


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ([hardlink("b", "a")], "not in its layer"),
        ([directory("d"), hardlink("b", "d")], "a directory"),
        ([file("f", "1"), file("f/g", "2")], "no directory"),
        ([symlink("l", "nowhere"), file("l/g", "2")], "cannot be unpacked"),
        ([symlink("l", "l"), file("l/g", "2")], "symbolic links"),
        ([file(".wh...", "")], "invalid whiteout"),
    ],
)
def test_a_layer_that_cannot_be_unpacked_is_refused(tmp_path: Path, layer: list[Member], words: str) -> None:
    with pytest.raises(DataCorrupt, match=words):
        inventory(tmp_path, layer)


def test_deep_trees_are_no_trouble(tmp_path: Path) -> None:
    deep = "/".join("d" * 2000)
    found = inventory(tmp_path, [file(f"{deep}/f", "1")], [whiteout("d")], [file(f"{deep}/f", "22")])
    assert fates(found)[0, f"{deep}/f"][0] is Fate.DELETED
    assert sum(1 for _ in found.files()) == 1


def test_a_layer_that_makes_directories_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "_NAMES_LIMIT", 50)
    with pytest.raises(DataCorrupt, match="more than 50 files and directories") as caught:
        inventory(tmp_path, [file("/".join("d" * 60), "1")])
    assert caught.value.code == "inventory-too-large"
