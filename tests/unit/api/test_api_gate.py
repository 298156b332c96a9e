"""The gate between socket and aiohttp: what is passed on, what is held back, and until when."""

from __future__ import annotations

import asyncio

import pytest
from api_fakes import FakeEngine, make_container

from tare.api.gate import Gate

UPGRADE = b"POST /x HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"


class Recorder(asyncio.Protocol):
    def __init__(self) -> None:
        self.data = b""

    def data_received(self, data: bytes) -> None:
        self.data += data


@pytest.fixture
def http() -> Recorder:
    return Recorder()


def test_plain_requests_pass(http: Recorder) -> None:
    gate = Gate(http)
    request = b"POST /x HTTP/1.1\r\nHost: d\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n"
    gate.data_received(request)
    body = b"Upgrade: tcp\r\n\r\nrest"
    gate.data_received(body)
    gate.data_received(b"x" + UPGRADE + b"\r\n")
    assert http.data == request + body + b"x" + UPGRADE + b"\r\n"


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (UPGRADE + b"\r\n", b""),
        (UPGRADE + b"Content-Length: 0\r\n\r\n", b""),
        (UPGRADE + b"content-length:  5\r\n\r\n", b"abcde"),
        (UPGRADE.replace(b"Upgrade: tcp", b"UPGRADE:TCP") + b"\r\n", b""),
    ],
)
def test_what_follows_an_upgrade_request_is_held_back(http: Recorder, head: bytes, body: bytes) -> None:
    gate = Gate(http)
    gate.data_received(head + body + b"early")
    gate.data_received(b" bird")
    assert http.data == head + body
    assert gate.take() == b"early bird"
    assert gate.take() == b""


def test_a_body_in_pieces(http: Recorder) -> None:
    gate = Gate(http)
    head = UPGRADE + b"Content-Length: 5\r\n\r\n"
    for piece in (head + b"ab", b"c", b"de", b"x", b"y"):
        gate.data_received(piece)
    assert http.data == head + b"abcde"
    assert gate.take() == b"xy"


def test_an_upgrade_to_something_else_is_not_ours(http: Recorder) -> None:
    gate = Gate(http)
    request = UPGRADE.replace(b"tcp", b"websocket") + b"\r\nframes"
    gate.data_received(request)
    assert (http.data, gate.take()) == (request, b"")


def test_opening_gives_back_what_was_held(http: Recorder) -> None:
    gate = Gate(http)
    gate.data_received(UPGRADE + b"\r\nGET / HTTP/1.1\r\n\r\n")
    gate.open()
    assert http.data.endswith(b"GET / HTTP/1.1\r\n\r\n")
    gate.open()
    gate.data_received(b"more")
    assert http.data.endswith(b"more")


async def test_a_declined_upgrade_leaves_the_connection_usable(engine: FakeEngine, socket_path: str) -> None:
    engine.containers.add(make_container())
    reader, writer = await asyncio.open_unix_connection(socket_path)
    writer.write(
        UPGRADE.replace(b"/x", b"/containers/ghost/attach?stdout=1") + b"\r\nGET /_ping HTTP/1.1\r\nHost: d\r\n\r\n"
    )
    async with asyncio.timeout(5):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 404 ")
        assert await reader.readuntil(b"}\n") == b'{"message":"No such container: ghost"}\n'
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
        assert await reader.readexactly(2) == b"OK"
    writer.close()
    await writer.wait_closed()
