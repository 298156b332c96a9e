"""Failed build steps that are kept, and shells in them."""

from __future__ import annotations

from tare.client.caller import Document, Documents, Group
from tare.client.debugging import Shell
from tare.client.http import segment


class Steps(Group):
    """Failed build steps; ``name`` is ``step:<id>``."""

    async def list(self) -> Documents:
        """The kept steps, newest first."""
        found: Documents = await self._caller.call("GET", "/tare/steps")
        return found

    async def inspect(self, name: str) -> Document:
        """Everything about one of them."""
        found: Document = await self._caller.call("GET", f"/tare/steps/{_quoted(name)}")
        return found

    async def remove(self, name: str) -> Document:
        """Remove it; returns what it was."""
        removed: Document = await self._caller.call("DELETE", f"/tare/steps/{_quoted(name)}")
        return removed

    async def open(self, name: str, document: Document) -> Shell:
        """Start a shell or a command in it, connected."""
        path = f"/tare/steps/{_quoted(name)}/shell"
        return Shell(await self._caller.open("POST", path, document=document, upgrade=True))


def _quoted(name: str) -> str:
    return segment(name).replace("/", "%2F")
