"""The engine's side of name resolution: keeps ``tare-dns`` told who is where.

The database is the truth. Changes are sent one by one; after a loss of ``tare-dns`` everything is registered anew. It
is started when the first container joins a network with names, not before.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tare.errors import InternalError, TareError, Unavailable
from tare.kernel.namespaces import run_in_network_namespace
from tare.network import records
from tare.network.dns.client import Disconnected, DnsClient
from tare.network.dns.main import PROTOCOL
from tare.network.model import Endpoint, Network, NetworkSettings
from tare.network.names import DNS_ADDRESS
from tare.network.sandboxes import Sandboxes
from tare.store.database import Database

logger = logging.getLogger(__name__)

RETRY_SECONDS = (0.01, 0.05, 0.2, 1.0)


@dataclass(frozen=True, slots=True)
class _Desired:
    """What the database says should be registered."""

    named: Mapping[tuple[str, str], tuple[Network, Endpoint]]
    forward: Mapping[str, bool]  # by container: whether it is on a network that reaches outside
    nameservers: Mapping[str, tuple[str, ...]]  # by container: resolvers of its own, empty for the host's

    @property
    def containers(self) -> set[str]:
        return {container for _, container in self.named}


class Directory:
    """Registers endpoints of networks with names, and listens for their containers."""

    def __init__(self, db: Database, run_root: Path, sandboxes: Sandboxes, settings: NetworkSettings) -> None:
        self._db = db
        self._sandboxes = sandboxes
        self._client = DnsClient(run_root / "dns.sock", settings.resolv_conf, settings.dns_idle_seconds)
        self._listening: set[str] = set()
        self._lock = asyncio.Lock()
        self._repair: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Find a running ``tare-dns``, or start one when it is needed, and bring it in line with the database."""
        async with self._lock:
            desired = await self._db.read(_desired)
            if await self._client.connect(start=bool(desired.named), on_loss=self._lost):
                await self._synchronise(desired)

    async def detach(self) -> None:
        """Let go of ``tare-dns``, which goes on answering."""
        if self._repair is not None:
            self._repair.cancel()
            await asyncio.wait([self._repair])
        await self._client.close()

    async def stop(self) -> None:
        """End ``tare-dns``; its sockets are closed when this returns."""
        await self.detach()
        async with self._lock:
            if await self._client.connect(start=False):
                await self._client.request({"op": "stop"})
                await self._client.wait_closed()
                await self._client.close()
            self._listening.clear()

    async def add(self, network: Network, endpoint: Endpoint) -> None:
        """An endpoint is there (its row is committed), or its names have changed."""
        async with self._lock:
            if network.resolves_names:
                await self._tell(_put(network, endpoint))
            await self._follow(endpoint.container_id)

    async def remove(self, network: Network, endpoint: Endpoint) -> None:
        """An endpoint goes; its row may still be there. A failure is logged: it must not keep the rest in place."""
        try:
            async with self._lock:
                if network.resolves_names:
                    message = {"op": "forget", "network": network.id, "container": endpoint.container_id}
                    await self._tell(message)
                await self._follow(endpoint.container_id, without=endpoint.id)
        except TareError:
            logger.exception("names of container %s stay registered", endpoint.container_name)

    async def close(self, container_id: str) -> None:
        """Stop listening in the container's namespace, so that it can end."""
        try:
            async with self._lock:
                await self._stop_listening(container_id)
        except TareError:
            logger.exception("tare-dns keeps the namespace of container %s", container_id[:12])

    async def _follow(self, container_id: str, without: str = "") -> None:
        """Listen, stop listening, or change whether to forward, as the container's endpoints ask for."""
        desired = await self._db.read(lambda connection: _desired(connection, container_id, without))
        if container_id in desired.containers:
            await self._listen(container_id, desired)
        else:
            await self._stop_listening(container_id)

    async def _listen(self, container_id: str, desired: _Desired) -> None:
        message = {
            "op": "listen",
            "container": container_id,
            "forward": desired.forward[container_id],
            "servers": desired.nameservers[container_id],
        }
        if container_id in self._listening:
            await self._tell(message)
            return
        path = self._sandboxes.path(container_id)
        sockets = await asyncio.to_thread(run_in_network_namespace, path, _open_sockets)
        with contextlib.ExitStack() as opened:
            for sock in sockets:
                opened.enter_context(sock)
            namespace = await asyncio.to_thread(os.open, path, os.O_RDONLY | os.O_CLOEXEC)
            opened.callback(os.close, namespace)
            await self._client.request(message, [*(sock.fileno() for sock in sockets), namespace])
        self._listening.add(container_id)

    async def _stop_listening(self, container_id: str) -> None:
        if container_id in self._listening:
            await self._tell({"op": "close", "container": container_id})
            self._listening.discard(container_id)

    async def _tell(self, message: dict[str, Any]) -> None:
        """Send a message; when ``tare-dns`` is gone, start it and register everything first."""
        try:
            await self._client.request(message)
        except Disconnected:
            await self._reconnect()
            await self._client.request(message)

    async def _reconnect(self) -> None:
        """Connect and register everything. Raises Unavailable when ``tare-dns`` cannot be started.

        A server that is being killed closes its connections before the socket that it listens on: a connection that
        is made between the two is lost at once, and the next attempt starts a server.
        """
        for seconds in RETRY_SECONDS:
            self._listening.clear()
            await self._client.connect(start=True, on_loss=self._lost)
            try:
                await self._synchronise(await self._db.read(_desired))
            except Disconnected:
                logger.info("tare-dns has gone again: trying once more in %s s", seconds)
                await asyncio.sleep(seconds)
                continue
            return
        raise Unavailable("tare-dns ends as soon as it is started", hint="see the engine's log", code="dns")

    def _lost(self) -> None:
        """``tare-dns`` has ended although nobody told it to."""
        if self._repair is None or self._repair.done():
            logger.warning("tare-dns has ended: starting it again")
            self._repair = asyncio.get_running_loop().create_task(self._repair_now())

    async def _repair_now(self) -> None:
        try:
            async with self._lock:
                if not self._client.connected and (await self._db.read(_desired)).named:
                    await self._reconnect()
        except TareError:
            logger.exception("names do not resolve until tare-dns can be started")

    async def _synchronise(self, desired: _Desired) -> None:
        known = await self._registered()
        if known is None:
            logger.info("tare-dns is of another version: starting it again")
            await self._client.request({"op": "stop"})
            await self._client.wait_closed()
            await self._client.close()
            await self._client.connect(start=True, on_loss=self._lost)
            known = await self._registered() or set()
        self._listening = {container for network, container in known if not network}
        for network, container in known:
            if network and (network, container) not in desired.named:
                await self._client.request({"op": "forget", "network": network, "container": container})
        for container in self._listening - desired.containers:
            await self._client.request({"op": "close", "container": container})
        self._listening &= desired.containers
        for network_row, endpoint in desired.named.values():
            await self._client.request(_put(network_row, endpoint))
        for container in desired.containers:
            if await self._sandboxes.exists(container):
                try:
                    await self._listen(container, desired)
                except (OSError, InternalError):
                    logger.exception("container %s cannot resolve names", container[:12])

    async def _registered(self) -> set[tuple[str, str]] | None:
        """What ``tare-dns`` holds; None when it does not speak this version's messages."""
        found: set[tuple[str, str]] = set()
        offset, total = 0, 1
        while offset < total:
            page = await self._client.request({"op": "state", "offset": offset})
            if page.get("protocol") != PROTOCOL:
                return None
            found |= {(network, container) for network, container in page["entries"]}
            offset, total = offset + max(len(page["entries"]), 1), page["total"]
        return found


def _desired(connection: sqlite3.Connection, container: str | None = None, without: str = "") -> _Desired:
    networks = {network.id: network for network in records.all_networks(connection)}
    named: dict[tuple[str, str], tuple[Network, Endpoint]] = {}
    forward: dict[str, bool] = {}
    nameservers: dict[str, tuple[str, ...]] = {}
    for endpoint in records.endpoints(connection, container=container):
        network = networks[endpoint.network_id]
        if endpoint.id == without:
            continue
        forward[endpoint.container_id] = forward.get(endpoint.container_id, False) or not network.internal
        nameservers[endpoint.container_id] = endpoint.nameservers
        if network.resolves_names:
            named[network.id, endpoint.container_id] = (network, endpoint)
    return _Desired(named, forward, nameservers)


def _put(network: Network, endpoint: Endpoint) -> dict[str, Any]:
    return {
        "op": "put",
        "network": network.id,
        "network_name": network.name,
        "container": endpoint.container_id,
        "names": endpoint.dns_names,
        "addresses": endpoint.addresses,
        "links": endpoint.links,
    }


def _open_sockets() -> tuple[socket.socket, socket.socket]:
    """UDP and TCP sockets at the resolver's address, in the calling thread's namespace."""
    opened: list[socket.socket] = []
    try:
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            sock = socket.socket(socket.AF_INET, kind | socket.SOCK_CLOEXEC)
            opened.append(sock)
            # lets a name server inside the container have 0.0.0.0:53 beside this
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((DNS_ADDRESS, 53))
        opened[1].listen(64)
    except OSError as error:
        for sock in opened:
            sock.close()
        raise InternalError(f"name server at {DNS_ADDRESS}:53: {error.strerror}", code="dns") from error
    return opened[0], opened[1]
