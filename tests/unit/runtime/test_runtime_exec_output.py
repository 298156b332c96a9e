"""Output that comes after an exec's process has ended, on pipes of our own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

from tare.runtime.exec_output import LateOutput, open_outputs


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe whose reading end does not block and belongs to the test's object; the writing end is closed after it."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    yield reader, writer
    try:
        os.close(writer)
    except OSError:
        pass


async def test_what_is_written_comes_until_the_writer_closes(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    late, got = LateOutput({2: reader}), []

    async def collect() -> None:
        async for item in late:
            got.append(item)
            os.close(writer)

    collecting = asyncio.ensure_future(collect())
    await asyncio.sleep(0)
    os.write(writer, b"word")
    await collecting
    assert got == [(2, b"word")] and late.over.is_set()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(reader)
    await late.let_go()


async def test_who_waits_is_sent_away_and_the_writer_keeps_a_reader(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    late = LateOutput({1: reader})
    collecting = asyncio.ensure_future(_all(late))
    await asyncio.sleep(0)
    await late.let_go()
    assert await collecting == []
    for _ in range(8):  # more than a pipe holds, and no SIGPIPE
        assert await asyncio.to_thread(os.write, writer, bytes(65536)) == 65536


async def test_pipes_without_a_writer_are_just_closed(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = pipe
    os.close(writer)
    monkeypatch.setattr("tare.runtime.exec_output._DRAIN", ("/nonexistent",))
    await LateOutput({1: reader}).let_go()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(reader)


async def test_a_missing_program_is_told(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tare.runtime.exec_output._DRAIN", ("/nonexistent",))
    await LateOutput({1: pipe[0]}).let_go()
    assert "/nonexistent cannot be started" in caplog.text


def test_a_process_that_is_gone_or_has_other_pipes() -> None:
    assert open_outputs(2**22 + 1, ()) == {}  # beyond the largest process id (proc(5), pid_max)


async def _all(late: LateOutput) -> list[tuple[int, bytes]]:
    return [item async for item in late]
