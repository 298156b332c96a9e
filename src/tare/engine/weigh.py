"""Weighing images: what their layers ship, what a container sees of it, and what could be saved."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import msgspec

from tare.archive.compression import compressed_size
from tare.base.atomic import write_atomic
from tare.base.single_flight import SingleFlight
from tare.errors import InvalidArgument
from tare.inventory.directories import directory_rows, directory_tree
from tare.inventory.scan import take_inventory
from tare.inventory.weight import Weight, weigh
from tare.store.images import Image
from tare.store.store import Store

logger = logging.getLogger(__name__)

DEFAULT_DEPTH = 2
"""Components of the directories that are listed when no other depth is asked for."""

_RULES = 1  # number of the rules by which images are weighed: what others found is found anew


class Weigher:
    """Weighs images; what it finds is kept, as an image never changes."""

    def __init__(self, store: Store, cache: Path) -> None:
        self._store = store
        self._cache = cache
        self._running: SingleFlight[Weight] = SingleFlight()
        self._keeping = asyncio.Lock()

    async def weigh(self, image: Image, *, depth: int = DEFAULT_DEPTH) -> dict[str, Any]:
        """The answer of ``/tare/images/{name}/weigh``: sizes in bytes, each listing adding up to ``shipped``.

        ``depth`` is how many components of their path directories are told apart by. Raises InvalidArgument for a
        ``depth`` below 1, DataCorrupt for layers that cannot be unpacked either.
        """
        if depth < 1:
            raise InvalidArgument(f"depth {depth}: directories are told apart by 1 component or more")
        weight = await self._running.do(str(image.id), lambda: self._weight(image))
        compressed = 0
        for diff_id in image.diff_ids:
            compressed += await self._compressed(str(diff_id), self._store.layers.path(diff_id))
        found: dict[str, Any] = msgspec.to_builtins(weight)
        listings = ("layers", "stages", "instructions", "packages")
        return {
            "id": str(image.id),
            "tags": [tag.familiar() for tag in image.tags],
            "compressed": compressed,
            **{key: value for key, value in found.items() if key not in (*listings, "contents", "installed")},
            "content_size": weight.visible,
            "layers": len(image.diff_ids),
            "packages": weight.installed,
            "by": {
                **{name.removesuffix("s"): found[name] for name in listings},
                "directory": msgspec.to_builtins(directory_rows(weight.contents, depth)),
            },
            "tree": msgspec.to_builtins(directory_tree(weight.contents, weight.largest)),
        }

    async def _weight(self, image: Image) -> Weight:
        kept = self._cache / f"{image.id.hex}.json"
        origin = await self._store.origins.load(image.id)
        stamp = msgspec.json.encode([_RULES, origin])
        try:
            first, _, rest = (await asyncio.to_thread(kept.read_bytes)).partition(b"\n")
            if first == stamp:
                return msgspec.json.decode(rest, type=Weight)
        except (OSError, msgspec.DecodeError):
            pass
        instructions = [one.created_by or one.comment for one in image.config.history if not one.empty_layer]
        diff_ids = [str(diff_id) for diff_id in image.diff_ids]
        paths = [self._store.layers.path(diff_id) for diff_id in image.diff_ids]
        async with self._store.leases.hold() as lease:
            await self._store.leases.add(lease, "image", str(image.id))
            weight = await asyncio.to_thread(lambda: weigh(take_inventory(paths), diff_ids, instructions, origin))
        await self._keep(kept, stamp + b"\n" + msgspec.json.encode(weight))
        return weight

    async def _keep(self, path: Path, document: bytes) -> None:
        """Write what was found, and forget what was found of images that have gone. Without space nothing is kept."""

        def write(known: set[str]) -> None:
            self._cache.mkdir(parents=True, exist_ok=True)
            for old in self._cache.iterdir():
                if old.name not in known:
                    old.unlink(missing_ok=True)
            write_atomic(path, document, durable=False)

        async with self._keeping:  # one clears away what another is writing, else
            known = {f"{image.id.hex}.json" for image in await self._store.images.list()}
            try:
                await asyncio.to_thread(write, known)
            except OSError:
                logger.warning("cannot keep the weight of an image", exc_info=True)

    async def _compressed(self, diff_id: str, path: Path) -> int:
        def known(connection: Any) -> int | None:
            row = connection.execute("SELECT compressed_size FROM layers WHERE diff_id = ?", (diff_id,)).fetchone()
            return row[0] if row else None

        size = await self._store.db.read(known)
        if size is None:
            size = await asyncio.to_thread(compressed_size, path, "gzip")
            value = size
            await self._store.db.write(
                lambda connection: connection.execute(
                    "UPDATE layers SET compressed_size = ? WHERE diff_id = ?", (value, diff_id)
                ),
                durable=False,
            )
        return size
