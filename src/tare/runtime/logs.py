"""Reads the log that conmon writes: one record ``<time> <stream> <F|P> <text>`` per line or piece of a line.

F ends a line of the program, P is a piece without its newline, so that the program's bytes can be had back exactly.
Lines come in batches, as tuples: a log of a gigabyte has tens of millions of them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tare.runtime.log_files import LogFile, LogReading, seek_tail

LogRecord = tuple[int, bytes, bytes]
"""A line: stream (1 stdout, 2 stderr), time of its first byte, and its bytes with the newline that the program wrote.

Times are RFC 3339 in UTC with nine decimals and without the zone, so that they sort as they are.
"""
LogBatch = list[LogRecord]

MAX_LINE = 1 << 20
"""Bytes of one line that are put together; a longer line comes in several parts."""
_BLOCK = 1 << 18
_TIME = len("2026-01-02T03:04:05.123456789")
_HEAD = _TIME + len("+00:00 stdout F ")
_WHOLE = {b"+00:00 stdout F ": 1, b"+00:00 stderr F ": 2}
_MARK = b"+00:00 std"
_RECORD = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}\+00:00 std(?:out|err) [FP] ")
_NUMBERS = {b"stdout": 1, b"stderr": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """Which lines: stream numbers, times as in :data:`LogRecord` (empty: no limit), the last ``tail`` lines."""

    streams: frozenset[int] = frozenset({1, 2})
    since: bytes = b""
    until: bytes = b""
    tail: int | None = None


@dataclass(slots=True)
class LineJoiner:
    """Turns log records into the program's lines. Pure: feed bytes, take lines."""

    _rest: bytes = b""
    _partial: dict[int, tuple[bytes, bytearray]] = field(default_factory=dict)

    def feed(self, data: bytes) -> LogBatch:
        """Lines completed by ``data``; records that are not in the format are passed over."""
        if self._rest:
            data = self._rest + data
        end = data.rfind(b"\n")
        if end < 0:
            self._rest = data if len(data) <= MAX_LINE else b""
            return []
        self._rest = data[end + 1 :]
        records = data[:end].split(b"\n")
        if data.count(_MARK, 0, end) != len(records):
            records = [part for record in records for part in _untorn(record)]
        lines: LogBatch = []
        append, partial, whole = lines.append, self._partial, _WHOLE
        for record in records:
            stream = whole.get(record[_TIME:_HEAD])
            if stream and stream not in partial:
                append((stream, record[:_TIME], record[_HEAD:] + b"\n"))
            else:
                self._piece(record, append)
        return lines

    def flush(self) -> LogBatch:
        """What has come without a newline."""
        lines = [(stream, moment, bytes(data)) for stream, (moment, data) in self._partial.items()]
        self._partial.clear()
        return lines

    def _piece(self, record: bytes, append: Callable[[LogRecord], None]) -> None:
        fields = record.split(b" ", 3)
        if len(fields) != 4 or fields[1] not in _NUMBERS:
            return
        stream = _NUMBERS[fields[1]]
        moment, data = self._partial.pop(stream, (b"", bytearray()))
        moment = moment or _utc(fields[0])
        data += fields[3]
        if fields[2] == b"F":
            append((stream, moment, bytes(data) + b"\n"))
        elif len(data) >= MAX_LINE:
            append((stream, moment, bytes(data)))
        else:
            self._partial[stream] = (moment, data)


def _untorn(record: bytes) -> list[bytes]:
    """Where the disk was full a record breaks off and a later one follows on the same line: take them apart.

    What a program prints has an older time in it than the record around it, so it is not taken for one.
    """
    parts = []
    begun = _RECORD.match(record)
    while found := _RECORD.search(record, 1 if begun else 0):
        if begun and found[0][:_TIME] <= record[:_TIME]:
            break
        if begun:
            parts.append(record[: found.start()])
        record, begun = record[found.start() :], found
    return [*parts, record]


def _utc(moment: bytes) -> bytes:
    """conmon's local time as UTC, with all nine decimals."""
    if moment.endswith((b"Z", b"+00:00")):
        return moment[:_TIME]
    text = moment.decode(errors="replace")
    try:
        whole, _, rest = text.partition(".")
        local = datetime.fromisoformat(whole + rest[9:])
    except ValueError:
        return moment
    return f"{local.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{rest[:9]}".encode()


def log_time(nanoseconds: int) -> bytes:
    """Nanoseconds since the epoch as a time of :data:`LogRecord`."""
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{fraction:09d}".encode()
    except (ValueError, OverflowError):
        return b"0001" if nanoseconds < 0 else b"9999"


def select(lines: LogBatch, query: LogQuery) -> tuple[LogBatch, bool]:
    """The lines that ``query`` asks for, and whether a line came after its end."""
    if query.since:
        lines = [line for line in lines if line[1] >= query.since]
    past = False
    if query.until:
        known = len(lines)
        lines = [line for line in lines if line[1] <= query.until]
        past = len(lines) < known
    if len(query.streams) == 1:
        lines = [line for line in lines if line[0] in query.streams]
    return lines, past


async def read_logs(reading: LogReading, query: LogQuery, done: asyncio.Event | None = None) -> AsyncIterator[LogBatch]:
    """The lines of the opened logs that ``query`` asks for.

    ``tail`` counts the last lines of both streams before any are left out (as in Docker). A reading that follows goes
    on until ``done`` is set, woken by the kernel; a line is handed out when its newline has come, or the program has
    ended.
    """
    if query.tail is not None:
        await asyncio.to_thread(seek_tail, reading.files, query.tail)
    joiner = LineJoiner()
    finished = done is None or not reading.follows
    while True:
        last_round = finished or (done is not None and done.is_set())
        if last_round and not finished:
            await reading.catch_up()
        async for lines in _to_end(reading, joiner):
            chosen, past = select(lines, query)
            if chosen:
                yield chosen
            if past:
                return
        if last_round:
            chosen, _ = select(joiner.flush(), query)
            if chosen:
                yield chosen
            return
        assert done is not None
        await reading.wait_more(done)


async def _to_end(reading: LogReading, joiner: LineJoiner) -> AsyncIterator[LogBatch]:
    """All that is there now; a file ends for good when there is a next one."""
    while True:
        has_next = len(reading.files) > 1 or reading.take_next()
        if not reading.files:
            return
        while lines := await asyncio.to_thread(_read_block, reading.files[0], joiner):
            yield lines
        if not has_next:
            reading.check_complete()
            return
        reading.drop_first()


def _read_block(file: LogFile, joiner: LineJoiner) -> LogBatch:
    """Lines of the next block of ``file``; empty at its end. Blocks of unfinished lines are read on."""
    while data := file.read(_BLOCK):
        if lines := joiner.feed(data):
            return lines
    return []
