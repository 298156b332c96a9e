"""The catalogue of ``tare.local``: what there is, and what of it this engine has."""

from __future__ import annotations

from dataclasses import dataclass

from tare.distroless.overview import Offer, find_offer, offers
from tare.distroless.settings import RELEASES
from tare.model import Platform, Reference
from tare.store.images import Image
from tare.store.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """An offer and the images of it that are in the store, by name. ``size`` in bytes, 0 where nobody knows.

    ``exact`` says that the size is that of an image which is here.
    """

    offer: Offer
    present: tuple[tuple[Reference, Image], ...]
    size: int
    exact: bool


class Catalogue:
    """Answers what images of ``tare.local`` can be asked for. Nothing is fetched or assembled for that."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get(self, name: str) -> Shelf:
        """One repository, by its full or short name. Raises NotFound."""
        return _shelf(find_offer(name), await self._here())

    async def _here(self) -> list[tuple[Reference, Image]]:
        images = await self._store.images.list()
        found = [(tag, image) for image in images for tag in image.tags if tag.is_virtual]
        return sorted(found, key=lambda one: str(one[0]))

    async def list(self) -> list[Shelf]:
        """All repositories."""
        here = await self._here()
        return [_shelf(offer, here) for offer in offers()]


def _shelf(offer: Offer, here: list[tuple[Reference, Image]]) -> Shelf:
    present = tuple((tag, image) for tag, image in here if offer.has(tag.name))
    release = RELEASES[0]
    names = {"latest", release.version, release.codename}
    host = Platform.host()
    first = next((i for tag, i in present if tag.tag in names and i.config.architecture == host.architecture), None)
    exact = first is not None and offer.size > 0
    return Shelf(offer=offer, present=present, size=first.size if first and exact else offer.size, exact=exact)
