"""Tools beside containers and images, and the shells of all kinds of debugging."""

from __future__ import annotations

from tare.client.caller import Document, Group
from tare.client.http import Response
from tare.client.streams import Attached
from tare.errors import DataCorrupt


class Shell(Attached):
    """A shell or command, connected; it ends when the connection does."""

    def __init__(self, response: Response) -> None:
        super().__init__(response)
        self.id = response.headers.get("tare-shell", "")
        if not self.id:
            raise DataCorrupt("the engine did not name the shell that it opened")


class Debugging(Group):
    """What a name stands for, tools beside it, and shells by their identifiers."""

    async def find(self, name: str, kind: str = "") -> Document:
        """Which container, image or build step is meant; ``kind`` leaves only one of the three."""
        found: Document = await self._caller.call("GET", "/tare/debug", query={"name": name, "type": kind})
        return found

    async def open(self, name: str, document: Document, *, kind: str = "") -> Shell:
        """Start a shell or a command with a tool image beside a container or image, connected."""
        query = {"name": name, "type": kind}
        return Shell(await self._caller.open("POST", "/tare/debug", query=query, document=document, upgrade=True))

    async def resize(self, shell: str, height: int, width: int) -> None:
        """Tell a shell's terminal the new size in characters."""
        await self._caller.call("POST", f"/tare/shells/{shell}/resize", query={"h": height, "w": width})

    async def inspect(self, shell: str) -> Document:
        """A shell: whether it runs, how it has ended (``exit_code`` null: before it exited), and why."""
        found: Document = await self._caller.call("GET", f"/tare/shells/{shell}")
        return found
