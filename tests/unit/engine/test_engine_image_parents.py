from __future__ import annotations

import random

from tare.engine.image_filters import select, select_for_prune
from tare.engine.image_parents import descendants, parents
from tare.model import Digest, Reference
from tare.oci.image import History, ImageConfig, RootFS
from tare.store.images import Image


def image(name: str, steps: str, layers: str, *, tag: str = "", created: float = 0.0, comment: str = "") -> Image:
    """An image whose history are the letters of ``steps``, the small ones with a layer; ``comment`` of the last."""
    history = [History(created_by=letter, empty_layer=letter.isupper()) for letter in steps]
    if comment:
        history[-1] = History(created_by=steps[-1], comment=comment, empty_layer=steps[-1].isupper())
    config = ImageConfig(
        architecture="amd64",
        os="linux",
        rootfs=RootFS(diff_ids=[str(Digest.of(letter.encode())) for letter in layers]),
        history=history,
    )
    tags = (Reference.parse(tag),) if tag else ()
    return Image(id=Digest.of(name.encode()), config=config, tags=tags, size=1, created=created)


BASE = image("base", "a", "a")
CHILD = image("child", "ab", "ab")
SETTING = image("setting", "abC", "ab")
OTHER = image("other", "ad", "ad", tag="other")
BUILT = image("built", "ae", "ae", comment="buildkit.dockerfile.v0")


def test_parents_are_what_a_step_was_added_to() -> None:
    assert parents([BASE, CHILD, SETTING, OTHER, BUILT]) == {
        CHILD.id: BASE.id,
        SETTING.id: CHILD.id,
        OTHER.id: BASE.id,
    }


def test_a_parent_must_be_here_and_fit_in_layers_and_history() -> None:
    assert parents([BASE, SETTING]) == {}
    assert parents([image("elsewhere", "a", "x"), CHILD]) == {}
    assert parents([image("more", "a", "ab"), CHILD]) == {}
    assert parents([image("nothing", "", ""), BASE]) == {}


def test_of_several_the_first_one_here_is_the_parent() -> None:
    late, early = image("late", "a", "a", created=2.0), image("early", "a", "a", created=1.0)
    assert parents([late, CHILD, early])[CHILD.id] == early.id


def test_descendants_of_any_tree() -> None:
    chosen = random.Random(7)
    nodes = [Digest.of(str(number).encode()) for number in range(60)]
    tree = {node: chosen.choice(nodes[:index]) for index, node in enumerate(nodes) if index}
    for start in nodes:
        found = descendants([start], tree)
        for node in nodes:
            above = node
            while above != start and above in tree:
                above = tree[above]
            assert (node in found) is (above == start)


def test_parents_without_a_name_are_neither_listed_nor_dangling() -> None:
    images = [CHILD, OTHER, BASE]
    inner = set(parents(images).values())
    assert [one.id for one, _ in select(images, {}, 0, parents=inner)] == [CHILD.id, OTHER.id]
    assert len(select(images, {}, 0, parents=inner, everything=True)) == 3
    for everything in (False, True):
        dangling = select(images, {"dangling": ["true"]}, 0, parents=inner, everything=everything)
        assert [one.id for one, _ in dangling] == [CHILD.id]
    assert select_for_prune(images, {}, 0, inner) == [CHILD]
    assert select_for_prune(images, {"dangling": ["false"]}, 0, inner) == [CHILD, OTHER]
