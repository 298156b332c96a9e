"""Images."""

from __future__ import annotations

from collections.abc import AsyncIterator

from tare.client.caller import Document, Filters, Group, filters_text
from tare.client.http import Body, segment


class Images(Group):
    """Images; ``name`` is a reference or a (short) identifier."""

    async def list(self, *, all: bool = False, filters: Filters | None = None) -> list[Document]:
        """The images, newest first."""
        query = {"all": all, "filters": filters_text(filters)}
        found: list[Document] = await self._caller.call("GET", "/images/json", query=query)
        return found

    async def inspect(self, name: str) -> Document:
        """Everything about one image."""
        found: Document = await self._caller.call("GET", f"/images/{segment(name)}/json")
        return found

    async def history(self, name: str) -> list[Document]:
        """Its steps, newest first."""
        found: list[Document] = await self._caller.call("GET", f"/images/{segment(name)}/history")
        return found

    async def weigh(self, name: str) -> Document:
        """Its bytes, files, shells, package managers and setuid files."""
        found: Document = await self._caller.call("GET", f"/tare/images/{segment(name)}/weigh")
        return found

    async def tag(self, name: str, repository: str, tag: str) -> None:
        """Give it one more name."""
        await self._caller.call("POST", f"/images/{segment(name)}/tag", query={"repo": repository, "tag": tag})

    async def remove(self, name: str, *, force: bool = False, noprune: bool = False) -> list[Document]:
        """Take the name away, and the image with its last name."""
        query = {"force": force, "noprune": noprune}
        removed: list[Document] = await self._caller.call("DELETE", f"/images/{segment(name)}", query=query)
        return removed

    async def prune(self, filters: Filters | None = None) -> Document:
        """Remove images that nothing uses."""
        query = {"filters": filters_text(filters)}
        removed: Document = await self._caller.call("POST", "/images/prune", query=query)
        return removed

    async def pull(self, name: str, tag: str, *, platform: str = "") -> AsyncIterator[Document]:
        """Fetch (or assemble) an image; yields the API's progress messages."""
        query = {"fromImage": name, "tag": tag, "platform": platform}
        async with await self._caller.open("POST", "/images/create", query=query) as response:
            async for message in response.documents():
                yield message

    async def import_tar(
        self, body: Body, *, repository: str = "", tag: str = "", message: str = "", changes: list[str] | None = None
    ) -> AsyncIterator[Document]:
        """Make an image of a root file system's tar; yields messages, the last one's ``status`` is its identifier."""
        query = {"fromSrc": "-", "repo": repository, "tag": tag, "message": message, "changes": changes or []}
        async with await self._caller.open("POST", "/images/create", query=query, body=body) as response:
            async for document in response.documents():
                yield document
