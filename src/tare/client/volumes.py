"""Volumes."""

from __future__ import annotations

from tare.client.caller import Document, Filters, Group, filters_text
from tare.client.http import segment


class Volumes(Group):
    """Volumes, by name."""

    async def list(self, filters: Filters | None = None) -> list[Document]:
        """All volumes."""
        answer = await self._caller.call("GET", "/volumes", query={"filters": filters_text(filters)})
        return list(answer["Volumes"] or [])

    async def inspect(self, name: str) -> Document:
        """Everything about one volume."""
        found: Document = await self._caller.call("GET", f"/volumes/{segment(name)}")
        return found

    async def create(self, document: Document) -> Document:
        """Create a volume (the API's VolumeCreateOptions); one that is there already is returned."""
        created: Document = await self._caller.call("POST", "/volumes/create", document=document)
        return created

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Remove it with its data; raises Conflict while a container uses it."""
        await self._caller.call("DELETE", f"/volumes/{segment(name)}", query={"force": force})

    async def prune(self, filters: Filters | None = None) -> Document:
        """Remove volumes that no container uses."""
        query = {"filters": filters_text(filters)}
        removed: Document = await self._caller.call("POST", "/volumes/prune", query=query)
        return removed
