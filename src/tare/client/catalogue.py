"""The catalogue of ``tare.local``."""

from __future__ import annotations

from tare.client.caller import Document, Documents, Group
from tare.client.http import segment


class Catalogue(Group):
    """What images the engine can assemble. Nothing is fetched or assembled by these calls."""

    async def list(self) -> Documents:
        """Every repository: its content, its size, and the images of it that are here."""
        found: Documents = await self._caller.call("GET", "/tare/catalogue")
        return found

    async def get(self, name: str) -> Document:
        """One repository, by its short (``nginx``) or whole name. Raises NotFound."""
        found: Document = await self._caller.call("GET", f"/tare/catalogue/{segment(name)}")
        return found
