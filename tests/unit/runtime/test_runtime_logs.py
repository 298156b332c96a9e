"""conmon's log, read back byte for byte, over several files and while it grows."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tare.errors import Unavailable
from tare.runtime import log_files
from tare.runtime.log_files import LogFile
from tare.runtime.log_rotation import LogKeeper
from tare.runtime.logs import MAX_LINE, LineJoiner, LogBatch, LogQuery, LogRecord, log_time, read_logs

LOG = (
    b"2024-05-01T10:00:00.000000001+00:00 stdout F one\n"
    b"2024-05-01T10:00:01.000000000+00:00 stderr P tw\n"
    b"2024-05-01T10:00:02.000000000+00:00 stdout F  three \r\n"
    b"2024-05-01T10:00:03.000000000+00:00 stderr F o\n"
    b"2024-05-01T10:00:04.000000000+00:00 stdout F \n"
    b"2024-05-01T10:00:05.000000000+00:00 stdout P end\n"
)
ONE: LogRecord = (1, b"2024-05-01T10:00:00.000000001", b"one\n")
THREE: LogRecord = (1, b"2024-05-01T10:00:02.000000000", b" three \r\n")
TWO: LogRecord = (2, b"2024-05-01T10:00:01.000000000", b"two\n")
EMPTY: LogRecord = (1, b"2024-05-01T10:00:04.000000000", b"\n")
END: LogRecord = (1, b"2024-05-01T10:00:05.000000000", b"end")
HEAD = b"2024-05-01T10:00:00.000000000+00:00 stdout F "


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "container.log"
    path.write_bytes(LOG)
    return path


@pytest.fixture
async def keeper() -> AsyncIterator[LogKeeper]:
    made = LogKeeper()
    yield made
    await made.close()


async def lines(keeper: LogKeeper, path: Path, **options: object) -> LogBatch:
    with await keeper.open(path, follow=False) as reading:
        query = LogQuery(**options)  # type: ignore[arg-type]
        return [line async for batch in read_logs(reading, query) for line in batch]


async def test_lines_are_put_together_and_the_missing_newline_stays_missing(keeper: LogKeeper, log: Path) -> None:
    assert await lines(keeper, log) == [ONE, THREE, TWO, EMPTY, END]


async def test_streams_are_chosen(keeper: LogKeeper, log: Path) -> None:
    assert await lines(keeper, log, streams=frozenset({2})) == [TWO]
    assert await lines(keeper, log, streams=frozenset({1})) == [ONE, THREE, EMPTY, END]


async def test_time_is_chosen(keeper: LogKeeper, log: Path) -> None:
    moment = b"2024-05-01T10:00:02.000000000"
    assert await lines(keeper, log, since=moment) == [THREE, EMPTY, END]
    assert await lines(keeper, log, until=moment) == [ONE, THREE, TWO]


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, []), (1, [END]), (2, [EMPTY, END]), (5, [ONE, THREE, TWO, EMPTY, END]), (99, [ONE, THREE, TWO, EMPTY, END])],
)
async def test_the_tail(keeper: LogKeeper, log: Path, count: int, expected: LogBatch) -> None:
    assert await lines(keeper, log, tail=count) == expected


@pytest.mark.parametrize("count", [1, 10, 4000, 20000])
async def test_the_tail_of_a_long_log(keeper: LogKeeper, tmp_path: Path, count: int) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"".join(HEAD + b"%d\n" % n for n in range(20000)))
    found = await lines(keeper, path, tail=count)
    assert [data for _, _, data in found] == [b"%d\n" % n for n in range(20000 - count, 20000)]


async def test_a_missing_log_is_empty(keeper: LogKeeper, tmp_path: Path) -> None:
    assert await lines(keeper, tmp_path / "none") == []
    assert await lines(keeper, tmp_path / "none" / "none") == []


def spread(tmp_path: Path) -> Path:
    """Thirty lines over four files; the ninth and the nineteenth line go over two files each."""
    log = tmp_path / "container.log"
    pieces = [b"".join(HEAD + b"%d\n" % n for n in range(first, first + 9)) for first in (0, 10, 20)]
    begun, ended = HEAD.replace(b" F ", b" P "), HEAD
    (tmp_path / "container.log.3.gz").write_bytes(gzip.compress(pieces[0] + begun + b"nine-\n"))
    (tmp_path / "container.log.2").write_bytes(ended + b"teen\n" + pieces[1] + begun + b"twenty-\n")
    (tmp_path / "container.log.1").write_bytes(ended + b"less\n" + pieces[2])
    (tmp_path / "container.log.1.gz.part").write_bytes(b"half of it")
    log.write_bytes(begun + b"end\n")
    return log


ALL = [
    *(b"%d\n" % n for n in range(9)), b"nine-teen\n", *(b"%d\n" % n for n in range(10, 19)), b"twenty-less\n",
    *(b"%d\n" % n for n in range(20, 29)), b"end",
]  # fmt: skip


async def test_all_files_are_read_in_order(keeper: LogKeeper, tmp_path: Path) -> None:
    assert [data for _, _, data in await lines(keeper, spread(tmp_path))] == ALL


@pytest.mark.parametrize("count", range(32))
async def test_the_tail_goes_over_all_files(keeper: LogKeeper, tmp_path: Path, count: int) -> None:
    found = await lines(keeper, spread(tmp_path), tail=count)
    assert [data for _, _, data in found] == (ALL[-count:] if count else [])


async def test_a_damaged_compressed_file_costs_no_other(keeper: LogKeeper, tmp_path: Path) -> None:
    log = spread(tmp_path)
    packed = tmp_path / "container.log.3.gz"
    packed.write_bytes(packed.read_bytes()[:-12])
    found = [data for _, _, data in await lines(keeper, log)]
    assert found[-20:] == ALL[-20:]
    packed.write_bytes(b"no archive")
    assert [data for _, _, data in await lines(keeper, log)] == [b"teen\n", *ALL[10:]]


class Follower:
    """Reads a log in the background."""

    def __init__(self, keeper: LogKeeper, log: Path, **options: object) -> None:
        self.done = asyncio.Event()
        self.seen: LogBatch = []
        self.came = asyncio.Event()
        self._query = LogQuery(**options)  # type: ignore[arg-type]
        self.task = asyncio.create_task(self._read(keeper, log))

    async def _read(self, keeper: LogKeeper, log: Path) -> None:
        with await keeper.open(log, follow=True) as self.reading:
            self.came.set()
            async for batch in read_logs(self.reading, self._query, self.done):
                self.seen += batch
                self.came.set()

    async def until(self, count: int) -> list[bytes]:
        """The texts seen once there are ``count``."""
        async with asyncio.timeout(10):
            while len(self.seen) < count:
                self.came.clear()
                await self.came.wait()
        return [data for _, _, data in self.seen]

    async def end(self) -> list[bytes]:
        self.done.set()
        async with asyncio.timeout(10):
            await self.task
        return [data for _, _, data in self.seen]


async def test_following_waits_for_what_comes_and_ends(keeper: LogKeeper, log: Path) -> None:
    follower = Follower(keeper, log)
    await follower.until(4)
    with log.open("ab", buffering=0) as writer:
        writer.write(HEAD + b"new\n")
        assert await follower.until(5) == [b"one\n", b" three \r\n", b"two\n", b"\n", b"endnew\n"]
        writer.write(HEAD.replace(b" F ", b" P ") + b"last")
        writer.write(b"\n")
    assert (await follower.end())[5:] == [b"last"]


async def test_following_a_rotated_log_loses_nothing(keeper: LogKeeper, log: Path) -> None:
    follower = Follower(keeper, log, since=b"2024-05-01T10:00:04")
    await follower.until(1)
    for number in range(3):
        with log.open("ab", buffering=0) as writer:
            log.rename(log.with_name(f"container.log.{number + 1}"))
            writer.write(HEAD.replace(b":00:00.", b":00:09.") + b"late %d\n" % number)
        log.write_bytes(HEAD.replace(b":00:00.", b":00:09.") + b"early %d\n" % number)
        follower.reading.hand_in(LogFile(log))
        follower.reading.hand_in(LogFile(log))  # twice is once
    expected = [b"\n", b"endlate 0\n", b"early 0\n", b"late 1\n", b"early 1\n", b"late 2\n", b"early 2\n"]
    assert await follower.until(7) == expected
    assert await follower.end() == expected


async def test_a_file_that_nobody_handed_in_is_read_at_the_end(keeper: LogKeeper, log: Path) -> None:
    follower = Follower(keeper, log, since=b"2024-05-01T10:00:04")
    await follower.until(1)
    log.rename(log.with_name("container.log.1"))
    log.write_bytes(HEAD.replace(b":00:00.", b":00:09.") + b"last\n")
    assert await follower.end() == [b"\n", b"endlast\n"]


async def test_a_follower_that_is_far_too_slow_is_told(
    keeper: LogKeeper, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_files, "BACKLOG_FILES", 3)
    with await keeper.open(log, follow=True) as reading:
        for number in range(4):
            log.rename(log.with_name(f"container.log.{number + 1}"))
            log.write_bytes(HEAD + b"%d\n" % number)
            reading.hand_in(LogFile(log))
        seen: list[bytes] = []
        with pytest.raises(Unavailable, match="faster than it is read"):
            async for batch in read_logs(reading, LogQuery(), asyncio.Event()):
                seen += [data for _, _, data in batch]
    assert seen[-2:] == [b"end0\n", b"1\n"]


def test_records_in_pieces_and_rubbish() -> None:
    joiner = LineJoiner()
    seen = [line for index in range(len(LOG)) for line in joiner.feed(LOG[index : index + 1])]
    assert seen == [ONE, THREE, TWO, EMPTY]
    assert joiner.feed(b"rubbish\n\nx nostream F y\n2024-05-01T10:00:06.000000000+02:00 stderr F z\n") == [
        (2, b"2024-05-01T08:00:06.000000000", b"z\n")
    ]
    assert joiner.flush() == [END]


def test_a_line_without_end_does_not_fill_the_memory() -> None:
    joiner = LineJoiner()
    record = b"2024-05-01T10:00:00.000000000+00:00 stdout P " + b"x" * 65536 + b"\n"
    seen = [line for _ in range(40) for line in joiner.feed(record)]
    assert [len(data) for _, _, data in seen] == [MAX_LINE, MAX_LINE]


def test_a_record_that_the_full_disk_cut_off_hides_no_later_one() -> None:
    later = b"2024-05-01T11:00:00.000000000+00:00 stderr F after\n"
    for cut in (len(HEAD) + 2, len(HEAD), 20, 3):
        torn = (HEAD + b"before\n")[:cut] + later
        texts = [data for _, _, data in LineJoiner().feed(torn)]
        assert texts[-1] == b"after\n"
        assert texts[:-1] == {len(HEAD) + 2: [b"be\n"], len(HEAD): [b"\n"]}.get(cut, [])


def test_what_a_program_prints_is_not_taken_for_a_record() -> None:
    quoted = b"x 2024-05-01T09:00:00.000000000+00:00 stdout F y"
    assert LineJoiner().feed(HEAD + quoted + b"\n") == [(1, HEAD[:29], quoted + b"\n")]


@pytest.mark.parametrize(
    ("number", "expected"),
    [(1_500_000_000, b"1970-01-01T00:00:01.500000000"), (10**22, b"9999"), (-(10**22), b"0001")],
)
def test_times_are_texts_that_sort(number: int, expected: bytes) -> None:
    assert log_time(number) == expected
