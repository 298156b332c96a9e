"""Which images share which layers: a forest of layers as they lie on each other, each stored once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from tare.inventory.paths import printable
from tare.inventory.weight import layer_origins
from tare.store.images import Image


class TreeLayer(msgspec.Struct, kw_only=True):
    """A layer: ``size`` in bytes of its tar, ``images`` counts the images that have it, wherever it lies in them."""

    diff_id: str
    size: int
    instruction: str = ""
    images: int = 0


class Branch(msgspec.Struct, kw_only=True):
    """Layers on each other that the same images have: ``parent`` is the number of the branch below, None at the bottom.

    ``size`` in bytes of the layers, ``images`` counts the images that stand on it, ``ends`` are the identifiers of
    those among them whose last layer is its last.
    """

    parent: int | None
    size: int = 0
    layers: list[TreeLayer] = []
    ends: list[str] = []
    images: int = 0


class TreeImage(msgspec.Struct, kw_only=True):
    """An image: ``size`` in bytes of its layers, each of them in ``shared`` (others have it, too) or in ``own``.

    A layer that an image has twice counts twice in ``size`` and once in the others. ``branch`` is where its last layer
    is, None for an image without layers.
    """

    id: str
    tags: list[str] = []
    size: int = 0
    shared: int = 0
    own: int = 0
    layers: int = 0
    branch: int | None = None


class ImageTree(msgspec.Struct, kw_only=True):
    """All images, newest first, and the branches, each after the one below it.

    Bytes of layers: ``size`` counts each in every image that has it, ``stored`` once; ``shared`` are those of
    ``stored`` that several images have.
    """

    size: int = 0
    stored: int = 0
    shared: int = 0
    images: list[TreeImage] = []
    branches: list[Branch] = []


def plant(images: Sequence[Image], sizes: Mapping[str, int]) -> ImageTree:
    """The tree of ``images``; ``sizes`` are the bytes of their layers' tars by diffID."""
    owners = Counter(diff_id for image in images for diff_id in set(image.config.rootfs.diff_ids))
    tree = ImageTree(
        size=sum(image.size for image in images),
        stored=sum(sizes[diff_id] for diff_id in owners),
        shared=sum(sizes[diff_id] for diff_id, count in owners.items() if count > 1),
    )
    by_id = {}
    for image in images:
        layers = set(image.config.rootfs.diff_ids)
        own = sum(sizes[diff_id] for diff_id in layers if owners[diff_id] == 1)
        row = TreeImage(
            id=str(image.id),
            tags=sorted(tag.familiar() for tag in image.tags),
            size=image.size,
            shared=sum(sizes[diff_id] for diff_id in layers) - own,
            own=own,
            layers=len(image.config.rootfs.diff_ids),
        )
        tree.images.append(row)
        by_id[row.id] = row
    _grow(tree, images, sizes, owners)
    for number, branch in enumerate(tree.branches):
        for identifier in branch.ends:
            by_id[identifier].branch = number
    return tree


def shared_sizes(images: Sequence[Image], sizes: Mapping[str, int]) -> dict[str, int]:
    """For each image the bytes of its layers that other images have as well; ``sizes`` as for :func:`plant`."""
    owners = Counter(diff_id for image in images for diff_id in set(image.config.rootfs.diff_ids))
    return {
        str(image.id): sum(sizes.get(diff_id, 0) for diff_id in image.config.rootfs.diff_ids if owners[diff_id] > 1)
        for image in images
    }


def _grow(tree: ImageTree, images: Sequence[Image], sizes: Mapping[str, int], owners: Mapping[str, int]) -> None:
    """Add the branches: images are told apart layer by layer, from the bottom, without recursion."""
    pending: list[tuple[int | None, int, list[Image]]] = [(None, 0, list(images))]
    while pending:
        parent, depth, group = pending.pop()
        heaps: dict[str, list[Image]] = {}
        for image in group:
            if len(image.config.rootfs.diff_ids) > depth:
                heaps.setdefault(image.config.rootfs.diff_ids[depth], []).append(image)
        fresh = []
        for heap in heaps.values():
            branch, top = _branch(parent, depth, heap, sizes, owners)
            tree.branches.append(branch)
            fresh.append((len(tree.branches) - 1, top, heap))
        pending.extend(reversed(fresh))


def _branch(
    parent: int | None, depth: int, heap: list[Image], sizes: Mapping[str, int], owners: Mapping[str, int]
) -> tuple[Branch, int]:
    """The layers from ``depth`` on that all of ``heap`` have, up to where one ends or differs, and the depth there."""
    stacks = [image.config.rootfs.diff_ids for image in heap]
    top = depth + 1
    while all(len(stack) > top and stack[top] == stacks[0][top] for stack in stacks):
        top += 1
    steps = _instructions(heap[0])
    layers = [
        TreeLayer(diff_id=diff_id, size=sizes[diff_id], instruction=steps[number], images=owners[diff_id])
        for number, diff_id in enumerate(stacks[0][depth:top], depth)
    ]
    branch = Branch(
        parent=parent,
        size=sum(layer.size for layer in layers),
        layers=layers,
        ends=[str(image.id) for image in heap if len(image.config.rootfs.diff_ids) == top],
        images=len(heap),
    )
    return branch, top


def _instructions(image: Image) -> list[str]:
    texts = [one.created_by or one.comment for one in image.config.history if not one.empty_layer]
    return [printable(one.text) for one in layer_origins(len(image.config.rootfs.diff_ids), texts, None)]
