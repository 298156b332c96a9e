"""Explains and proves who reaches whom: gathers what is where, asks the predictor, and looks at real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tare.engine.records import ContainerRecords
from tare.errors import Conflict, NotFound
from tare.model import ContainerStatus
from tare.model.container import Container
from tare.network import survey
from tare.network.explanation import HOST_WORD, Answer, explain, read_question
from tare.network.reachability import OUTSIDE, Predictor
from tare.network.service import NetworkService
from tare.network.topology import HOST, Member, Topology


class Reachability:
    """Questions about who reaches whom."""

    def __init__(self, *, network: NetworkService, records: ContainerRecords) -> None:
        self._network = network
        self._records = records

    async def topology(self) -> Topology:
        """What is where now."""
        containers = {container.id: container for container in await self._records.list()}
        members = tuple(
            Member(container.id, container.name, _namespace(container, containers))
            for container in containers.values()
            if ContainerStatus(container.state.status).is_live
        )
        found = await self._network.survey()
        own = {member.namespace for member in members if member.namespace != HOST}
        paths = [(name, self._network.sandbox_path(name)) for name in sorted(own)]
        facts, listeners = await asyncio.to_thread(lambda: (survey.host_facts(), survey.listeners(paths)))
        return Topology(
            table=self._network.table,
            host=facts,
            networks={network.id: network for network in found.networks},
            endpoints=found.endpoints,
            members=members,
            firewall=found.firewall,
            published=found.published,
            listeners=listeners,
        )

    async def explain(self, source: str, target: str, service: str = "") -> Answer:
        """Whether ``source`` reaches ``target`` (container, ``host``, ``outside``, address) at a port, and why.

        ``service`` is ``80``, ``80/udp``, or empty for an echo request. Raises NotFound, Conflict (not running),
        InvalidArgument.
        """
        (answer,) = await self.explain_all([(source, target, service)])
        return answer

    async def explain_all(self, asked: Sequence[tuple[str, str, str]]) -> list[Answer]:
        """Answers to many questions (source, target, service) about one and the same moment, in their order.

        Raises what :meth:`explain` raises when one of them cannot be answered.
        """
        questions = [read_question(*words) for words in asked]
        topology = await self.topology()
        for word in dict.fromkeys(word for one in questions for word in (one.source, one.target)):
            await self._check_running(topology, word)

        def work() -> list[Answer]:
            predictor = Predictor(topology)
            return [explain(predictor, question) for question in questions]

        return await asyncio.to_thread(work)

    async def _check_running(self, topology: Topology, word: str) -> None:
        """Raises Conflict for a container that does not run: it has no address, and nobody knows which it will get."""
        if word in (HOST_WORD, OUTSIDE) or topology.member(word) is not None:
            return
        try:
            container = await self._records.get(word)
        except NotFound:
            return  # an address, or nothing
        raise Conflict(
            f"container {container.name} is not running: it has no address",
            hint=f"start it first: tare start {container.name}",
            code="container-not-running",
        )


def _namespace(container: Container, containers: dict[str, Container]) -> str:
    """The name of the network namespace that a container is in."""
    seen: set[str] = set()
    while (mode := container.host_config.network_mode).startswith("container:"):
        owner = containers.get(mode.removeprefix("container:"))
        if owner is None or owner.id in seen:
            return mode.removeprefix("container:")
        seen.add(owner.id)
        container = owner
    return HOST if mode == "host" else container.id
