"""Start the engine when nobody listens on the default socket.

The engine writes ``ready`` to a pipe once it listens; a lock makes several clients start only one.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tare.client.endpoint import Endpoint
from tare.errors import Forbidden, Unavailable

START_SECONDS = 60.0
"""How long a start may take: recovery of containers is part of it."""

_LOG_TAIL = 4096  # bytes of the log to look for the reason in


async def start_engine(endpoint: Endpoint, arguments: Sequence[str] = ()) -> None:
    """Start ``tared`` and wait until it listens; does nothing when another client did.

    ``arguments`` are further options of ``tared``: without them it has its default places. The lock and the log lie
    beside the socket.

    Raises Forbidden without root, Unavailable with the engine's own words when it cannot start.
    """
    if os.geteuid() != 0:
        raise Forbidden(
            f"cannot start the Tare engine: {endpoint} does not answer and only root can start it",
            hint="run the command as root, or name a running engine with --host",
        )
    directory = Path(endpoint.path).parent
    await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
    lock = os.open(directory / "start.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
        if not await _answers(endpoint):
            await _start(directory / "tared.log", arguments)
    finally:
        os.close(lock)


async def _answers(endpoint: Endpoint) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(endpoint.path)
    except OSError:
        return False
    writer.close()
    return True


async def _start(log: Path, arguments: Sequence[str]) -> None:
    ready, ready_end = os.pipe()
    try:
        before = await asyncio.to_thread(_spawn, log, ready_end, arguments)
        os.close(ready_end)
        ready_end = -1
        word = await _wait_ready(ready)
    finally:
        for fd in (ready, ready_end):
            if fd >= 0:
                os.close(fd)
    if word is None:
        raise Unavailable(f"the Tare engine did not get ready within {START_SECONDS:.0f} s", hint=f"see {log}")
    if not word:
        reason = await asyncio.to_thread(_reason, log, before)
        raise Unavailable(f"the Tare engine could not start: {reason}", hint=f"see {log}", code="engine-start")


def _spawn(log: Path, ready_end: int, arguments: Sequence[str]) -> int:
    """Start the engine; returns how long its log was before."""
    before = log.stat().st_size if log.exists() else 0
    with log.open("ab") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "tare.daemon.main", "--ready-fd", str(ready_end), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            pass_fds=[ready_end],
            start_new_session=True,
            cwd="/",
        )
    # The engine outlives this process; telling the interpreter so keeps it from warning about a running child.
    process.returncode = 0
    return before


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _wait_ready(fd: int) -> bytes | None:
    """What comes through the pipe; empty when the engine ended first, None when time is up."""
    loop = asyncio.get_running_loop()
    readable: asyncio.Future[None] = loop.create_future()
    os.set_blocking(fd, False)
    loop.add_reader(fd, _settle, readable)
    try:
        async with asyncio.timeout(START_SECONDS):
            await readable
    except TimeoutError:
        return None
    finally:
        loop.remove_reader(fd)
    return os.read(fd, 64)


def _reason(log: Path, start: int) -> str:
    with log.open("rb") as stream:
        stream.seek(max(start, log.stat().st_size - _LOG_TAIL))
        lines = stream.read().decode(errors="replace").strip().splitlines()
    own = [line for line in lines if line.startswith("tared: ")]
    return (own or lines or ["it ended without a message"])[-1].removeprefix("tared: ")
