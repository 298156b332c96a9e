"""What differs between two images of the store."""

from __future__ import annotations

import asyncio

import msgspec

from tare.base.single_flight import SingleFlight
from tare.inventory.difference import Difference, compare, compare_configurations
from tare.inventory.scan import take_inventory
from tare.store.images import Image
from tare.store.store import Store


class Side(msgspec.Struct, kw_only=True):
    """One of the two: ``size`` in bytes of its layers, ``only`` those of layers that the other has not."""

    id: str
    tags: list[str]
    size: int
    layers: int
    only: int


class ImageDifference(msgspec.Struct, kw_only=True):
    """Two images beside each other; ``shared_layers`` are diffIDs, ``shared`` the bytes of these layers."""

    before: Side
    after: Side
    shared: int
    shared_layers: list[str]
    difference: Difference


class ImageDifferences:
    """Compares images, of which nothing is unpacked."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._running: SingleFlight[bytes] = SingleFlight()

    async def compare(self, before: Image, after: Image) -> bytes:
        """What is different in ``after``: the JSON of an :class:`ImageDifference`, which may have a million rows.

        Raises DataCorrupt for layers that cannot be unpacked either.
        """
        return await self._running.do(f"{before.id} {after.id}", lambda: self._compare(before, after))

    async def _compare(self, before: Image, after: Image) -> bytes:
        pair = (before, after)
        sizes: dict[str, int] = {}
        paths = [[self._store.layers.path(diff_id) for diff_id in image.diff_ids] for image in pair]

        def work() -> bytes:
            same = before.diff_ids == after.diff_ids
            old = take_inventory(paths[0])
            found = compare(old, old if same else take_inventory(paths[1]))
            found.configuration = compare_configurations(before.config, after.config)
            others = set(after.config.rootfs.diff_ids)
            shared = [one for one in dict.fromkeys(before.config.rootfs.diff_ids) if one in others]
            document = ImageDifference(
                before=_side(before, sizes, shared),
                after=_side(after, sizes, shared),
                shared=sum(sizes[diff_id] for diff_id in shared),
                shared_layers=shared,
                difference=found,
            )
            return msgspec.json.encode(document)

        async with self._store.leases.hold() as lease:
            for image in pair:
                await self._store.leases.add(lease, "image", str(image.id))
            layers = {diff_id: await self._store.layers.get(diff_id) for image in pair for diff_id in image.diff_ids}
            sizes |= {str(diff_id): layer.size for diff_id, layer in layers.items()}
            return await asyncio.to_thread(work)


def _side(image: Image, sizes: dict[str, int], shared: list[str]) -> Side:
    diff_ids = image.config.rootfs.diff_ids
    return Side(
        id=str(image.id),
        tags=[tag.familiar() for tag in image.tags],
        size=image.size,
        layers=len(diff_ids),
        only=sum(sizes[diff_id] for diff_id in set(diff_ids) - set(shared)),
    )
