"""conmon's log, read back byte for byte."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tare.runtime.logs import MAX_LINE, LineJoiner, LogLine, nanoseconds, read_logs

LOG = (
    b"2024-05-01T10:00:00.000000001+00:00 stdout F one\n"
    b"2024-05-01T10:00:01.000000000+00:00 stderr P tw\n"
    b"2024-05-01T10:00:02.000000000+00:00 stdout F  three \r\n"
    b"2024-05-01T10:00:03.000000000+00:00 stderr F o\n"
    b"2024-05-01T10:00:04.000000000+00:00 stdout F \n"
    b"2024-05-01T10:00:05.000000000+00:00 stdout P end\n"
)
ONE = LogLine("stdout", "2024-05-01T10:00:00.000000001Z", b"one\n")
THREE = LogLine("stdout", "2024-05-01T10:00:02.000000000Z", b" three \r\n")
TWO = LogLine("stderr", "2024-05-01T10:00:01.000000000Z", b"two\n")
EMPTY = LogLine("stdout", "2024-05-01T10:00:04.000000000Z", b"\n")
END = LogLine("stdout", "2024-05-01T10:00:05.000000000Z", b"end")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    path.write_bytes(LOG)
    return path


async def lines(path: Path, **options: object) -> list[LogLine]:
    return [line async for line in read_logs(path, **options)]  # type: ignore[arg-type]


async def test_lines_are_put_together_and_the_missing_newline_stays_missing(log: Path) -> None:
    assert await lines(log) == [ONE, THREE, TWO, EMPTY, END]


async def test_streams_are_chosen(log: Path) -> None:
    assert await lines(log, stdout=False) == [TWO]
    assert await lines(log, stderr=False) == [ONE, THREE, EMPTY, END]


async def test_time_is_chosen(log: Path) -> None:
    moment = nanoseconds("2024-05-01T10:00:02.000000000Z")
    assert await lines(log, since=moment) == [THREE, EMPTY, END]
    assert await lines(log, until=moment) == [ONE, THREE, TWO]


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, []), (1, [END]), (2, [EMPTY, END]), (5, [ONE, THREE, TWO, EMPTY, END]), (99, [ONE, THREE, TWO, EMPTY, END])],
)
async def test_the_tail(log: Path, count: int, expected: list[LogLine]) -> None:
    assert await lines(log, tail=count) == expected


@pytest.mark.parametrize("count", [1, 10, 4000, 20000])
async def test_the_tail_of_a_long_log(tmp_path: Path, count: int) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"".join(b"2024-05-01T10:00:00.000000000+00:00 stdout F %d\n" % n for n in range(20000)))
    found = await lines(path, tail=count)
    assert [line.data for line in found] == [b"%d\n" % n for n in range(20000 - count, 20000)]


async def test_a_missing_log_is_empty(tmp_path: Path) -> None:
    assert await lines(tmp_path / "none") == []


async def test_following_waits_for_what_comes_and_ends(log: Path) -> None:
    done = asyncio.Event()
    seen: list[LogLine] = []
    reached = asyncio.Event()

    async def read() -> None:
        async for line in read_logs(log, tail=0, follow=True, done=done):
            seen.append(line)
            reached.set()

    reader = asyncio.create_task(read())
    writer = log.open("ab", buffering=0)
    with writer:
        while not reached.is_set():
            writer.write(b"2024-05-01T11:00:00.000000000+00:00 stdout F new\n")
            await asyncio.wait({asyncio.ensure_future(reached.wait())}, timeout=0.05)
        writer.write(b"2024-05-01T11:00:00.000000000+00:00 stdout P last")
        writer.write(b"\n")
    done.set()
    await reader
    assert {line.data for line in seen[:-1]} == {b"new\n"}
    assert seen[-1].data == b"last"


def test_records_in_pieces_and_rubbish() -> None:
    joiner = LineJoiner()
    seen = [line for index in range(len(LOG)) for line in joiner.feed(LOG[index : index + 1])]
    assert seen == [ONE, THREE, TWO, EMPTY]
    assert list(joiner.feed(b"rubbish\n\nx nostream F y\n2024-05-01T10:00:06.000000000+02:00 stderr F z\n")) == [
        LogLine("stderr", "2024-05-01T08:00:06.000000000Z", b"z\n")
    ]
    assert list(joiner.flush()) == [END]


def test_a_line_without_end_does_not_fill_the_memory() -> None:
    joiner = LineJoiner()
    record = b"2024-05-01T10:00:00.000000000+00:00 stdout P " + b"x" * 65536 + b"\n"
    seen = [line for _ in range(40) for line in joiner.feed(record)]
    assert [len(line.data) for line in seen] == [MAX_LINE, MAX_LINE]


@pytest.mark.parametrize(("text", "expected"), [("1970-01-01T00:00:01.5Z", 1_500_000_000), ("never", 0)])
def test_times_are_numbers(text: str, expected: int) -> None:
    assert nanoseconds(text) == expected
