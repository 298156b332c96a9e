"""Sockets of ``tare-dns``: one UDP and one TCP socket inside each container's namespace, one for the engine."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import struct
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from tare.network.dns.forward import Route
from tare.network.dns.main import PROTOCOL
from tare.network.dns.responder import Responder
from tare.network.dns.zone import Record, Zone

logger = logging.getLogger(__name__)

TCP_IDLE_SECONDS = 10.0
TCP_CONNECTIONS = 256
MESSAGE_BYTES = 65536
STATE_PAGE = 200
_MAX_DATAGRAMS = 64  # per turn of the loop, so that one busy container does not starve the others


class Listener:
    """The two sockets of one container; answering ends when they are closed, and so can its namespace.

    ``namespace`` is a descriptor of that namespace, from which resolvers of the container's own are asked. The three
    are owned by the listener.
    """

    def __init__(
        self, container: str, udp: socket.socket, tcp: socket.socket, namespace: int | None, responder: Responder
    ) -> None:
        self.container = container
        self._forward = True
        self._route: Route | None = None
        self._udp, self._tcp, self._namespace = udp, tcp, namespace
        self._responder = responder
        self._tasks: set[asyncio.Task[None]] = set()
        loop = asyncio.get_running_loop()
        for sock, ready in ((udp, self._datagrams), (tcp, self._connections)):
            sock.setblocking(False)
            loop.add_reader(sock, ready)

    def steer(self, *, forward: bool, servers: Sequence[str]) -> None:
        """Say whether names of no container are asked on, and of which resolvers (none: the host's)."""
        self._forward = forward
        path = None if self._namespace is None else Path(f"/proc/self/fd/{self._namespace}")
        self._route = Route(tuple(servers), path) if servers else None

    def close(self) -> None:
        """Close the sockets and drop what is under way."""
        loop = asyncio.get_running_loop()
        for sock in (self._udp, self._tcp):
            loop.remove_reader(sock)
            sock.close()
        for task in self._tasks:
            task.cancel()
        if self._namespace is not None:
            os.close(self._namespace)
            self._namespace = None

    def _datagrams(self) -> None:
        for _ in range(_MAX_DATAGRAMS):
            try:
                query, peer = self._udp.recvfrom(4096)
            except OSError:  # nothing more, or an ICMP error of an earlier answer
                return
            answer, request = self._responder.local(self.container, query)
            if answer is not None:
                self._send(answer, peer)
            elif request is not None and len(self._tasks) < 1024:
                self._start(self._answer_later(request, query, peer))

    async def _answer_later(self, request: Any, query: bytes, peer: Any) -> None:
        self._send(await self._ask_on(request, query, tcp=False), peer)

    async def _ask_on(self, request: Any, query: bytes, *, tcp: bool) -> bytes:
        return await self._responder.remote(request, query, tcp=tcp, forward=self._forward, route=self._route)

    def _send(self, answer: bytes, peer: Any) -> None:
        try:
            self._udp.sendto(answer, peer)
        except OSError as error:  # the asker is gone; it will ask again if it still wants to know
            logger.debug("answer to %s of %s: %s", peer, self.container[:12], error)

    def _connections(self) -> None:
        try:
            connection, _ = self._tcp.accept()
        except OSError:
            return
        if len(self._tasks) >= TCP_CONNECTIONS:
            connection.close()
            return
        connection.setblocking(False)
        self._start(self._serve(connection))

    async def _serve(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=connection)
        try:
            while True:
                async with asyncio.timeout(TCP_IDLE_SECONDS):
                    (length,) = struct.unpack("!H", await reader.readexactly(2))
                    query = await reader.readexactly(length)
                answer, request = self._responder.local(self.container, query, tcp=True)
                if answer is None and request is None:
                    return
                if answer is None:
                    answer = await self._ask_on(request, query, tcp=True)
                writer.write(struct.pack("!H", len(answer)) + answer)
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class Server:
    """The process: listeners by container, the zone, and the engine's control connections.

    Control messages are JSON in packets of a SOCK_SEQPACKET socket, each answered by one. It ends when told to, or
    ``idle_seconds`` after the last engine has gone with nothing registered.
    """

    def __init__(self, control: socket.socket, zone: Zone, responder: Responder, idle_seconds: float) -> None:
        self._control = control
        self._zone = zone
        self._responder = responder
        self._idle_seconds = idle_seconds
        self._listeners: dict[str, Listener] = {}
        self._engines: set[socket.socket] = set()
        self._ended = asyncio.Event()
        self._idle: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Serve until the end."""
        loop = asyncio.get_running_loop()
        self._control.setblocking(False)
        loop.add_reader(self._control, self._engine_connects)
        self._watch_idle()
        await self._ended.wait()
        loop.remove_reader(self._control)
        for engine in list(self._engines):
            self._drop(engine)
        for listener in self._listeners.values():
            listener.close()

    def _engine_connects(self) -> None:
        try:
            engine, _ = self._control.accept()
        except OSError:
            return
        engine.setblocking(False)
        self._engines.add(engine)
        asyncio.get_running_loop().add_reader(engine, self._message, engine)
        self._watch_idle()

    def _message(self, engine: socket.socket) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(engine, MESSAGE_BYTES, 3)
        except BlockingIOError:
            return
        except OSError:
            data, fds = b"", []
        if not data:
            self._drop(engine)
            return
        try:
            answer = self._handle(json.loads(data), fds)
        except (KeyError, ValueError, TypeError, OSError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        finally:
            for fd in fds:
                os.close(fd)
        try:
            engine.send(json.dumps(answer).encode())
        except OSError:
            self._drop(engine)

    def _handle(self, message: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        """Act on one message. Descriptors that are kept are duplicated: the caller closes those that it was given."""
        match message["op"]:
            case "put":
                self._zone.put(
                    Record(
                        message["network"],
                        message["network_name"],
                        message["container"],
                        tuple(message["names"]),
                        tuple(message["addresses"]),
                        {alias.lower(): name for alias, name in message.get("links", ())},
                    )
                )
            case "forget":
                self._zone.forget(message["network"], message["container"])
            case "listen":
                self._listen(message["container"], fds)
                self._listeners[message["container"]].steer(
                    forward=bool(message["forward"]), servers=message.get("servers", ())
                )
            case "close":
                self._close(message["container"])
            case "state":
                return self._state(int(message["offset"]))
            case "stop":
                self._ended.set()
            case unknown:
                raise ValueError(f"unknown operation {unknown}")
        return {"pid": os.getpid()}

    def _listen(self, container: str, fds: list[int]) -> None:
        if fds:
            udp, tcp = (socket.socket(fileno=os.dup(fd)) for fd in fds[:2])
            namespace = os.dup(fds[2]) if len(fds) > 2 else None
            self._close(container)
            self._listeners[container] = Listener(container, udp, tcp, namespace, self._responder)

    def _close(self, container: str) -> None:
        listener = self._listeners.pop(container, None)
        if listener is not None:
            listener.close()

    def _state(self, offset: int) -> dict[str, Any]:
        """A page of what is registered: [network, container] of endpoints, ["", container] of listeners."""
        entries = [["", container] for container in sorted(self._listeners)]
        entries += [list(key) for key in self._zone.keys()]  # noqa: SIM118 - a method, not a mapping's keys
        return {"entries": entries[offset : offset + STATE_PAGE], "total": len(entries), "protocol": PROTOCOL}

    def _drop(self, engine: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(engine)
        self._engines.discard(engine)
        engine.close()
        self._watch_idle()

    def _watch_idle(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if not self._engines and not self._listeners:
            self._idle = asyncio.get_running_loop().call_later(self._idle_seconds, self._ended.set)
