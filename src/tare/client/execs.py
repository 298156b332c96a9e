"""Commands in running containers."""

from __future__ import annotations

from tare.client.caller import Document, Group, filters_text
from tare.client.http import segment
from tare.client.streams import Attached
from tare.errors import Unavailable


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

    async def exit_code(self, exec_id: str, *, since: float) -> int:
        """Its exit code, once it has ended; ``since`` is a time before its start, in seconds since 1970.

        Output may end a moment before the engine knows the exit code: then the event tells.
        """
        found = await self.inspect(exec_id)
        if found["ExitCode"] is not None and not found["Running"]:
            return int(found["ExitCode"])
        query = {"since": f"{since:.6f}", "filters": filters_text({"container": [found["ContainerID"]]})}
        async with await self._caller.open("GET", "/events", query=query) as response:
            async for event in response.documents():
                attributes = event["Actor"]["Attributes"]
                if event["Action"] == "exec_die" and attributes.get("execID") == exec_id:
                    return int(attributes["exitCode"])
        raise Unavailable(f"the engine stopped before it told how exec {exec_id} ended")

    async def resize(self, exec_id: str, height: int, width: int) -> None:
        """Tell its terminal the new size in characters."""
        await self._caller.call("POST", f"/exec/{exec_id}/resize", query={"h": height, "w": width})
