"""Builds."""

from __future__ import annotations

from collections.abc import AsyncIterator

from tare.client.caller import Document, Group


class Builds(Group):
    """Builds from directories on the engine's host (nothing is uploaded) or from addresses."""

    async def build(self, document: Document) -> AsyncIterator[Document]:
        """Run a build; yields its events, the last one is ``result`` or ``error``."""
        async with await self._caller.open("POST", "/tare/build", document=document) as response:
            async for event in response.documents():
                yield event
