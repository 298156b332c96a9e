"""One request without an event loop, for commands whose start-up time is felt.

Importing asyncio takes longer than a fully cached build; a command that sends one request and reads one stream of
documents needs only a socket.
"""

from __future__ import annotations

import itertools
import json
import socket
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, BinaryIO

from tare.client.endpoint import Endpoint
from tare.client.failures import connection_error, error_of, interrupted
from tare.errors import DataCorrupt, Unavailable

Document = dict[str, Any]


class Answer:
    """An answer of JSON documents, one per line; a context manager, leaving it ends the request."""

    def __init__(self, connection: socket.socket, stream: BinaryIO, headers: dict[str, str]) -> None:
        self._connection = connection
        self._stream = stream
        self._headers = headers

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._stream.close()
        self._connection.close()

    def documents(self) -> Iterator[Document]:
        """The documents as they come. Raises Unavailable when the engine goes away in the middle, DataCorrupt."""
        rest = b""
        try:
            for chunk in self._chunks():
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (json.loads(line) for line in lines if line.strip())
            if rest.strip():
                yield json.loads(rest)
        except ConnectionError as error:
            raise interrupted() from error
        except ValueError as error:
            raise DataCorrupt(f"the engine's answer is not JSON: {rest[:80]!r}") from error

    def read(self) -> bytes:
        """The whole body."""
        return b"".join(self._chunks())

    def _chunks(self) -> Iterator[bytes]:
        if self._headers.get("transfer-encoding", "").lower() != "chunked":
            length = self._headers.get("content-length")
            data = self._stream.read(int(length)) if length is not None else self._stream.read()
            if length is not None and len(data) < int(length):
                raise interrupted()
            yield data
            return
        while True:
            size = self._stream.readline()
            if not size.endswith(b"\n"):
                raise interrupted()
            count = int(size.split(b";")[0], 16)
            chunk = self._stream.read(count + 2)
            if len(chunk) < count + 2:
                raise interrupted()
            if not count:
                return
            yield chunk[:-2]


def post(
    endpoint: Endpoint, path: str, document: object, *, body: Iterable[bytes] | None = None, start: bool = True
) -> Answer:
    """Send ``document`` and read the head of the answer; the default engine is started when it does not run.

    ``body`` is sent behind the document as it comes, until the engine has heard enough. Raises what the engine's error
    answer says, Unavailable when nobody listens, Forbidden.
    """
    try:
        connection = _connect(endpoint)
    except Unavailable as error:
        if error.code != "engine-down" or not (start and endpoint.is_default):
            raise
        _start(endpoint)
        connection = _connect(endpoint)
    stream = connection.makefile("rb")
    try:
        data = json.dumps(document).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: tare\r\nUser-Agent: tare\r\nConnection: close\r\n"
        if body is None:
            kind = f"Content-Length: {len(data)}\r\nContent-Type: application/json\r\n\r\n"
            connection.sendall(head.encode() + kind.encode() + data)
        else:
            _send_framed(connection, head, data, body)
        status, headers = _read_head(stream)
        answer = Answer(connection, stream, headers)
        if status >= 400:
            raise error_of(status, answer.read())
    except BaseException as error:
        stream.close()
        connection.close()
        if isinstance(error, ConnectionError):
            raise Unavailable(f"the engine at {endpoint} closed the connection") from error
        raise
    return answer


def _send_framed(connection: socket.socket, head: str, data: bytes, body: Iterable[bytes]) -> None:
    """The document and what follows it, in chunks (RFC 9112, 7.1)."""
    head += f"Content-Type: application/vnd.tare.build\r\nTare-Document-Length: {len(data)}\r\n"
    connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
    try:
        for chunk in itertools.chain((data,), body):
            if chunk:
                connection.sendall(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
        connection.sendall(b"0\r\n\r\n")
    except (BrokenPipeError, ConnectionResetError):
        return  # the engine has ended the build early; its answer says why


def _connect(endpoint: Endpoint) -> socket.socket:
    try:
        if not endpoint.path:
            return socket.create_connection((endpoint.address, endpoint.port))
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(endpoint.path)
        except BaseException:
            connection.close()
            raise
        return connection
    except OSError as error:
        raise connection_error(endpoint, error) from error


def _start(endpoint: Endpoint) -> None:
    import asyncio

    from tare.client.launcher import start_engine

    asyncio.run(start_engine(endpoint))


def _read_head(stream: BinaryIO) -> tuple[int, dict[str, str]]:
    line = stream.readline(1 << 16)
    if not line:
        raise ConnectionResetError("no answer")
    parts = line.split(None, 2)
    if len(parts) < 2 or not parts[0].startswith(b"HTTP/1.") or not parts[1].isdigit():
        raise DataCorrupt(f"the engine's answer is not HTTP: {line[:80]!r}")
    headers: dict[str, str] = {}
    while (line := stream.readline(1 << 16)) not in (b"\r\n", b"\n", b""):
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    return int(parts[1]), headers
