"""The engine itself."""

from __future__ import annotations

from collections.abc import AsyncIterator

from tare.client.caller import Document, Filters, Group, filters_text
from tare.client.failures import failure_of, interrupted


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

    async def fsck(self, *, repair: bool = False, deep: bool = False) -> AsyncIterator[Document]:
        """Check the store; yields documents whose ``event`` is ``progress``, ``problem``, and at last ``result``.

        With ``repair`` what can be healed is healed, with ``deep`` the content of unpacked files is compared. The check
        ends when the iterator is closed. Raises what keeps the engine from checking, Conflict while another one runs.
        """
        document = {"repair": repair, "deep": deep}
        async with await self._caller.open("POST", "/tare/fsck", document=document) as response:
            async for event in response.documents():
                if event.get("event") == "error":
                    raise failure_of(event)
                yield event
                if event.get("event") == "result":
                    return
        raise interrupted()

    async def events(
        self, *, since: str = "", until: str = "", filters: Filters | None = None
    ) -> AsyncIterator[Document]:
        """Past events from ``since`` and coming ones until ``until``."""
        query = {"since": since, "until": until, "filters": filters_text(filters)}
        async with await self._caller.open("GET", "/events", query=query) as response:
            async for event in response.documents():
                yield event
