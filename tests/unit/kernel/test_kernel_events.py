"""Process ends and file changes, told by the kernel."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tare.kernel.inotify import IN_CREATE, IN_MODIFY, Inotify
from tare.kernel.pidfd import PidFd


async def test_all_waiters_see_the_end_of_a_process() -> None:
    child = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    with child, PidFd(child.pid) as handle:
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write(b"x")  # once it answers, execve(2) is over and its arguments are there
        assert child.stdout.read(1) == b"x"
        assert handle.command_line() == ["/bin/cat"]
        waiters = [asyncio.create_task(handle.wait_ended()) for _ in range(3)]
        cancelled = asyncio.create_task(handle.wait_ended())
        await asyncio.wait({cancelled}, timeout=0.01)
        cancelled.cancel()
        assert not any(waiter.done() for waiter in waiters)
        assert handle.send_signal(signal.SIGKILL)
        await asyncio.gather(*waiters)
        child.wait()
        assert not handle.send_signal(signal.SIGKILL)
        assert handle.command_line() == []
        await handle.wait_ended()


def test_no_process_no_handle() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    with pytest.raises(ProcessLookupError):
        PidFd(child.pid)


async def test_changes_are_told_once(tmp_path: Path) -> None:
    with Inotify() as inotify:
        inotify.watch(tmp_path, IN_CREATE | IN_MODIFY)
        for name in ("a", "b"):
            (tmp_path / name).write_text("x")
        await inotify.wait_changed()
        quiet = asyncio.create_task(inotify.wait_changed())
        done, _ = await asyncio.wait({quiet}, timeout=0.01)
        assert not done
        (tmp_path / "c").touch()
        await quiet


async def test_a_missing_path_is_named(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError) as caught, Inotify() as inotify:
        inotify.watch(tmp_path / "none", IN_MODIFY)
    assert caught.value.filename == str(tmp_path / "none")
    assert len(os.listdir("/proc/self/fd")) == before
