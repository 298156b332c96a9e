"""Notices of memory that ran out on cgroup v2: a counter in a file, here of a directory that looks like a cgroup."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tare.kernel.cgroups import CgroupLayout
from tare.kernel.inotify import FileWatcher
from tare.kernel.oom import OomNotices, open_notices

EVENTS = "low 0\nhigh 0\nmax 9\noom 9\noom_kill {}\noom_group_kill 0\n"


@pytest.fixture
async def watcher() -> AsyncIterator[FileWatcher]:
    watcher = FileWatcher()
    yield watcher
    watcher.close()


def group_of(root: Path, kills: int) -> Path:
    group = root / "tare/x"
    group.mkdir(parents=True)
    count(group, kills)
    return group


def count(group: Path, kills: int) -> None:
    """One write in place, as the kernel's counter changes at once."""
    fd = os.open(group / "memory.events", os.O_WRONLY | os.O_CREAT, 0o644)
    os.write(fd, EVENTS.format(kills).encode())
    os.close(fd)


def notices_of(root: Path, watcher: FileWatcher, *, known: bool = False, memory: bool = True) -> OomNotices | None:
    controllers = frozenset({"memory", "pids"} if memory else {"pids"})
    layout = CgroupLayout(kind="v2", v1={}, unified=root, controllers=controllers, swap=True)
    return open_notices(layout, "/tare/x", watcher, known=known)


async def test_each_rise_of_the_counter_is_one_notice(tmp_path: Path, watcher: FileWatcher) -> None:
    group = group_of(tmp_path, 0)
    notices = notices_of(tmp_path, watcher)
    assert notices is not None
    assert not notices.take()
    for kills in (1, 3):
        waiting = asyncio.create_task(notices.wait())
        quiet, _ = await asyncio.wait({waiting}, timeout=0.01)
        assert not quiet
        count(group, kills)
        await waiting
        assert (notices.take(), notices.take()) == (True, False)
    assert notices.exists()
    notices.close()


async def test_what_other_counters_say_is_no_notice(tmp_path: Path, watcher: FileWatcher) -> None:
    group = group_of(tmp_path, 2)
    notices = notices_of(tmp_path, watcher, known=True)
    assert notices is not None
    waiting = asyncio.create_task(notices.wait())
    await asyncio.wait({waiting}, timeout=0.01)
    count(group, 2)  # a write that changes nothing wakes, and has nothing to tell
    await waiting
    assert not notices.take()


@pytest.mark.parametrize(("known", "told"), [(False, True), (True, False)])
async def test_what_was_before_is_told_once(tmp_path: Path, watcher: FileWatcher, *, known: bool, told: bool) -> None:
    group_of(tmp_path, 1)
    notices = notices_of(tmp_path, watcher, known=known)
    assert notices is not None
    waiting = asyncio.create_task(notices.wait())
    if told:
        await waiting
    waiting.cancel()
    await asyncio.wait({waiting})
    assert notices.take() is told


async def test_a_group_that_goes_ends_the_wait(tmp_path: Path, watcher: FileWatcher) -> None:
    group = group_of(tmp_path, 0)
    notices = notices_of(tmp_path, watcher)
    assert notices is not None
    waiting = asyncio.create_task(notices.wait())
    await asyncio.wait({waiting}, timeout=0.01)
    shutil.rmtree(group)
    await waiting
    assert (notices.take(), notices.exists()) == (False, False)
    with pytest.raises(FileNotFoundError, match=r"memory\.events"):
        await notices.wait()


async def test_no_group_and_no_controller(tmp_path: Path, watcher: FileWatcher) -> None:
    assert notices_of(tmp_path, watcher, memory=False) is None
    with pytest.raises(FileNotFoundError, match=r"memory\.events"):
        notices_of(tmp_path, watcher)
