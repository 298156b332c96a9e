"""Attaching through a WebSocket, by a client library that knows nothing of Docker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from engine_process import EngineProcess

pytestmark = [pytest.mark.root, pytest.mark.e2e]

ALL = "stream=1&stdin=1&stdout=1&stderr=1"
SECONDS = 30


@pytest.fixture
async def session(host: EngineProcess) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(host.socket))) as opened:
        yield opened


def path(name: str, query: str = ALL, version: str = "/v1.51") -> str:
    return f"http://tare{version}/containers/{name}/attach/ws?{query}"


async def received(socket: aiohttp.ClientWebSocketResponse, count: int) -> bytes:
    """The next ``count`` bytes, which must come in binary messages."""
    data = b""
    async with asyncio.timeout(SECONDS):
        while len(data) < count:
            data += await socket.receive_bytes()
    return data


async def closed(socket: aiohttp.ClientWebSocketResponse) -> int | None:
    """Wait for the end, before which nothing may come; returns the code that it came with."""
    message = await socket.receive(SECONDS)
    assert message.type is aiohttp.WSMsgType.CLOSE, message
    return socket.close_code


def run(host: EngineProcess, *arguments: str) -> str:
    host.docker("run", "-d", "--name", "web", *arguments)
    return "web"


async def test_without_a_terminal(host: EngineProcess, session: aiohttp.ClientSession) -> None:
    script = "read x; echo got $x; echo wrong >&2; exec cat"
    name = run(host, "-i", "busybox", "sh", "-c", script)
    binary = bytes(range(256)) * 4096
    async with session.ws_connect(path(name)) as socket:
        await socket.send_str("text\n")  # both kinds of messages are input
        seen = await received(socket, len(b"got text\nwrong\n"))
        assert sorted(seen.splitlines()) == [b"got text", b"wrong"]
        sending = asyncio.create_task(socket.send_bytes(binary))
        assert await received(socket, len(binary)) == binary
        await sending
        host.docker("kill", name)
        assert await closed(socket) == 1000


async def test_a_terminal_and_its_detach_keys(host: EngineProcess, session: aiohttp.ClientSession) -> None:
    name = run(host, "-it", "busybox", "sh", "-c", "stty -echo; echo ready; read x; echo got $x; exec cat")
    async with session.ws_connect(path(name, f"{ALL}&logs=1&detachKeys=ctrl-a,b")) as socket:
        assert await received(socket, len(b"ready\r\n")) == b"ready\r\n"
        await socket.send_bytes(b"hello\r")
        assert await received(socket, len(b"got hello\r\n")) == b"got hello\r\n"
        await socket.send_bytes(b"\x01")
        await socket.send_bytes(b"b")
        assert await closed(socket) == 1000
    assert host.text("inspect", "-f", "{{.State.Running}}", name) == "true"
    async with session.ws_connect(path(name)) as socket:
        await socket.send_bytes(b"again\r")
        assert await received(socket, len(b"again\r\n")) == b"again\r\n"
        await socket.send_bytes(b"\x10\x11")
        assert await closed(socket) == 1000


async def test_attached_before_the_start(host: EngineProcess, session: aiohttp.ClientSession) -> None:
    host.docker("create", "-i", "--name", "web", "busybox", "sh", "-c", "echo first; read x; echo $x")
    async with session.ws_connect(path("web")) as socket:
        host.docker("start", "web")
        assert await received(socket, 6) == b"first\n"
        await socket.send_bytes(b"last\n")
        assert await received(socket, 5) == b"last\n"
        assert await closed(socket) == 1000


@pytest.mark.parametrize(
    ("version", "query", "seen"),
    [
        ("/v1.41", "stream=1&logs=1", b"out\nwrong\n"),  # streams that are not mentioned are wanted
        ("/v1.51", "logs=1&stdout=1", b"out\n"),
        ("/v1.51", "logs=1&stderr=1", b"wrong\n"),
        ("/v1.51", "stream=1&stdin=0", b""),
        ("", "stdout=1", b""),
    ],
)
async def test_only_what_is_asked_for(
    host: EngineProcess, session: aiohttp.ClientSession, version: str, query: str, seen: bytes
) -> None:
    name = run(host, "busybox", "sh", "-c", "echo out; echo wrong >&2; exec sleep 1000")
    with host.start_docker("logs", "-f", name) as log:  # both lines are in the log now
        assert log.stdout and log.stderr
        assert (log.stdout.readline(), log.stderr.readline()) == (b"out\n", b"wrong\n")
        log.kill()
    async with session.ws_connect(path(name, query, version)) as socket:
        assert await received(socket, len(seen)) == seen
        if version == "/v1.41":
            host.docker("kill", name)
        assert await closed(socket) == 1000


async def test_old_versions_get_text(host: EngineProcess, session: aiohttp.ClientSession) -> None:
    name = run(host, "-i", "busybox", "cat")
    async with session.ws_connect(path(name, version="/v1.27")) as socket:
        await socket.send_bytes("wört\n".encode())
        assert await socket.receive_str(timeout=SECONDS) == "wört\n"


async def test_refusals_come_before_the_upgrade(host: EngineProcess, session: aiohttp.ClientSession) -> None:
    name = run(host, "-i", "busybox", "cat")

    async def refused(address: str) -> int:
        with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
            await session.ws_connect(address)
        return raised.value.status

    assert await refused(path("ghost")) == 404
    assert await refused(path(name, f"{ALL}&detachKeys=ctrl-nothing")) == 400
    async with session.get(path(name)) as answer:  # no WebSocket at all
        document = await answer.json()
        assert (answer.status, document["code"]) == (400, "not-websocket")
        assert document["message"].startswith("not websocket protocol")
    host.docker("pause", name)
    assert await refused(path(name)) == 409
    host.docker("unpause", name)


async def test_clients_that_vanish_leave_nothing(host: EngineProcess, session: aiohttp.ClientSession) -> None:
    name = run(host, "-i", "busybox", "sh", "-c", "while read x; do echo got $x; done; echo ended; exec sleep 1000")
    descriptors = Path(f"/proc/{host.pid}/fd")

    async def attach_and_vanish(*, rudely: bool) -> None:
        connector = aiohttp.UnixConnector(str(host.socket))
        async with aiohttp.ClientSession(connector=connector) as own:
            socket = await own.ws_connect(path(name))
            await socket.send_bytes(b"me\n")
            assert await received(socket, 7) == b"got me\n"
            if rudely:
                await connector.close()  # the socket closes without a word of the protocol
            await socket.close()

    await attach_and_vanish(rudely=False)
    before = len(list(descriptors.iterdir()))
    for number in range(20):
        await attach_and_vanish(rudely=number % 2 == 0)
    async with session.ws_connect(path(name)) as socket:  # its input has not ended with any of them
        await socket.send_bytes(b"you\n")
        assert await received(socket, 8) == b"got you\n"
    assert len(list(descriptors.iterdir())) < before + 10
    assert host.text("inspect", "-f", "{{.State.Running}}", name) == "true"
