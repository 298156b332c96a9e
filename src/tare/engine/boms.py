"""Bills of materials of images."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

from tare.errors import InvalidArgument
from tare.inventory import cyclonedx, spdx
from tare.inventory.bill import Bill, make_bill
from tare.inventory.licences import is_copyright
from tare.inventory.scan import take_inventory
from tare.store.images import Image
from tare.store.store import Store

FORMATS: Mapping[str, tuple[str, Callable[[Bill], Iterator[bytes]]]] = {
    "spdx-json": (spdx.MEDIA_TYPE, spdx.write_spdx),
    "cyclonedx-json": (cyclonedx.MEDIA_TYPE, cyclonedx.write_cyclonedx),
}
"""Media type and writer of each format."""


class BillsOfMaterials:
    """Says what images are made of: packages, and every file by its digests."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def make(self, image: Image, name: str, kind: str) -> tuple[str, AsyncIterator[bytes]]:
        """Media type and pieces of the document that tells what ``image``, asked for as ``name``, is made of.

        Raises InvalidArgument for a format that is none, DataCorrupt for layers that cannot be unpacked either.
        """
        if kind not in FORMATS:
            raise InvalidArgument(
                f"format {kind!r}: bills of materials are written as {' or '.join(FORMATS)}", code="sbom-format"
            )
        media_type, write = FORMATS[kind]
        paths = [self._store.layers.path(diff_id) for diff_id in image.diff_ids]
        config = image.config

        def bill() -> Bill:
            return make_bill(
                take_inventory(paths, sha1=True, keep=is_copyright),
                image=str(image.id),
                name=name,
                created=config.created,
                architecture=config.architecture,
                diff_ids=tuple(config.rootfs.diff_ids),
            )

        async with self._store.leases.hold() as lease:
            await self._store.leases.add(lease, "image", str(image.id))
            made = await asyncio.to_thread(bill)
        return media_type, _pieces(write(made))


async def _pieces(document: Iterator[bytes]) -> AsyncIterator[bytes]:
    while (piece := await asyncio.to_thread(next, document, None)) is not None:
        yield piece
