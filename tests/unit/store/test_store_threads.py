from __future__ import annotations

import asyncio
import threading

import pytest

from tare.store.threads import Abort, run_undoable


async def test_results_and_errors_pass() -> None:
    undone: list[int] = []
    assert await run_undoable(lambda _: 7, undone.append) == 7
    with pytest.raises(ZeroDivisionError):
        await run_undoable(lambda _: 1 // 0, undone.append)
    assert undone == []


async def test_cancelling_waits_for_the_work_and_undoes_it() -> None:
    loop, running, release = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    undone: list[str] = []

    def work(abort: Abort) -> str:
        loop.call_soon_threadsafe(running.set)
        release.wait()
        return "made"

    task = asyncio.create_task(run_undoable(work, undone.append))
    await running.wait()
    for _ in range(3):  # impatient callers cancel more than once
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert undone == ["made"]


async def test_work_that_checks_ends_early() -> None:
    loop, running = asyncio.get_running_loop(), asyncio.Event()

    def work(abort: Abort) -> None:
        loop.call_soon_threadsafe(running.set)
        while True:
            abort.check()

    task = asyncio.create_task(run_undoable(work, lambda _: None))
    await running.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
