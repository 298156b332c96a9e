"""Moves between cgroups without the wait that the first one has.

The kernel guards moves with a lock whose writer waits for an RCU grace period (10 to 15 ms) unless another one has
waited just before (kernel/cgroup/cgroup.c, ``cgroup_attach_lock``; kernel/rcu/sync.c, ``rcu_sync_enter``). A runtime
that starts a process moves it some milliseconds after it has begun: whoever moves at the same time as the runtime
begins, waits in its place.
"""

from __future__ import annotations

import functools
import os
import threading
from pathlib import Path

from tare.kernel.cgroups import detect

_busy = threading.Lock()


def hasten_moves(proc: Path = Path("/proc")) -> bool:
    """Move this process to the cgroup in which it is, so that moves in the next milliseconds do not wait. Blocks.

    Returns whether it did; nothing depends on it, so it never fails.
    """
    if not _busy.acquire(blocking=False):
        return False
    try:
        file = _own_file(proc)
        if file is not None:
            file.write_text(str(os.getpid()))
        return file is not None
    except OSError:
        return False
    finally:
        _busy.release()


def _own_file(proc: Path) -> Path | None:
    """``cgroup.procs`` of this process's cgroup in the first hierarchy that is mounted.

    cgroups(7), "/proc/[pid]/cgroup": lines of ``hierarchy:controllers:path``; 0 is the hierarchy of version 2.
    """
    layout = _layout(proc)
    for line in (proc / "self/cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        mount = layout.unified if number == "0" else layout.v1.get(controllers.partition(",")[0])
        if mount is not None and not path.startswith("/.."):  # those are outside of what a cgroup namespace shows
            return mount / path.strip("/") / "cgroup.procs"
    return None


_layout = functools.cache(detect)  # mounts of cgroups stay while an engine runs
