"""Networks."""

from __future__ import annotations

from tare.client.caller import Document, Filters, Group, filters_text
from tare.client.http import segment


class Networks(Group):
    """Networks; ``name`` is a name or a (short) identifier."""

    async def list(self, filters: Filters | None = None) -> list[Document]:
        """All networks."""
        found: list[Document] = await self._caller.call("GET", "/networks", query={"filters": filters_text(filters)})
        return found

    async def inspect(self, name: str) -> Document:
        """Everything about one network."""
        found: Document = await self._caller.call("GET", f"/networks/{segment(name)}")
        return found

    async def create(self, document: Document) -> Document:
        """Create a network (the API's NetworkCreateRequest); the answer has ``Id`` and ``Warning``."""
        created: Document = await self._caller.call("POST", "/networks/create", document=document)
        return created

    async def remove(self, name: str) -> None:
        """Remove it; raises when containers are on it."""
        await self._caller.call("DELETE", f"/networks/{segment(name)}")

    async def connect(self, name: str, container: str, settings: Document | None = None) -> None:
        """Put a container on it (``settings``: the API's EndpointSettings)."""
        document = {"Container": container, "EndpointConfig": settings}
        await self._caller.call("POST", f"/networks/{segment(name)}/connect", document=document)

    async def disconnect(self, name: str, container: str, *, force: bool = False) -> None:
        """Take a container off it."""
        document = {"Container": container, "Force": force}
        await self._caller.call("POST", f"/networks/{segment(name)}/disconnect", document=document)

    async def prune(self, filters: Filters | None = None) -> Document:
        """Remove networks without containers."""
        query = {"filters": filters_text(filters)}
        removed: Document = await self._caller.call("POST", "/networks/prune", query=query)
        return removed
