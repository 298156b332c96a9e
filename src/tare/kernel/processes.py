"""Processes that belong together: found in proc(5), killed through descriptors, so that no recycled id is hit."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

_ROUNDS = 20  # each round kills what was there; only a fork bomb is quicker


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """A process: id, parent, session, and when it started (clock ticks since the boot)."""

    pid: int
    parent: int
    session: int
    started: int


def process_facts(pid: int) -> ProcessFacts | None:
    """What ``/proc/<pid>/stat`` says; None when there is no such process (or only its zombie)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    if fields[0] in ("Z", "X"):
        return None
    return ProcessFacts(pid, int(fields[1]), int(fields[3]), int(fields[19]))


def in_cgroup(pid: int, name: str) -> bool:
    """Whether a cgroup called ``name`` is on the path of the process's cgroups. No process, no cgroup."""
    try:
        text = Path(f"/proc/{pid}/cgroup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return any(name in line.split(":", 2)[2].split("/") for line in text.splitlines())


def kill_family(leader: int) -> int:
    """Kill process ``leader``, its descendants, and every process of the session that it leads; returns how many.

    What has made itself a session *and* lost its parent is not found. Blocks; looks at every process of the host.
    """
    killed = 0
    for _ in range(_ROUNDS):
        family = _family(leader)
        if not family:
            break
        killed += sum(map(_kill, family))
    return killed


def _family(leader: int) -> list[ProcessFacts]:
    numbers = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
    everybody = {facts.pid: facts for number in numbers if (facts := process_facts(number))}

    def belongs(facts: ProcessFacts) -> bool:
        seen = 0
        current: ProcessFacts | None = facts
        while current is not None and seen < len(everybody):
            if leader in (current.pid, current.session):
                return True
            current = everybody.get(current.parent)
            seen += 1
        return False

    return [facts for facts in everybody.values() if belongs(facts)]


def _kill(facts: ProcessFacts) -> int:
    try:
        fd = os.pidfd_open(facts.pid)
    except ProcessLookupError:
        return 0
    try:
        current = process_facts(facts.pid)
        if current is None or current.started != facts.started:
            return 0  # it has ended, and its number may have been given to another process
        signal.pidfd_send_signal(fd, signal.SIGKILL)
    except ProcessLookupError:
        return 0
    finally:
        os.close(fd)
    return 1
