"""A registry that the engine opens for others."""

from __future__ import annotations

from collections.abc import AsyncIterator

from tare.client.caller import Document, Group


class Serving(Group):
    """Offers the engine's images to other clients."""

    async def serve(self, order: Document) -> AsyncIterator[Document]:
        """Open a registry until the iteration is ended; ``listening`` comes first, then a document for each request.

        ``order`` has ``address``, ``certificate`` and ``key`` (PEM), ``htpasswd``, ``images`` (patterns), ``virtual``,
        ``platforms``, ``compression`` and ``insecure``, all of them optional. Raises Forbidden, Conflict,
        InvalidArgument, and Unavailable when the engine ends.
        """
        async with await self._caller.open("POST", "/tare/registry/serve", document=order) as response:
            async for document in response.documents():
                yield document
