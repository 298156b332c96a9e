"""Who reaches whom."""

from __future__ import annotations

from collections.abc import Sequence

from tare.client.caller import Document, Documents, Group


class Reachability(Group):
    """Questions about reachability; places are a container, ``host``, ``outside``, or an address."""

    async def explain(self, source: str, target: str, service: str = "") -> Document:
        """Whether ``source`` reaches ``target`` at ``service`` (``80``, ``53/udp``, empty for an echo), and why."""
        query = {"from": source, "to": target, "port": service}
        found: Document = await self._caller.call("GET", "/tare/networks/explain", query=query)
        return found

    async def explain_all(self, questions: Sequence[Document]) -> Documents:
        """Answers to many questions about one moment: ``{"from": …, "to": …, "port": "80"}`` each, in their order."""
        document = {"questions": list(questions)}
        answer: Document = await self._caller.call("POST", "/tare/networks/explain", document=document)
        found: Documents = answer["answers"]
        return found

    async def verify(self, containers: Sequence[str] = ()) -> Document:
        """Predictions beside what real sockets find, between ``containers`` (or all) and the host."""
        document = {"containers": list(containers)}
        found: Document = await self._caller.call("POST", "/tare/networks/verify", document=document)
        return found

    async def exposure(self) -> Document:
        """What the world can reach: published ports, and containers on the host's network."""
        found: Document = await self._caller.call("GET", "/tare/networks/exposure")
        return found

    async def graph(self) -> Document:
        """Networks, containers, ports and who reaches whom, to be drawn."""
        found: Document = await self._caller.call("GET", "/tare/networks/graph")
        return found
