"""Reads the log that conmon writes: one record ``<time> <stream> <F|P> <text>`` per line or piece of a line.

F ends a line of the program, P is a piece without its newline, so that the program's bytes can be had back exactly.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Literal

from tare.kernel.inotify import IN_MODIFY, Inotify

MAX_LINE = 1 << 20
"""Bytes of one line that are put together; a longer line comes in several parts."""
_BLOCK = 1 << 16


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of output (with its newline, if the program wrote one) and the time of its first byte, RFC 3339 UTC."""

    stream: Literal["stdout", "stderr"]
    timestamp: str
    data: bytes


@dataclass(slots=True)
class LineJoiner:
    """Turns log records into the program's lines. Pure: feed bytes, take lines."""

    _rest: bytes = b""
    _partial: dict[str, tuple[str, bytearray]] = field(default_factory=dict)

    def feed(self, data: bytes) -> Iterator[LogLine]:
        """Lines completed by ``data``; records that are not in the format are passed over."""
        *records, self._rest = (self._rest + data).split(b"\n")
        for record in records:
            yield from self._record(record)

    def flush(self) -> Iterator[LogLine]:
        """What has come without a newline."""
        for stream, (timestamp, data) in list(self._partial.items()):
            yield LogLine("stderr" if stream == "stderr" else "stdout", timestamp, bytes(data))
        self._partial.clear()

    def _record(self, record: bytes) -> Iterator[LogLine]:
        fields = record.split(b" ", 3)
        if len(fields) != 4 or fields[1] not in (b"stdout", b"stderr"):
            return
        stream: Literal["stdout", "stderr"] = "stderr" if fields[1] == b"stderr" else "stdout"
        timestamp, data = self._partial.pop(stream, ("", bytearray()))
        timestamp = timestamp or _utc(fields[0].decode(errors="replace"))
        data += fields[3]
        if fields[2] == b"F":
            yield LogLine(stream, timestamp, bytes(data) + b"\n")
        elif len(data) >= MAX_LINE:
            yield LogLine(stream, timestamp, bytes(data))
        else:
            self._partial[stream] = (timestamp, data)


def _utc(timestamp: str) -> str:
    """conmon's local time as UTC, with all nine decimals."""
    if timestamp.endswith("Z"):
        return timestamp
    if timestamp.endswith("+00:00"):
        return f"{timestamp[:-6]}Z"
    try:
        whole, _, rest = timestamp.partition(".")
        local = datetime.fromisoformat(whole + rest[9:])
    except ValueError:
        return timestamp
    return f"{local.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{rest[:9]}Z"


def nanoseconds(timestamp: str) -> int:
    """An RFC 3339 UTC time as nanoseconds since the epoch; 0 when it cannot be read."""
    try:
        whole, _, rest = timestamp.rstrip("Z").partition(".")
        return int(datetime.fromisoformat(f"{whole}+00:00").timestamp()) * 1_000_000_000 + int(rest.ljust(9, "0")[:9])
    except ValueError:
        return 0


async def read_logs(
    path: Path,
    *,
    stdout: bool = True,
    stderr: bool = True,
    since: int | None = None,
    until: int | None = None,
    tail: int | None = None,
    follow: bool = False,
    done: asyncio.Event | None = None,
) -> AsyncIterator[LogLine]:
    """The lines of the log at ``path``; a missing log is empty.

    ``since`` and ``until`` are nanoseconds since the epoch; ``tail`` counts the last lines of both streams, before any
    are left out (as in Docker); ``follow`` goes on until ``done`` is set, woken by the kernel; a line is handed out
    when its newline has come, or the program has ended.
    """
    try:
        stream = await asyncio.to_thread(path.open, "rb", buffering=0)
    except FileNotFoundError:
        return
    wanted = {name for name, on in (("stdout", stdout), ("stderr", stderr)) if on}
    with stream:
        if tail is not None:
            await asyncio.to_thread(_seek_tail, stream, tail)
        lines = _follow(stream, path, done or asyncio.Event()) if follow else _read(stream, LineJoiner(), final=True)
        async for line in lines:
            moment = nanoseconds(line.timestamp) if since is not None or until is not None else 0
            if until is not None and moment > until:
                return
            if line.stream in wanted and (since is None or moment >= since):
                yield line


async def _read(stream: BinaryIO, joiner: LineJoiner, *, final: bool) -> AsyncIterator[LogLine]:
    while data := await asyncio.to_thread(stream.read, _BLOCK):
        for line in joiner.feed(data):
            yield line
    if final:
        for line in joiner.flush():
            yield line


async def _follow(stream: BinaryIO, path: Path, done: asyncio.Event) -> AsyncIterator[LogLine]:
    joiner = LineJoiner()
    with Inotify() as inotify:
        inotify.watch(path, IN_MODIFY)
        ended = asyncio.ensure_future(done.wait())
        try:
            while True:
                last_round = done.is_set()
                async for line in _read(stream, joiner, final=last_round):
                    yield line
                if last_round:
                    return
                changed = asyncio.ensure_future(inotify.wait_changed())
                try:
                    await asyncio.wait({changed, ended}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    changed.cancel()
        finally:
            ended.cancel()


def _seek_tail(stream: BinaryIO, count: int) -> None:
    """Move to the start of the last ``count`` lines, reading backwards from the end."""
    end = stream.seek(0, os.SEEK_END)
    if count <= 0:
        return
    position, data, target, block = end, b"", 0, _BLOCK
    while position > 0:
        step = min(block, position)
        block *= 2  # the data are looked at anew in each round
        position -= step
        stream.seek(position)
        data = _read_exactly(stream, step) + data
        found = _line_starts(data, count, whole=position == 0)
        if found is not None:
            target = position + found
            break
    stream.seek(target)


def _read_exactly(stream: BinaryIO, size: int) -> bytes:
    parts = b""
    while len(parts) < size and (part := stream.read(size - len(parts))):
        parts += part
    return parts


def _line_starts(data: bytes, count: int, *, whole: bool) -> int | None:
    """Offset in ``data`` where the last ``count`` lines begin, None when more must be read; ``whole``: it is all."""
    start = 0 if whole else data.find(b"\n") + 1
    if start == 0 and not whole:
        return None
    ends: list[int] = []
    offset = start
    for record in data[start:].split(b"\n"):
        offset += len(record) + 1
        fields = record.split(b" ", 3)
        if len(fields) == 4 and fields[2] == b"F":
            ends.append(offset)
    trailing = 1 if not ends or ends[-1] < len(data) else 0
    needed = count - trailing
    if len(ends) > needed:
        return ends[len(ends) - needed - 1]
    return start if whole else None
