"""Failed build steps that are kept, and shells in them."""

from __future__ import annotations

from tare.client.caller import Document, Documents, Group
from tare.client.http import Response, segment
from tare.client.streams import Attached
from tare.errors import DataCorrupt


class Shell(Attached):
    """A shell in a step, connected; it ends when the connection does."""

    def __init__(self, response: Response) -> None:
        super().__init__(response)
        self.id = response.headers.get("tare-shell", "")
        if not self.id:
            raise DataCorrupt("the engine did not name the shell that it opened")


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

    async def resize(self, shell: str, height: int, width: int) -> None:
        """Tell a shell's terminal the new size in characters."""
        await self._caller.call("POST", f"/tare/shells/{shell}/resize", query={"h": height, "w": width})

    async def exit_code(self, shell: str) -> int | None:
        """How a shell that has ended did so; None when it was ended before it exited."""
        found: Document = await self._caller.call("GET", f"/tare/shells/{shell}")
        return None if found["exit_code"] is None else int(found["exit_code"])


def _quoted(name: str) -> str:
    return segment(name).replace("/", "%2F")
