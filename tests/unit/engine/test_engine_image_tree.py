"""The forest of images on the layers that they share."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tare.cli.image_tree import tree_lines
from tare.engine.image_tree import ImageTree, plant
from tare.model import Digest, Reference
from tare.oci.image import History, ImageConfig, RootFS
from tare.store.images import Image

SIZES = {f"sha256:{digit * 64}": 10 ** int(digit) for digit in "012345"}
STACKS = st.lists(st.lists(st.sampled_from("012345"), max_size=6).map("".join), max_size=8)


def image(name: str, layers: str, *, steps: bool = True) -> Image:
    """An image of the layers whose digits are given, of 1, 10, 100 … bytes."""
    diff_ids = [f"sha256:{digit * 64}" for digit in layers]
    config = ImageConfig(
        architecture="amd64",
        os="linux",
        author=name,
        rootfs=RootFS(diff_ids=diff_ids),
        history=[History(created_by=f"RUN {digit}") for digit in layers] if steps else [],
    )
    return Image(
        id=Digest.of(name.encode()),
        config=config,
        tags=(Reference.parse(name),),
        size=sum(SIZES[one] for one in diff_ids),
        created=0.0,
    )


def forest(*images: Image) -> ImageTree:
    return plant(images, SIZES)


def drawn(tree: ImageTree, *, with_layers: bool = False) -> list[str]:
    return tree_lines(msgspec.to_builtins(tree), with_layers=with_layers)


def test_images_stand_on_the_layers_that_they_share() -> None:
    tree = forest(image("base:1", "12"), image("app:1", "123"), image("tool:1", "1245"), image("other:1", "5"))
    assert [(one.parent, len(one.layers), one.size) for one in tree.branches] == [
        (None, 2, 110),
        (None, 1, 100_000),
        (0, 1, 1000),
        (0, 2, 110_000),
    ]
    assert [one.branch for one in tree.images] == [0, 2, 3, 1]
    assert [(one.shared, one.own) for one in tree.images] == [(110, 0), (110, 1000), (100_110, 10_000), (100_000, 0)]
    assert (tree.stored, tree.shared, tree.size) == (111_110, 100_110, 110 + 1110 + 110_110 + 100_000)
    assert drawn(tree) == [
        "110B in 2 layers  base:1",
        "├─ 1kB in 1 layer  app:1",
        "└─ 110kB in 2 layers  tool:1",
        "100kB in 1 layer  other:1",
        "",
        f"IMAGE     {'IMAGE ID':<15}SIZE     SHARED   OWN",
        *(
            f"{name:<10}{Digest.of(name.encode()).hex[:12]}   {size:<9}{shared:<9}{own}"
            for name, size, shared, own in (
                ("base:1", "110B", "110B", "0B"),
                ("app:1", "1.11kB", "110B", "1kB"),
                ("tool:1", "110kB", "100kB", "10kB"),
                ("other:1", "100kB", "100kB", "0B"),
            )
        ),
        "",
        "4 images of 211kB in 111kB of layers, 100kB of them shared",
    ]


def test_the_layers_are_shown_with_their_instructions() -> None:
    tree = forest(image("base:1", "1"), image("app:1", "15"), image("other:1", "5", steps=False))
    lines = drawn(tree, with_layers=True)
    assert lines[:4] == [
        "10B in 1 layer  base:1",
        "│     10B  111111111111  RUN 1",
        "└─ 100kB in 1 layer  app:1",
        "       100kB  555555555555  RUN 5  (also in 1 image on other layers)",
    ]
    assert lines[5] == "    100kB  555555555555    (also in 1 image on other layers)"


def test_one_layer_twice_in_an_image_is_stored_once() -> None:
    tree = forest(image("twice:1", "11"))
    assert (tree.size, tree.stored, tree.images[0].own) == (20, 10, 10)


def test_two_configurations_of_the_same_layers_end_on_one_branch() -> None:
    tree = forest(image("one:1", "12"), image("two:1", "12"))
    assert len(tree.branches) == 1
    assert drawn(tree)[0] == "110B in 2 layers  one:1, two:1"
    assert tree.images[0].own == 0


@pytest.mark.parametrize("count", [0, 1])
def test_without_layers_there_is_no_branch(count: int) -> None:
    tree = forest(*[image("empty:1", "")] * count)
    assert tree.branches == []
    assert any("no layers  empty:1" in line for line in drawn(tree)) is bool(count)
    assert drawn(tree)[-1] == f"{count} image{'' if count else 's'} of 0B in 0B of layers, 0B of them shared"


def test_thousands_of_images_on_each_other_are_drawn() -> None:
    stack = "12345" * 400
    tree = forest(*(image(f"deep:{depth}", stack[:depth]) for depth in range(1, 1500)))
    assert len(tree.branches) == 1499
    assert len(drawn(tree)) > 1499


@given(STACKS)
def test_every_image_is_found_again_by_going_down_from_its_branch(stacks: Sequence[str]) -> None:
    images = [image(f"image:{number}", stack) for number, stack in enumerate(stacks)]
    tree = forest(*images)
    for row, planted in zip(tree.images, images, strict=True):
        found: list[str] = []
        number = row.branch
        while number is not None:
            branch = tree.branches[number]
            assert branch.parent is None or branch.parent < number
            found = [layer.diff_id for layer in branch.layers] + found
            number = branch.parent
        assert found == planted.config.rootfs.diff_ids
        assert row.own + row.shared == sum(SIZES[one] for one in set(found))
    assert sum(len(branch.ends) for branch in tree.branches) == sum(bool(stack) for stack in stacks)
    assert tree.stored == tree.shared + sum(row.own for row in tree.images)
