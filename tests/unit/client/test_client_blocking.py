"""The client without an event loop, against a server that gives one prepared answer."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tare.client.blocking import post
from tare.client.endpoint import Endpoint
from tare.errors import DataCorrupt, Forbidden, NotFound, TareError, Unavailable

Serve = Callable[[bytes], tuple[Endpoint, list[bytes]]]
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    threads: list[threading.Thread] = []

    def start(answer: bytes) -> tuple[Endpoint, list[bytes]]:
        path = tmp_path / "s"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
        received: list[bytes] = []

        def handle() -> None:
            with listener, listener.accept()[0] as connection:
                data = b""
                while b"\r\n\r\n" not in data or not data.endswith(b"}"):
                    data += connection.recv(65536)
                received.append(data)
                connection.sendall(answer)

        threads.append(threading.Thread(target=handle))
        threads[-1].start()
        return Endpoint(path=str(path)), received

    yield start
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def test_documents_over_chunk_borders(serve: Serve) -> None:
    endpoint, received = serve(CHUNKED + b'5\r\n{"a":\r\n9\r\n1}\r\n{"a":\r\n3\r\n2}\n\r\n0\r\n\r\n')
    with post(endpoint, "/tare/build", {"context": "/x"}) as answer:
        assert list(answer.documents()) == [{"a": 1}, {"a": 2}]
    head, _, body = received[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /tare/build HTTP/1.1\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert json.loads(body) == {"context": "/x"}


def test_an_answer_with_a_length(serve: Serve) -> None:
    endpoint, _ = serve(b'HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{"a":1}')
    with post(endpoint, "/x", {}) as answer:
        assert list(answer.documents()) == [{"a": 1}]


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (CHUNKED + b'5\r\n{"a":\r\n', Unavailable, "in the middle of its answer"),
        (CHUNKED + b'9\r\n{"a"', Unavailable, "in the middle of its answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", Unavailable, "in the middle of its answer"),
        (CHUNKED + b"3\r\nno\n\r\n0\r\n\r\n", DataCorrupt, "not JSON"),
        (b"SSH-2.0\r\n", DataCorrupt, "not HTTP"),
        (b"", Unavailable, "closed the connection"),
        (b'HTTP/1.1 404 Not Found\r\nContent-Length: 26\r\n\r\n{"message":"nothing here"}', NotFound, "nothing here"),
    ],
)
def test_answers_that_are_wrong(serve: Serve, reply: bytes, kind: type[TareError], words: str) -> None:
    endpoint, _ = serve(reply)
    with pytest.raises(kind, match=words), post(endpoint, "/x", {}) as answer:
        list(answer.documents())


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot connect to the Tare engine") as caught:
        post(Endpoint(path=str(tmp_path / "s")), "/x", {})
    assert caught.value.code == "engine-down"


def test_a_socket_that_may_not_be_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(connection: socket.socket, path: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(Forbidden, match="permission denied"):
        post(Endpoint(path=str(tmp_path / "s")), "/x", {})


def test_a_stream_behind_the_document(tmp_path: Path) -> None:
    received: list[bytes] = []
    answer = CHUNKED + b'5\r\n{"a":\r\n3\r\n1}\n\r\n0\r\n\r\n'
    body = iter([b"tar", b"", b"!" * 20])
    with (
        listening(tmp_path / "s", received, answer, until=b"0\r\n\r\n") as endpoint,
        post(endpoint, "/tare/build", {"x": 1}, body=body) as found,
    ):
        assert list(found.documents()) == [{"a": 1}]
    head, _, sent = received[0].partition(b"\r\n\r\n")
    assert b"Content-Type: application/vnd.tare.build\r\nTare-Document-Length: 8\r\n" in head
    assert b"Transfer-Encoding: chunked" in head
    assert sent == b'8\r\n{"x": 1}\r\n3\r\ntar\r\n14\r\n' + b"!" * 20 + b"\r\n0\r\n\r\n"


def test_an_engine_that_has_heard_enough(tmp_path: Path) -> None:
    """It answers and goes away while there is still much to send: the answer counts, not the broken pipe."""
    failure = b'HTTP/1.1 400 Bad Request\r\nContent-Length: 22\r\n\r\n{"message":"bad tar"}\r\n'
    with listening(tmp_path / "s", [], failure, until=b"!") as endpoint, pytest.raises(TareError, match="bad tar"):
        post(endpoint, "/tare/build", {}, body=(b"!" * 65536 for _ in range(200)))


@contextmanager
def listening(path: Path, received: list[bytes], answer: bytes, *, until: bytes) -> Iterator[Endpoint]:
    """A server that reads up to ``until``, answers and closes."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def handle() -> None:
        with listener, listener.accept()[0] as connection:
            data = b""
            while until not in data:
                data += connection.recv(65536)
            received.append(data)
            connection.sendall(answer)

    thread = threading.Thread(target=handle)
    thread.start()
    yield Endpoint(path=str(path))
    thread.join(10)
    assert not thread.is_alive()
