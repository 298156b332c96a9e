"""Commands in running containers."""

from __future__ import annotations

from tare.client.caller import Document, Group
from tare.client.http import segment
from tare.client.streams import Attached


class Execs(Group):
    """Commands that run beside a container's main process."""

    async def create(self, container: str, document: Document) -> str:
        """Prepare a command (the API's ExecConfig); returns its identifier."""
        name = segment(container).replace("/", "%2F")
        answer = await self._caller.call("POST", f"/containers/{name}/exec", document=document)
        return str(answer["Id"])

    async def start(self, exec_id: str, document: Document) -> Attached:
        """Start it with its streams connected (the API's ExecStartConfig)."""
        return Attached(
            await self._caller.open(
                "POST", f"/exec/{exec_id}/start", document={"Detach": False, **document}, upgrade=True
            )
        )

    async def start_detached(self, exec_id: str) -> None:
        """Start it and return at once."""
        await self._caller.call("POST", f"/exec/{exec_id}/start", document={"Detach": True})

    async def inspect(self, exec_id: str) -> Document:
        """Its state; ``ExitCode`` is null while it runs."""
        found: Document = await self._caller.call("GET", f"/exec/{exec_id}/json")
        return found

    async def resize(self, exec_id: str, height: int, width: int) -> None:
        """Tell its terminal the new size in characters."""
        await self._caller.call("POST", f"/exec/{exec_id}/resize", query={"h": height, "w": width})
