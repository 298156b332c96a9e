"""Images of ``tare.local`` that a registry's clients ask for: assembled, and kept up to date."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import AsyncExitStack

from tare.engine.images import Images
from tare.errors import NotFound, Unavailable, Unsupported
from tare.model import Digest, Platform, Reference
from tare.store.store import Store

logger = logging.getLogger(__name__)

FRESH_SECONDS = 600.0
"""How long an assembled image counts as up to date: a client asks several times for one tag."""

_ASSEMBLIES = 2  # at a time for this registry's clients
_REMEMBERED = 1024


class OfferedCatalogue:
    """Assembles for ``platforms``, the host's being the one that has the name in the store.

    Images for the others have no name there; they are held until :meth:`close`, and go then unless somebody else has
    a use for them.
    """

    def __init__(self, store: Store, images: Images, platforms: Sequence[Platform]) -> None:
        self._store = store
        self._images = images
        self._platforms = tuple(dict.fromkeys(platforms)) or (Platform.host(),)
        self._done: OrderedDict[Reference, tuple[float, dict[Platform, Digest]]] = OrderedDict()
        self._slots = asyncio.Semaphore(_ASSEMBLIES)
        self._stack = AsyncExitStack()
        self._leasing = asyncio.Lock()
        self._lease = ""
        self._nameless: set[Digest] = set()

    async def get(self, reference: Reference, present: Digest | None) -> dict[Platform, Digest]:
        """The newest images of ``reference``; ``present`` is the one that has its name in the store.

        Where the archive cannot be reached, the one that is there. Raises NotFound, and what keeps it from being
        assembled.
        """
        if (found := self._fresh(reference, present)) is not None:
            return found
        async with self._slots:
            if (found := self._fresh(reference, present)) is not None:
                return found
            try:
                images = await self._assemble(reference)
            except Unavailable as error:
                if present is None:
                    raise
                logger.warning("%s is served as it is: %s", reference.familiar(), error)
                return {Platform.host(): present}
        self._done[reference] = (time.monotonic(), images)
        self._done.move_to_end(reference)
        while len(self._done) > _REMEMBERED:
            self._done.popitem(last=False)
        return images

    def _fresh(self, reference: Reference, present: Digest | None) -> dict[Platform, Digest] | None:
        moment, images = self._done.get(reference, (0.0, {}))
        if not images or time.monotonic() - moment >= FRESH_SECONDS:
            return None
        own = images.get(Platform.host())
        return images if own is None or own == present else None  # it was removed or replaced meanwhile

    async def _assemble(self, reference: Reference) -> dict[Platform, Digest]:
        """For each platform that there are packages for. Raises NotFound when there is none."""
        images: dict[Platform, Digest] = {}
        refused: Unsupported | None = None
        for platform in self._platforms:
            try:
                images[platform] = await self._assemble_one(reference, platform)
            except Unsupported as error:
                refused = error
        if not images:
            assert refused is not None
            raise NotFound(refused.message, hint=refused.hint, code="MANIFEST_UNKNOWN") from refused
        return images

    async def _assemble_one(self, reference: Reference, platform: Platform) -> Digest:
        if platform == Platform.host():
            return (await self._images.resolve_or_pull(reference, platform, refresh=True)).id
        async with self._leasing:
            if not self._lease:
                self._lease = await self._stack.enter_async_context(self._store.leases.hold())
        image = await self._images.assemble_nameless(reference, platform, lease=self._lease)
        self._nameless.add(image)
        return image

    async def close(self) -> None:
        """Let go of the images for other platforms."""
        nameless, self._nameless = self._nameless, set()
        for image in nameless:
            await self._store.images.remove_unnamed(image, self._lease)
        await self._stack.aclose()
        self._lease = ""
        if nameless:
            await self._store.collect()
