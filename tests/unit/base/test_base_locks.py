"""The lock that is shared or held alone; durations."""

from __future__ import annotations

import asyncio

import pytest

from tare.base.durations import parse_duration
from tare.base.locks import SharedLock


async def test_sharing_and_holding_alone() -> None:
    lock, told = SharedLock(), []
    entered, leave = asyncio.Event(), asyncio.Event()

    async def share() -> None:
        async with lock.shared():
            told.append("shared")
            entered.set()
            await leave.wait()

    async def alone() -> None:
        async with lock.exclusive():
            told.append("alone")

    first = asyncio.create_task(share())
    await entered.wait()
    async with lock.shared():
        told.append("beside")
    waiting = asyncio.create_task(alone())
    await asyncio.sleep(0)
    late = asyncio.create_task(share())
    await asyncio.sleep(0)
    assert told == ["shared", "beside"]
    leave.set()
    await asyncio.gather(first, waiting, late)
    assert told == ["shared", "beside", "alone", "shared"]


async def test_who_is_cancelled_while_waiting_holds_nothing() -> None:
    lock = SharedLock()
    async with lock.shared():
        waiting = asyncio.create_task(_hold_alone(lock))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        async with asyncio.timeout(5), lock.shared():
            pass
    async with asyncio.timeout(5), lock.exclusive():
        pass


async def _hold_alone(lock: SharedLock) -> None:
    async with lock.exclusive():
        raise AssertionError("somebody still shares it")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("48h", 172800.0),
        ("1h30m", 5400.0),
        ("1.5s", 1.5),
        ("250ms", 0.25),
        ("0", 0.0),
        *((text, None) for text in ("", "1", "2d", "h", "1h 2m", "-1h", "1h2")),
    ],
)
def test_durations(text: str, seconds: float | None) -> None:
    assert parse_duration(text) == seconds
