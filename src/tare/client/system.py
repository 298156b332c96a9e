"""The engine itself."""

from __future__ import annotations

from collections.abc import AsyncIterator

from tare.client.caller import Document, Filters, Group, filters_text


class System(Group):
    """Facts about the engine."""

    async def ping(self) -> None:
        """Ask for a sign of life."""
        async with await self._caller.open("GET", "/_ping") as response:
            await response.read()

    async def version(self) -> Document:
        """Versions of the engine and its parts."""
        found: Document = await self._caller.call("GET", "/version")
        return found

    async def info(self) -> Document:
        """The engine and its host."""
        found: Document = await self._caller.call("GET", "/info")
        return found

    async def disk_usage(self) -> Document:
        """What images, containers and volumes take."""
        found: Document = await self._caller.call("GET", "/system/df")
        return found

    async def events(
        self, *, since: str = "", until: str = "", filters: Filters | None = None
    ) -> AsyncIterator[Document]:
        """Past events from ``since`` and coming ones until ``until``."""
        query = {"since": since, "until": until, "filters": filters_text(filters)}
        async with await self._caller.open("GET", "/events", query=query) as response:
            async for event in response.documents():
                yield event
