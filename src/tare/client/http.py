"""A small HTTP/1.1 client for one request per connection, over asyncio's streams or a plain socket.

It exists for start-up time: importing aiohttp takes about 130 ms on a two-core machine, the interpreter with asyncio
40 ms, and ``tare ps`` talks to its engine for 3 ms. It does what the Engine API needs: bodies with a length or in
chunks, answers that go on for ever, and connections that are taken over (``Upgrade: tcp``).
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlencode

from tare.client.endpoint import Endpoint
from tare.client.failures import error_of, interrupted
from tare.client.transport import CHUNK, Reader, Writer, connect_socket, connect_streams
from tare.errors import DataCorrupt, Unavailable

Query = Mapping[str, "str | int | bool | list[str] | None"]
Body = AsyncIterator[bytes]


class Response:
    """An answer whose body is read piece by piece; close it (or use it as a context manager) when done."""

    def __init__(self, status: int, headers: Mapping[str, str], reader: Reader, writer: Writer) -> None:
        self.status = status
        self.headers = headers
        self.reader = reader
        self.writer = writer

    async def __aenter__(self) -> Response:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; idempotent."""
        self.writer.close()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises Unavailable when the engine goes away in the middle."""
        if self.status in (204, 304):
            return
        try:
            if self.headers.get("transfer-encoding", "").lower() == "chunked":
                while size := int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16):
                    yield (await self.reader.readexactly(size + 2))[:-2]
                return
            length = self.headers.get("content-length")
            left = int(length) if length is not None else -1
            while left and (data := await self.reader.read(CHUNK if left < 0 else min(left, CHUNK))):
                left -= len(data) if left > 0 else 0
                yield data
            if left > 0:
                raise interrupted()
        except (EOFError, ConnectionError) as error:
            raise interrupted() from error
        except ValueError as error:
            raise DataCorrupt("the engine's answer is not HTTP") from error

    async def read(self) -> bytes:
        """The whole body."""
        return b"".join([chunk async for chunk in self.chunks()])

    async def json(self) -> Any:
        """The body as JSON; None when it is empty. Raises DataCorrupt."""
        data = await self.read()
        if not data.strip():
            return None
        return _decode(data)

    async def documents(self) -> AsyncIterator[dict[str, Any]]:
        """A body of JSON documents, one per line, as they come."""
        rest = b""
        async for chunk in self.chunks():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if line.strip():
                    yield _decode(line)
        if rest.strip():
            yield _decode(rest)


def _decode(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise DataCorrupt(f"the engine's answer is not JSON: {data[:80]!r}") from error


def encode_query(query: Query) -> str:
    """A query string; members that are None, False or empty are left out, True is 1."""
    pairs = []
    for name, value in query.items():
        if value is None or value is False or value in ("", []):
            continue
        values = value if isinstance(value, list) else ["1" if value is True else str(value)]
        pairs += [(name, one) for one in values]
    return urlencode(pairs)


def segment(text: str) -> str:
    """``text`` as part of a path: slashes of image names stay."""
    return quote(text, safe="/:@")


async def request(
    endpoint: Endpoint,
    method: str,
    path: str,
    *,
    query: Query | None = None,
    document: object = None,
    body: Body | None = None,
    headers: Mapping[str, str] | None = None,
    upgrade: bool = False,
    blocking: bool = False,
) -> Response:
    """Send one request and read the head of the answer; ``blocking`` takes a plain socket, see ``transport.drive``.

    Raises what the engine's error answer says (see :mod:`tare.client.failures`), Unavailable when nobody listens.
    """
    if query and (text := encode_query(query)):
        path = f"{path}?{text}"
    reader, writer = await (connect_socket(endpoint) if blocking else connect_streams(endpoint))
    try:
        await _send(writer, method, path, document, body, headers=headers or {}, upgrade=upgrade)
        response = await read_head(reader, writer)
        if response.status >= 400 or response.status == 304:
            raise error_of(response.status, b"" if method == "HEAD" else await response.read())
    except BaseException as error:
        writer.close()
        if isinstance(error, ConnectionError | EOFError):
            raise Unavailable(f"the engine at {endpoint} closed the connection") from error
        raise
    return response


async def _send(
    writer: Writer,
    method: str,
    path: str,
    document: object,
    body: Body | None,
    *,
    headers: Mapping[str, str],
    upgrade: bool,
) -> None:
    head = [f"{method} {path} HTTP/1.1", "Host: tare", "User-Agent: tare"]
    head += ["Connection: Upgrade", "Upgrade: tcp"] if upgrade else ["Connection: close"]
    head += [f"{name}: {value}" for name, value in headers.items()]
    data = b"" if document is None else json.dumps(document).encode()
    if body is not None:
        head += ["Transfer-Encoding: chunked", "Content-Type: application/x-tar"]
    elif data or method == "POST":
        head += [f"Content-Length: {len(data)}", "Content-Type: application/json"]
    writer.write("\r\n".join([*head, "", ""]).encode() + data)
    await writer.drain()
    if body is None:
        return
    try:
        async for chunk in body:
            if chunk:
                writer.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
                await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()
    except ConnectionError:
        return  # the engine has heard enough; its answer says why


async def read_head(reader: Reader, writer: Writer) -> Response:
    """The head of an answer. Raises DataCorrupt, EOFError when there is none."""
    status_line = await reader.readuntil(b"\r\n")
    parts = status_line.split(None, 2)
    if len(parts) < 2 or not parts[0].startswith(b"HTTP/1.") or not parts[1].isdigit():
        raise DataCorrupt(f"the engine's answer is not HTTP: {status_line[:80]!r}")
    headers: dict[str, str] = {}
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    return Response(int(parts[1]), headers, reader, writer)
