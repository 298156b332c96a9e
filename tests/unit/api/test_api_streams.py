"""Connections taken over from HTTP: framing, end of stdin, back pressure, clients that vanish."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator

import pytest
from api_fakes import CONTAINER_ID, FakeEngine, FakeProcess, make_container

from tare.api.streams import HIGH_WATER, frame, stream_type
from tare.engine.requests import ExecConfig
from tare.model.container import ContainerConfig

UPGRADE = "Connection: Upgrade\r\nUpgrade: tcp\r\n"
ATTACH = "stdin=1&stdout=1&stderr=1&stream=1"


class Client:
    """A hijacking client that speaks bytes, so that what is on the wire is what is asserted."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, target: str, *, headers: str = UPGRADE, body: bytes = b"", tail: bytes = b"") -> bytes:
        head = f"POST {target} HTTP/1.1\r\nHost: docker\r\n{headers}Content-Length: {len(body)}\r\n"
        if body:
            head += "Content-Type: application/json\r\n"
        self.writer.write(head.encode() + b"\r\n" + body + tail)
        await self.writer.drain()
        async with asyncio.timeout(5):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def frame(self) -> tuple[int, bytes]:
        async with asyncio.timeout(5):
            stream, length = struct.unpack(">BxxxL", await self.reader.readexactly(8))
            return stream, await self.reader.readexactly(length)

    async def rest(self) -> bytes:
        async with asyncio.timeout(5):
            return await self.reader.read()


@pytest.fixture
async def client(socket_path: str) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_unix_connection(socket_path)
    yield Client(reader, writer)
    writer.close()
    await writer.wait_closed()


def test_frame_has_docker_s_header() -> None:
    assert frame(2, b"abc") == b"\x02\x00\x00\x00\x00\x00\x00\x03abc"
    assert frame(1, b"") == b"\x01" + bytes(7)


@pytest.mark.parametrize(
    ("tty", "version", "expected"),
    [
        (False, (1, 51), "application/vnd.docker.multiplexed-stream"),
        (False, (1, 42), "application/vnd.docker.multiplexed-stream"),
        (False, (1, 41), "application/vnd.docker.raw-stream"),
        (True, (1, 51), "application/vnd.docker.raw-stream"),
    ],
)
def test_stream_type(tty: bool, version: tuple[int, int], expected: str) -> None:
    assert stream_type(tty=tty, version=version) == expected


async def test_attach_upgrades_and_frames(engine: FakeEngine, client: Client) -> None:
    engine.containers.add(make_container())
    engine.containers.process = FakeProcess([(1, b"out"), (2, b"err")])
    head = await client.ask(f"/containers/web/attach?{ATTACH}")
    assert head == (
        b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n"
        b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    )
    assert await client.rest() == frame(1, b"out") + frame(2, b"err")


async def test_attach_without_upgrade_answers_200(engine: FakeEngine, client: Client) -> None:
    engine.containers.add(make_container())
    engine.containers.process = FakeProcess(echo=True)
    head = await client.ask(f"/containers/web/attach?{ATTACH}", headers="")
    assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n")
    client.writer.write(b"GET / HTTP/1.1\r\n\r\n")  # stdin that looks like a request is stdin
    assert await client.frame() == (1, b"GET / HTTP/1.1\r\n\r\n")


async def test_a_terminal_s_output_is_raw(engine: FakeEngine, client: Client) -> None:
    engine.containers.add(make_container(config=ContainerConfig(tty=True)))
    engine.containers.process = FakeProcess([(1, b"\x1b[1mbold")])
    head = await client.ask(f"/v1.41/containers/web/attach?{ATTACH}")
    assert b"application/vnd.docker.raw-stream" in head
    assert await client.rest() == b"\x1b[1mbold"


async def test_stdin_sent_with_the_request_is_not_lost(engine: FakeEngine, client: Client) -> None:
    engine.containers.add(make_container())
    engine.containers.process = FakeProcess(echo=True)
    await client.ask(f"/containers/web/attach?{ATTACH}", tail=b"early")
    assert await client.frame() == (1, b"early")
    client.writer.write(b"later")
    assert await client.frame() == (1, b"later")


async def test_half_close_is_end_of_stdin_and_output_goes_on(engine: FakeEngine, client: Client) -> None:
    engine.containers.add(make_container())
    process = engine.containers.process = FakeProcess()
    await client.ask(f"/containers/web/attach?{ATTACH}")
    client.writer.write(b"last words")
    client.writer.write_eof()
    async with asyncio.timeout(5):
        await process.eof.wait()
    assert bytes(process.received) == b"last words"
    process.emit(1, b"still here")
    assert await client.frame() == (1, b"still here")
    process.end()
    assert await client.rest() == b""
    assert process.closed.is_set()


async def test_a_client_that_vanishes_after_half_close_is_noticed(engine: FakeEngine, socket_path: str) -> None:
    engine.containers.add(make_container())
    process = engine.containers.process = FakeProcess()
    client = Client(*await asyncio.open_unix_connection(socket_path))
    await client.ask(f"/containers/web/attach?{ATTACH}")
    client.writer.write_eof()
    async with asyncio.timeout(5):
        await process.eof.wait()
        assert not process.closed.is_set()
        client.writer.close()
        await process.closed.wait()


async def test_a_client_that_vanishes_lets_go_of_a_silent_process(engine: FakeEngine, socket_path: str) -> None:
    engine.containers.add(make_container())
    process = engine.containers.process = FakeProcess()
    client = Client(*await asyncio.open_unix_connection(socket_path))
    await client.ask("/containers/web/attach?stdout=1&stream=1")
    client.writer.close()
    async with asyncio.timeout(5):
        await process.closed.wait()
    assert not process.eof.is_set()


async def test_stdin_is_dropped_where_it_is_not_attached(engine: FakeEngine, client: Client) -> None:
    engine.containers.add(make_container())
    process = engine.containers.process = FakeProcess()
    await client.ask("/containers/web/attach?stdout=1&stream=1")
    client.writer.write(b"ignored")
    client.writer.write_eof()
    process.emit(1, b"x")
    assert await client.frame() == (1, b"x")
    process.end()
    assert await client.rest() == b""
    assert (bytes(process.received), process.eof.is_set()) == (b"", False)


async def test_a_process_that_does_not_read_holds_the_client_back(engine: FakeEngine, client: Client) -> None:
    engine.containers.add(make_container())
    process = engine.containers.process = FakeProcess()
    process.may_read.clear()
    await client.ask(f"/containers/web/attach?{ATTACH}")
    payload = bytes(range(256)) * 4096 * 16  # 16 MB, far more than the sockets and the buffer hold
    client.writer.write(payload)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await client.writer.drain()
    assert len(payload) - client.writer.transport.get_write_buffer_size() < HIGH_WATER + (2 << 20)
    process.may_read.set()
    async with asyncio.timeout(10):
        await client.writer.drain()
        client.writer.write_eof()
        await process.eof.wait()
    assert bytes(process.received) == payload
    process.end()
    assert await client.rest() == b""


async def test_a_client_that_does_not_read_holds_the_process_back(engine: FakeEngine, client: Client) -> None:
    class Endless(FakeProcess):
        made = 0

        async def __aiter__(self) -> AsyncIterator[tuple[int, bytes]]:
            while self.made < 64 << 20:
                self.made += 1 << 16
                yield 1, bytes(1 << 16)
                await asyncio.sleep(0)

    engine.containers.add(make_container())
    process = engine.containers.process = Endless()
    await client.ask("/containers/web/attach?stdout=1&stream=1")
    client.reader._transport.pause_reading()  # type: ignore[attr-defined]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await process.closed.wait()
    assert process.made < 8 << 20
    client.reader._transport.resume_reading()  # type: ignore[attr-defined]
    assert len(await client.rest()) == 1024 * (8 + (1 << 16))


async def test_exec_start_reads_its_body_before_the_stream(engine: FakeEngine, client: Client) -> None:
    exec_id = await engine.execs.create(CONTAINER_ID, ExecConfig(cmd=("cat",), attach_stdin=True))
    engine.execs.process = FakeProcess(echo=True)
    body = b'{"Detach": false, "Tty": false, "ConsoleSize": null}'
    head = await client.ask(f"/v1.51/exec/{exec_id}/start", body=body, tail=b"stdin")
    assert head.startswith(b"HTTP/1.1 101 UPGRADED\r\n")
    assert await client.frame() == (1, b"stdin")


async def test_exec_head_goes_out_before_the_command_runs(engine: FakeEngine, client: Client) -> None:
    # docker-py reads streams past its own buffer: what came together with the head would be lost to it
    engine.execs.may_start = asyncio.Event()
    engine.execs.process = FakeProcess([(1, b"x")])
    exec_id = await engine.execs.create(CONTAINER_ID, ExecConfig(cmd=("cat",)))
    async with asyncio.timeout(5):
        head = await client.ask(f"/exec/{exec_id}/start", body=b"{}")
    assert head.startswith(b"HTTP/1.1 101 UPGRADED\r\n")
    engine.execs.may_start.set()
    assert await client.frame() == (1, b"x")


async def test_exec_stream_stays_open_until_the_exit_code_is_there(engine: FakeEngine, client: Client) -> None:
    class Slow(FakeProcess):
        ended = asyncio.Event()

        async def wait(self) -> int:
            await self.ended.wait()
            return 0

    process = engine.execs.process = Slow([(1, b"x")])
    exec_id = await engine.execs.create(CONTAINER_ID, ExecConfig(cmd=("cat",)))
    await client.ask(f"/exec/{exec_id}/start", body=b"{}")
    assert await client.frame() == (1, b"x")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await client.reader.read()
    process.ended.set()
    assert await client.rest() == b""


async def test_attach_to_an_unknown_container_stays_http(client: Client) -> None:
    head = await client.ask("/containers/ghost/attach?stream=1")
    assert head.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert b"application/json" in head


async def test_closing_the_server_ends_streams(engine: FakeEngine, client: Client) -> None:
    engine.containers.add(make_container())
    await client.ask("/containers/web/attach?stdout=1&stream=1")
    # The fixture closes the server now, with the stream open: it must not wait for the process.
