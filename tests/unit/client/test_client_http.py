from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tare.client.client import Client
from tare.client.endpoint import Endpoint
from tare.client.failures import error_of, is_answer
from tare.client.http import encode_query
from tare.client.streams import demultiplex
from tare.errors import Conflict, DataCorrupt, InternalError, InvalidArgument, NotFound, TareError, Unavailable

Serve = Callable[[bytes], Awaitable[tuple[Client, list[bytes]]]]


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """A server that gives one prepared answer and keeps what it was sent."""
    servers = []

    async def start(answer: bytes) -> tuple[Client, list[bytes]]:
        received: list[bytes] = []

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            received.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(answer)
            await writer.drain()
            writer.close()

        path = str(tmp_path / "s")
        servers.append(await asyncio.start_unix_server(handle, path))
        return Client(f"unix://{path}"), received

    yield start
    for server in servers:
        server.close()
        await server.wait_closed()


async def test_answer_with_a_length(serve: Serve) -> None:
    client, received = await serve(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")
    assert await client.containers.list(everything=True, filters={"status": ["exited"]}) == []
    assert received[0].startswith(
        b"GET /containers/json?all=1&filters=%7B%22status%22%3A+%5B%22exited%22%5D%7D HTTP/1.1"
    )


async def test_answer_in_chunks(serve: Serve) -> None:
    client, _ = await serve(
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n{"a":1\r\n2\r\n}\n\r\n0\r\n\r\n'
    )
    assert await client.system.version() == {"a": 1}


async def test_documents_over_chunk_borders(serve: Serve) -> None:
    client, _ = await serve(
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"a":\r\n9\r\n1}\r\n{"a":\r\n3\r\n2}\n\r\n0\r\n\r\n'
    )
    assert [event["a"] async for event in client.system.events()] == [1, 2]


async def test_answer_cut_off(serve: Serve) -> None:
    client, _ = await serve(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{")
    with pytest.raises(Unavailable, match="in the middle of its answer"):
        await client.system.version()


async def test_connection_closed_without_an_answer(serve: Serve) -> None:
    client, _ = await serve(b"")
    with pytest.raises(Unavailable, match="closed the connection"):
        await client.system.version()


@pytest.mark.parametrize("answer", [b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nnot"])
async def test_not_the_protocol(serve: Serve, answer: bytes) -> None:
    client, _ = await serve(answer)
    with pytest.raises(DataCorrupt):
        await client.system.version()


async def test_error_answer(serve: Serve) -> None:
    body = b'{"message":"No such container: x"}'
    client, _ = await serve(b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    with pytest.raises(NotFound, match=r"^No such container: x$") as caught:
        await client.containers.inspect("x")
    assert is_answer(caught.value)


async def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"cannot connect to the Tare engine at unix://.*is tared running") as caught:
        await Client(f"unix://{tmp_path}/none").system.version()
    assert not is_answer(caught.value)


def test_hint_is_not_said_twice() -> None:
    error = error_of(409, b'{"message":"name taken (choose another)","hint":"choose another","code":"name"}')
    assert isinstance(error, Conflict)
    assert (error.message, error.hint, error.code) == ("name taken", "choose another", "name")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]"])
def test_error_without_a_document(body: bytes) -> None:
    error = error_of(500, body)
    assert type(error) is InternalError
    assert error.message


def test_query() -> None:
    assert encode_query({"a": True, "b": False, "c": None, "d": 0, "e": ["x", "y"], "f": ""}) == "a=1&d=0&e=x&e=y"


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("unix:///run/x.sock", Endpoint(path="/run/x.sock")),
        ("tcp://127.0.0.1:2375", Endpoint(address="127.0.0.1", port=2375)),
        ("tcp://[::1]:2375/", Endpoint(address="::1", port=2375)),
    ],
)
def test_endpoints(text: str, endpoint: Endpoint) -> None:
    assert Endpoint.parse(text) == endpoint


@pytest.mark.parametrize(
    "text", ["", "/run/x", "unix://relative", "tcp://host", "tcp://:80", "tcp://h:0", "http://h:1"]
)
def test_endpoints_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="unable to parse engine host"):
        Endpoint.parse(text)


async def _pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def _frame(stream: int, data: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


@pytest.mark.parametrize("size", [1, 3, 8, 100])
async def test_frames_over_any_border(size: int) -> None:
    data = _frame(1, b"hello") + _frame(2, b"err") + _frame(1, b"") + _frame(1, b"!")
    found = {1: b"", 2: b""}
    async for stream, piece in demultiplex(_pieces(*(data[i : i + size] for i in range(0, len(data), size)))):
        found[stream] += piece
    assert found == {1: b"hello!", 2: b"err"}


async def test_neighbouring_frames_are_one_piece_and_streams_keep_their_order() -> None:
    data = b"".join(_frame(stream, text) for stream, text in [(1, b"a"), (1, b"b"), (2, b"c"), (1, b""), (2, b"d")])
    data += _frame(1, b"ef")
    pieces = [piece async for piece in demultiplex(_pieces(data[:-1], data[-1:]))]
    assert pieces == [(1, b"ab"), (2, b"c"), (2, b"d"), (1, b"e"), (1, b"f")]


async def test_error_in_the_stream() -> None:
    with pytest.raises(TareError, match="error from the engine in stream: disk"):
        async for _ in demultiplex(_pieces(_frame(3, b"disk"))):
            pass
