"""Which image was committed from which, as far as both are here. Pure.

Nothing is written down for it: a parent's layers and history are the beginning of its child's, and the child has one
step more. That is also what Docker asks of a parent before it believes an archive. Images of a Dockerfile have no
parent, whatever they stand on, as with BuildKit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tare.build.phrasing import COMMENT as BUILD_COMMENT
from tare.model import Digest
from tare.oci.image import History
from tare.store.images import Image

_Key = tuple[tuple[History, ...], tuple[str, ...]]


def parents(images: Sequence[Image]) -> dict[Digest, Digest]:
    """The parents of the images that have one, by the images' IDs; of several that could be it, the first one here."""
    known: dict[_Key, Digest] = {}
    for image in sorted(images, key=lambda one: (one.created, str(one.id))):
        if image.config.history:
            known.setdefault((tuple(image.config.history), tuple(image.config.rootfs.diff_ids)), image.id)
    found = {}
    for image in images:
        history, layers = image.config.history, image.config.rootfs.diff_ids
        if not history or history[-1].comment == BUILD_COMMENT:
            continue
        below = layers if history[-1].empty_layer else layers[:-1]
        parent = known.get((tuple(history[:-1]), tuple(below)))
        if parent is not None:
            found[image.id] = parent
    return found


def descendants(ancestors: Iterable[Digest], parents_of: Mapping[Digest, Digest]) -> set[Digest]:
    """``ancestors`` and all images that come from them."""
    children: dict[Digest, list[Digest]] = {}
    for child, parent in parents_of.items():
        children.setdefault(parent, []).append(child)
    found = set(ancestors)
    grey = list(found)
    while grey:
        for child in children.get(grey.pop(), ()):
            if child not in found:
                found.add(child)
                grey.append(child)
    return found


class Family:
    """Who comes from whom among some images, while one after the other is removed."""

    def __init__(self, images: Sequence[Image]) -> None:
        self._parents = parents(images)

    def parent(self, image: Digest) -> Digest | None:
        """What the image was committed from."""
        return self._parents.get(image)

    @property
    def parents(self) -> set[Digest]:
        """The images from which others were committed."""
        return set(self._parents.values())

    def forget(self, image: Digest) -> None:
        """The image is gone."""
        self._parents.pop(image, None)
