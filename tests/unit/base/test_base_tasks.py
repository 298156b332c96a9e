"""Locks, shared operations, programs and clean-up under cancellation."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading

import pytest

from tare.base.locks import KeyedLocks
from tare.base.logs import configure, subject
from tare.base.process import run
from tare.base.shielding import finish, to_end
from tare.base.single_flight import SingleFlight
from tare.errors import Conflict, Unavailable


async def settle() -> None:
    """Let every task that can run do so."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_one_holder_per_key_in_order_of_arrival() -> None:
    locks, order = KeyedLocks(), []

    async def work(name: str) -> None:
        async with locks.hold("a"):
            order.append(f"{name} in")
            await settle()
            order.append(f"{name} out")

    await asyncio.gather(work("1"), work("2"), work("3"))
    assert order == ["1 in", "1 out", "2 in", "2 out", "3 in", "3 out"]
    assert len(locks) == 0


async def test_keys_do_not_wait_for_each_other() -> None:
    locks = KeyedLocks()
    async with locks.hold("a"), asyncio.timeout(5), locks.hold("b"):
        assert len(locks) == 2
    assert len(locks) == 0


async def test_lock_after_errors_and_cancelled_waiters() -> None:
    locks = KeyedLocks()
    with pytest.raises(Conflict):
        async with locks.hold("a"):
            raise Conflict("no")

    async def wait() -> None:
        async with locks.hold("a"):
            pass

    async with locks.hold("a"):
        waiter = asyncio.create_task(wait())
        await settle()
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
    assert len(locks) == 0


class Operation:
    """Counts its starts; ends when told."""

    def __init__(self) -> None:
        self.started = 0
        self.cancelled = 0
        self.end = asyncio.Event()

    async def __call__(self) -> int:
        self.started += 1
        number = self.started
        try:
            await self.end.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return number


async def test_callers_share_one_operation() -> None:
    flight: SingleFlight[int] = SingleFlight()
    operation = Operation()
    callers = [asyncio.create_task(flight.do("k", operation)) for _ in range(3)]
    await settle()
    operation.end.set()
    assert (await asyncio.gather(*callers), operation.started) == ([1, 1, 1], 1)
    assert await flight.do("k", operation) == 2


async def test_other_keys_have_operations_of_their_own() -> None:
    flight: SingleFlight[int] = SingleFlight()
    operation = Operation()
    operation.end.set()
    assert sorted(await asyncio.gather(flight.do("a", operation), flight.do("b", operation))) == [1, 2]


async def test_all_callers_get_the_error() -> None:
    flight: SingleFlight[int] = SingleFlight()

    async def fail() -> int:
        await settle()
        raise Conflict("taken")

    results = await asyncio.gather(flight.do("k", fail), flight.do("k", fail), return_exceptions=True)
    assert [str(result) for result in results] == ["taken", "taken"]
    with pytest.raises(Conflict):
        await flight.do("k", fail)


async def test_a_cancelled_caller_does_not_end_the_others() -> None:
    flight: SingleFlight[int] = SingleFlight()
    operation = Operation()
    first, second = (asyncio.create_task(flight.do("k", operation)) for _ in range(2))
    await settle()
    first.cancel()
    await settle()
    assert (first.cancelled(), second.done(), operation.cancelled) == (True, False, 0)
    operation.end.set()
    assert await second == 1


async def test_the_last_caller_to_leave_ends_the_operation() -> None:
    flight: SingleFlight[int] = SingleFlight()
    operation = Operation()
    callers = [asyncio.create_task(flight.do("k", operation)) for _ in range(2)]
    await settle()
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    await settle()
    assert operation.cancelled == 1


async def test_a_caller_that_comes_while_the_operation_dies_starts_a_new_one() -> None:
    flight: SingleFlight[str] = SingleFlight()
    dying, may_die, calls = asyncio.Event(), asyncio.Event(), []

    async def operation() -> str:
        calls.append(len(calls))
        if len(calls) > 1:
            return "second"
        try:
            await asyncio.Event().wait()
        finally:
            dying.set()
            await may_die.wait()
        return "first"

    first = asyncio.create_task(flight.do("k", operation))
    await settle()
    first.cancel()
    await dying.wait()
    assert await flight.do("k", operation) == "second"
    await settle()
    assert not first.done()  # as long as something of it is under way
    may_die.set()
    with pytest.raises(asyncio.CancelledError):
        await first
    await settle()


async def test_program_with_input_and_output() -> None:
    done = await run(["sh", "-c", "cat; echo err >&2; exit 3"], stdin=b"in")
    assert (done.returncode, done.stdout, done.stderr, done.error_text) == (3, b"in", b"err\n", "err")


async def test_error_text_falls_back_to_standard_output() -> None:
    assert (await run(["sh", "-c", "echo only; exit 1"])).error_text == "only"


async def test_program_environment_directory_and_descriptors() -> None:
    read_fd, write_fd = os.pipe()
    try:
        script = f"import os; print(os.getcwd(), dict(os.environ).get('A')); os.write({write_fd}, b'!')"
        done = await run([sys.executable, "-c", script], env={"A": "b"}, cwd="/", pass_fds=[write_fd])
        assert (done.stdout, os.read(read_fd, 9)) == (b"/ b\n", b"!")
    finally:
        os.close(read_fd)
        os.close(write_fd)


async def test_program_ended_by_a_signal() -> None:
    assert (await run(["sh", "-c", "kill -9 $$"])).returncode == -9


async def test_missing_program() -> None:
    with pytest.raises(Unavailable, match="/no/such/program: program not found") as caught:
        await run(["/no/such/program"])
    assert caught.value.code == "program-missing"


async def test_time_out_kills_the_program() -> None:
    with pytest.raises(Unavailable, match=r"sleep: no result within 0\.05 seconds"):
        await run(["sleep", "1000"], timeout=0.05)


async def test_cancellation_kills_the_program() -> None:
    read_fd, write_fd = os.pipe()
    task = asyncio.create_task(
        run(["sh", "-c", "echo > /dev/fd/$0; exec sleep 1000", str(write_fd)], pass_fds=[write_fd])
    )
    await asyncio.to_thread(os.read, read_fd, 1)
    os.close(write_fd)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(os.read, read_fd, 1) == b"", "the program still holds the pipe"
    os.close(read_fd)


async def test_clean_up_ends_although_the_caller_is_cancelled() -> None:
    steps, begun, go_on = [], asyncio.Event(), asyncio.Event()

    async def cleanup() -> None:
        begun.set()
        await go_on.wait()
        steps.append("clean")

    task = asyncio.create_task(finish(cleanup(), what="test"))
    await begun.wait()
    for _ in range(3):
        task.cancel()
        await settle()
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert steps == ["clean"]


async def test_errors_of_clean_up_are_logged_not_raised(caplog: pytest.LogCaptureFixture) -> None:
    async def cleanup() -> None:
        raise Conflict("in use")

    await finish(cleanup(), what="the volume")
    assert [record.getMessage() for record in caplog.records] == ["clean-up failed: the volume"]


async def test_clean_up_has_a_time_limit(caplog: pytest.LogCaptureFixture) -> None:
    await finish(asyncio.Event().wait(), what="the endless", seconds=0.01)
    assert "clean-up failed: the endless" in caplog.text


def test_log_lines_carry_the_subject(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    kept, level = list(root.handlers), root.level
    token = subject.set("abc123")
    try:
        configure(debug=True)
        logging.getLogger("tare.test").debug("seen")
        logging.getLogger("other").debug("unseen")
    finally:
        subject.reset(token)
        root.handlers[:] = kept
        root.setLevel(level)
        logging.getLogger("tare").setLevel(logging.NOTSET)
    shown = capsys.readouterr().err
    assert "DEBUG   abc123 tare.test: seen" in shown
    assert "unseen" not in shown


async def test_to_end_waits_for_the_thread_and_then_is_cancelled() -> None:
    release, ended = threading.Event(), threading.Event()

    def work() -> None:
        release.wait(10)
        ended.set()

    task = asyncio.create_task(to_end(asyncio.to_thread(work)))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_to_end_passes_results_and_errors() -> None:
    assert await to_end(asyncio.to_thread(lambda: 7)) == 7
    with pytest.raises(ValueError, match="invalid literal"):
        await to_end(asyncio.to_thread(int, "x"))
