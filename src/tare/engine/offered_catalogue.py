"""Images of ``tare.local`` that a registry's clients ask for: assembled, and kept up to date."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence

from tare.engine.images import Images
from tare.errors import NotFound, Unavailable, Unsupported
from tare.model import Digest, Platform, Reference

logger = logging.getLogger(__name__)

FRESH_SECONDS = 600.0
"""How long an assembled image counts as up to date: a client asks several times for one tag."""

_ASSEMBLIES = 2  # at a time for this registry's clients
_REMEMBERED = 1024


class OfferedCatalogue:
    """Assembles for ``platforms``, the host's where there is none; the images are in the store afterwards, by name."""

    def __init__(self, images: Images, platforms: Sequence[Platform]) -> None:
        self._images = images
        self._platforms = tuple(dict.fromkeys(platforms)) or (Platform.host(),)
        self._done: OrderedDict[Reference, tuple[float, dict[Platform, Digest]]] = OrderedDict()
        self._slots = asyncio.Semaphore(_ASSEMBLIES)

    async def get(self, reference: Reference, present: Mapping[Platform, Digest]) -> dict[Platform, Digest]:
        """The newest images of ``reference``, and those of ``present``, which have its name, for other platforms.

        Where the archive cannot be reached, what is present. Raises NotFound, and what keeps it from being assembled.
        """
        if not self._is_fresh(reference, present):
            async with self._slots:
                if not self._is_fresh(reference, present):
                    try:
                        images = await self._assemble(reference)
                    except Unavailable as error:
                        if not present:
                            raise
                        logger.warning("%s is served as it is: %s", reference.familiar(), error)
                        return dict(present)
                    self._remember(reference, images)
        return {**present, **self._done[reference][1]}

    def _is_fresh(self, reference: Reference, present: Mapping[Platform, Digest]) -> bool:
        """Whether it was looked at a short while ago, and what came of it has not been removed or replaced."""
        moment, images = self._done.get(reference, (0.0, {}))
        return bool(images) and time.monotonic() - moment < FRESH_SECONDS and images.items() <= present.items()

    def _remember(self, reference: Reference, images: dict[Platform, Digest]) -> None:
        self._done[reference] = (time.monotonic(), images)
        self._done.move_to_end(reference)
        while len(self._done) > _REMEMBERED:
            self._done.popitem(last=False)

    async def _assemble(self, reference: Reference) -> dict[Platform, Digest]:
        """For each platform that there are packages for. Raises NotFound when there is none."""
        images: dict[Platform, Digest] = {}
        refused: Unsupported | None = None
        for platform in self._platforms:
            try:
                images[platform] = (await self._images.resolve_or_pull(reference, platform, refresh=True)).id
            except Unsupported as error:
                refused = error
        if not images:
            assert refused is not None
            raise NotFound(refused.message, hint=refused.hint, code="MANIFEST_UNKNOWN") from refused
        return images
