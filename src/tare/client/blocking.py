"""One request with a stream of documents as its answer, without an event loop."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any

from tare.client.endpoint import Endpoint
from tare.client.failures import error_of
from tare.client.http import Response, read_head
from tare.client.transport import Reader, Writer, connect_socket, drive
from tare.errors import Unavailable

Document = dict[str, Any]


class Answer:
    """An answer of JSON documents, one per line; a context manager, leaving it ends the request."""

    def __init__(self, response: Response) -> None:
        self._response = response

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._response.close()

    def documents(self) -> Iterator[Document]:
        """The documents as they come. Raises Unavailable when the engine goes away in the middle, DataCorrupt."""
        coming = self._response.documents()
        while (document := drive(_next(coming))) is not None:
            yield document

    def read(self) -> bytes:
        """The whole body."""
        return drive(self._response.read())


async def _next(coming: Any) -> Document | None:
    found: Document | None = await anext(coming, None)
    return found


def post(
    endpoint: Endpoint,
    path: str,
    document: object,
    *,
    body: Iterable[bytes] | None = None,
    headers: Mapping[str, str] | None = None,
    start: bool = True,
) -> Answer:
    """Send ``document`` and read the head of the answer; the default engine is started when it does not run.

    ``body`` is sent behind the document as it comes, until the engine has heard enough. Raises what the engine's error
    answer says, Unavailable when nobody listens, Forbidden.
    """
    reader, writer = _connect(endpoint, start=start)
    try:
        data = json.dumps(document).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: tare\r\nUser-Agent: tare\r\nConnection: close\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        if body is None:
            kind = f"Content-Length: {len(data)}\r\nContent-Type: application/json\r\n\r\n"
            writer.write(head.encode() + kind.encode() + data)
        else:
            _send_framed(writer, head, data, body)
        response = drive(read_head(reader, writer))
        if response.status >= 400:
            raise error_of(response.status, drive(response.read()))
    except BaseException as error:
        writer.close()
        if isinstance(error, ConnectionError | EOFError):
            raise Unavailable(f"the engine at {endpoint} closed the connection") from error
        raise
    return Answer(response)


def _connect(endpoint: Endpoint, *, start: bool) -> tuple[Reader, Writer]:
    try:
        return drive(connect_socket(endpoint))
    except Unavailable as error:
        if error.code != "engine-down" or not (start and endpoint.is_default):
            raise
    import asyncio

    from tare.client.launcher import start_engine

    asyncio.run(start_engine(endpoint))
    return drive(connect_socket(endpoint))


def _send_framed(writer: Writer, head: str, data: bytes, body: Iterable[bytes]) -> None:
    """The document and what follows it, in chunks (RFC 9112, 7.1)."""
    head += f"Content-Type: application/vnd.tare.build\r\nTare-Document-Length: {len(data)}\r\n"
    writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
    try:
        for chunk in itertools.chain((data,), body):
            if chunk:
                writer.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
        writer.write(b"0\r\n\r\n")
    except (BrokenPipeError, ConnectionResetError):
        return  # the engine has ended the build early; its answer says why
