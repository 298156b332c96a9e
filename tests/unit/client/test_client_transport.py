"""Requests without a loop: plain sockets, and the coroutines above them."""

from __future__ import annotations

import asyncio
import socket
import threading
from pathlib import Path

import pytest

from tare.client.client import Client
from tare.client.endpoint import Endpoint
from tare.client.transport import connect_socket, drive
from tare.errors import InternalError, Unavailable


@pytest.fixture
def listener(tmp_path: Path) -> socket.socket:
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "s"))
    server.listen()
    return server


def serve(listener: socket.socket, *answers: bytes) -> threading.Thread:
    def answer() -> None:
        with listener:
            for data in answers:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(data)

    thread = threading.Thread(target=answer)
    thread.start()
    return thread


def test_calls_of_a_client_without_a_loop(tmp_path: Path, listener: socket.socket) -> None:
    body = b'{"Id":"a"}\n{"Id":"b"}\n'
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    serving = serve(
        listener,
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b'HTTP/1.1 404 Not Found\r\nContent-Length: 27\r\n\r\n{"message":"no such thing"}',
        chunked,
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[",
    )
    client = Client(f"unix://{tmp_path}/s", blocking=True)

    async def first_event() -> str:
        async with await client.open("GET", "/events") as response:
            async for document in response.documents():
                return str(document["Id"])
        return ""

    assert drive(client.containers.list()) == []
    with pytest.raises(Exception, match="no such thing"):
        drive(client.containers.inspect("x"))
    assert drive(first_event()) == "a"
    with pytest.raises(Unavailable, match="in the middle"):
        drive(client.containers.list())
    serving.join()
    with pytest.raises(Unavailable, match="cannot connect"):
        drive(client.containers.list())


def test_what_waits_for_a_loop_is_refused() -> None:
    with pytest.raises(InternalError, match="waits"):
        drive(asyncio.sleep(0))


def test_a_connection_that_another_thread_closes_is_at_its_end(tmp_path: Path, listener: socket.socket) -> None:
    reader, writer = drive(connect_socket(Endpoint(path=f"{tmp_path}/s")))
    accepted, _ = listener.accept()
    found: list[bytes] = []
    reading = threading.Thread(target=lambda: found.append(drive(reader.read(100))))
    reading.start()
    writer.close()
    reading.join(timeout=30)
    assert found == [b""]
    assert (drive(reader.read(100)), writer.is_closing()) == (b"", True)
    accepted.close()
    listener.close()
