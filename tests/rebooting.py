"""What a reboot of the machine leaves of an engine, done to one engine alone."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sqlite3
import subprocess
from pathlib import Path

import leftovers
from crash_points import CrashingEngine


def reboot(own: CrashingEngine) -> None:
    """What a reboot leaves of an engine: its data. Processes, mounts, links, tables, cgroups, run root are gone."""
    own.kill()
    marks = (f"{own.root}/", f"tr{own.instance}-", f"tare-{own.instance}")
    ours = [item for item in leftovers.survey() if any(mark in f"{item.name} {item.detail}" for mark in marks)]
    for item in ours:
        if item.kind == "process" and item.name != str(own.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(item.name), signal.SIGKILL)
    groups = [Path(item.name) for item in ours if item.kind == "cgroup"]
    for step in (thaw, end_processes):
        for group in groups:
            step(group)
    for item in sorted(ours, key=lambda item: -len(item.name)):
        if item.kind in ("mount", "network namespace"):
            subprocess.run(["umount", "-l", item.name], check=True)
        elif item.kind == "link":
            subprocess.run(["ip", "link", "del", item.name], check=False, capture_output=True)
        elif item.kind == "cgroup":
            with contextlib.suppress(FileNotFoundError):
                Path(item.name).rmdir()
    for item in ours:
        if item.kind == "bridge":
            subprocess.run(["ip", "link", "del", item.name], check=True)
        elif item.kind == "nftables table":
            subprocess.run(["nft", "delete", "table", *item.name.split()], check=True)
    shutil.rmtree(own.run_root)
    other_boot(own)
    own.start()


def other_boot(own: CrashingEngine) -> None:
    """Make the stored boot another than this one."""
    database = sqlite3.connect(own.data_root / "tare.db")
    try:
        with database:
            assert database.execute("UPDATE boots SET boot = 'of the past'").rowcount == 1
    finally:
        database.close()


def end_processes(cgroup: Path) -> None:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a runtime that was at work has been quicker
        for line in (cgroup / "cgroup.procs").read_text().split():
            os.kill(int(line), signal.SIGKILL)
            wait_gone(int(line))


def thaw(cgroup: Path) -> None:
    for name, word in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
        if (cgroup / name).exists():
            (cgroup / name).write_text(word)


def wait_gone(pid: int) -> None:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([fd], [], [], 30)[0]
    finally:
        os.close(fd)
