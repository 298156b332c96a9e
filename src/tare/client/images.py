"""Images."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from tare.client.caller import Document, Documents, Filters, Group, Values, filters_text
from tare.client.http import Body, segment


class Images(Group):
    """Images; ``name`` is a reference or a (short) identifier."""

    async def list(self, *, everything: bool = False, filters: Filters | None = None) -> Documents:
        """The images, newest first."""
        query: Values = {"all": everything, "filters": filters_text(filters)}
        found: Documents = await self._caller.call("GET", "/images/json", query=query)
        return found

    async def inspect(self, name: str) -> Document:
        """Everything about one image."""
        found: Document = await self._caller.call("GET", f"/images/{segment(name)}/json")
        return found

    async def history(self, name: str) -> Documents:
        """Its steps, newest first."""
        found: Documents = await self._caller.call("GET", f"/images/{segment(name)}/history")
        return found

    async def weigh(self, name: str, *, depth: int | None = None) -> Document:
        """Its bytes by layer, stage, instruction, package and directory (of ``depth`` components), and suggestions."""
        found: Document = await self._caller.call("GET", f"/tare/images/{segment(name)}/weigh", query={"depth": depth})
        return found

    async def tree(self) -> Document:
        """All images, the layers that they share, and the bytes that each shares and has for itself."""
        found: Document = await self._caller.call("GET", "/tare/images/tree")
        return found

    async def diff(self, name: str, to: str) -> Document:
        """What the image ``to`` has otherwise than ``name``: files, packages, configuration."""
        found: Document = await self._caller.call("GET", f"/tare/images/{segment(name)}/diff", query={"to": to})
        return found

    async def sbom(self, name: str, *, kind: str = "spdx-json") -> AsyncIterator[bytes]:
        """What it is made of: a document in pieces, ``spdx-json`` or ``cyclonedx-json``."""
        query: Values = {"format": kind}
        async with await self._caller.open("GET", f"/tare/images/{segment(name)}/sbom", query=query) as response:
            async for piece in response.chunks():
                yield piece

    async def tag(self, name: str, repository: str, tag: str) -> None:
        """Give it one more name."""
        await self._caller.call("POST", f"/images/{segment(name)}/tag", query={"repo": repository, "tag": tag})

    async def remove(self, name: str, *, force: bool = False, noprune: bool = False) -> Documents:
        """Take the name away, and the image with its last name."""
        query: Values = {"force": force, "noprune": noprune}
        removed: Documents = await self._caller.call("DELETE", f"/images/{segment(name)}", query=query)
        return removed

    async def prune(self, filters: Filters | None = None) -> Document:
        """Remove images that nothing uses."""
        query: Values = {"filters": filters_text(filters)}
        removed: Document = await self._caller.call("POST", "/images/prune", query=query)
        return removed

    async def pull(self, name: str, tag: str, *, platform: str = "") -> AsyncIterator[Document]:
        """Fetch (or assemble) an image; yields the API's progress messages."""
        query: Values = {"fromImage": name, "tag": tag, "platform": platform}
        async with await self._caller.open("POST", "/images/create", query=query) as response:
            async for message in response.documents():
                yield message

    async def import_tar(
        self,
        body: Body | None,
        *,
        source: str = "-",
        repository: str = "",
        tag: str = "",
        message: str = "",
        changes: Sequence[str] = (),
        platform: str = "",
    ) -> AsyncIterator[Document]:
        """Make an image of a root file system's tar; yields messages, the last one's ``status`` is its identifier.

        The tar is ``body``, or what the engine finds at ``source``, an http(s) address.
        """
        query: Values = {
            "fromSrc": source,
            "repo": repository,
            "tag": tag,
            "message": message,
            "changes": [*changes],
            "platform": platform,
        }
        async with await self._caller.open("POST", "/images/create", query=query, body=body) as response:
            async for document in response.documents():
                yield document
