"""Explains and proves who reaches whom: gathers what is where, asks the predictor, and looks at real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from tare.base.shielding import to_end
from tare.engine.records import ContainerRecords
from tare.errors import Conflict, NotFound
from tare.kernel.sockets import socket_inodes
from tare.model import ContainerStatus
from tare.model.container import Container
from tare.network import survey
from tare.network.explanation import HOST_WORD, Answer, explain, read_question
from tare.network.exposure import Exposure, exposures
from tare.network.graph import Graph, make_graph
from tare.network.proving import Proof, prove
from tare.network.reachability import OUTSIDE, Predictor
from tare.network.service import NetworkService
from tare.network.topology import HOST, Member, Topology

T = TypeVar("T")


class Reachability:
    """Questions about who reaches whom."""

    def __init__(
        self, *, network: NetworkService, records: ContainerRecords, pids_of: Callable[[Container], list[int]]
    ) -> None:
        """``pids_of`` gives the host's process ids of a container; it may block."""
        self._pids_of = pids_of
        self._network = network
        self._records = records
        self._proving = asyncio.Lock()

    async def topology(self) -> Topology:
        """What is where now."""
        containers = {container.id: container for container in await self._records.list()}
        members = tuple(
            Member(container.id, container.name, _namespace(container, containers))
            for container in sorted(containers.values(), key=lambda one: one.name)
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

    async def verify(self, containers: Sequence[str] = ()) -> tuple[Topology, Proof]:
        """Compare predictions with real sockets between all running containers (or ``containers``) and the host.

        One proof at a time. Raises NotFound, Conflict (not running).
        """
        async with self._proving:
            topology = await self.topology()
            for word in containers:
                await self._check_running(topology, word)
            chosen = [self._member(topology, word) for word in containers] or list(topology.members)
            places = list(dict.fromkeys([*(member.namespace for member in chosen), HOST]))
            work = partial(prove, topology, self._network.sandbox_path, places, published=not containers)
            return topology, await _on_a_thread(work)

    async def exposure(self) -> list[Exposure]:
        """What can be reached from outside the engine: published ports, and containers on the host's network."""
        return await self._exposures(Predictor(await self.topology()))

    async def graph(self) -> tuple[Graph, Topology, list[Exposure]]:
        """Networks, containers, ports and who reaches whom, to be drawn; with what it was made from."""
        predictor = Predictor(await self.topology())
        found = await self._exposures(predictor)
        return await _on_a_thread(partial(make_graph, predictor, found)), predictor.topology, found

    async def _exposures(self, predictor: Predictor) -> list[Exposure]:
        topology = predictor.topology
        on_host = [await self._records.get(member.id) for member in topology.members_of(HOST)]
        pids = await asyncio.to_thread(lambda: {one.id: self._pids_of(one) for one in on_host})
        sockets = await asyncio.to_thread(lambda: {name: socket_inodes(some) for name, some in pids.items()})
        return await asyncio.to_thread(exposures, predictor, sockets)

    def _member(self, topology: Topology, word: str) -> Member:
        member = topology.member(word)
        if member is None:
            raise NotFound(f"No such container: {word}", code="no-such-container")
        return member

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


async def _on_a_thread(work: Callable[[], T]) -> T:
    """Run ``work``, which takes seconds, on a thread of its own: the pool's few threads are for short work."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="proof")
    try:
        return await to_end(asyncio.wrap_future(pool.submit(work)))
    finally:
        pool.shutdown(wait=False)
