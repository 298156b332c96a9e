"""Builds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from tare.client.caller import Document, Documents, Filters, Group, Values, filters_text
from tare.client.registry_auth import RegistryAuth, config_headers


class Builds(Group):
    """Builds from directories on the engine's host (nothing is uploaded) or from addresses."""

    async def build(
        self, document: Document, *, credentials: Mapping[str, RegistryAuth] | None = None
    ) -> AsyncIterator[Document]:
        """Run a build; yields its events, the last one is ``result`` or ``error``.

        ``credentials``, by registry, are for base images that have to be pulled.
        """
        headers = config_headers(credentials or {})
        async with await self._caller.open("POST", "/tare/build", document=document, headers=headers) as response:
            async for event in response.documents():
                yield event

    async def cache(self, filters: Filters | None = None) -> Documents:
        """The records of the build cache, those used last coming last."""
        query: Values = {"filters": filters_text(filters)}
        found: Documents = await self._caller.call("GET", "/tare/build/cache", query=query)
        return found

    async def prune(
        self, *, everything: bool = False, filters: Filters | None = None, sizes: Mapping[str, int] | None = None
    ) -> Document:
        """Remove build cache; ``sizes`` are the API's parameters in bytes, such as ``max-used-space``."""
        query: Values = {"all": everything, "filters": filters_text(filters), **(sizes or {})}
        removed: Document = await self._caller.call("POST", "/build/prune", query=query)
        return removed
