"""An engine that kills itself at a chosen step: started as ``python crashing_engine.py PLAN <arguments of tared>``.

A step is the moment before or after something that outlasts the engine: a commit, a call of the runtime, a mount, a
namespace, a file that is copied. While the file PLAN exists, steps are counted; at the number that it holds the engine
ends by SIGKILL. With a name in front of the number only the steps of that name count (``freeze 2`` is the moment after
the first freezing). The engine itself is not changed: its methods are wrapped here.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Any

from tare.daemon.main import main
from tare.engine import quiesce, volume_copies
from tare.engine.sandbox import Sandboxes
from tare.network import macvlan_links, netlink
from tare.network.firewall import Nftables
from tare.network.service import NetworkService
from tare.runtime.conmon import Launch
from tare.runtime.oci_runtime import OciRuntime
from tare.runtime.supervisor import Supervisor
from tare.store.database import Database
from tare.store.unpacked import UnpackedSnapshotter
from tare.volumes import snapshots
from tare.volumes.copying import TreeCopy
from tare.volumes.snapshots import SnapshotStore

STEPS: tuple[tuple[type, tuple[str, ...]], ...] = (
    (Database, ("write",)),
    (OciRuntime, ("_call",)),
    (Launch, ("__aenter__", "report")),
    (UnpackedSnapshotter, ("prepare", "mount", "unmount", "remove")),
    (NetworkService, ("create_sandbox", "attach", "detach_all", "remove_sandbox")),
    (Sandboxes, ("fill_files",)),
    (Supervisor, ("delete",)),
    (SnapshotStore, ("add",)),
)
BLOCKING_STEPS: tuple[tuple[type | ModuleType, tuple[str, ...]], ...] = (
    (TreeCopy, ("running_pass", "frozen_pass", "finish", "_copy_file")),
    (SnapshotStore, ("install", "installed")),
    (quiesce, ("freeze", "thaw")),
    (snapshots, ("exchange",)),
    (volume_copies, ("write_manifest", "read_backup")),
    (netlink, ("_ensure_bridge", "_remove_link", "_take_down", "_connect", "_replace_default_route")),
    (macvlan_links, ("_make_parent", "_connect")),
    (Nftables, ("run",)),
)


class Plan:
    """Counts the steps while the plan is there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._counts: Counter[str] = Counter()

    def step(self, name: str) -> None:
        try:
            *only, last = self._path.read_text().split()
        except (FileNotFoundError, ValueError):
            self._counts.clear()
            return
        counted = only[0] if only else ""
        if counted in ("", name):
            self._counts[counted] += 1
            if self._counts[counted] == int(last):
                os.kill(os.getpid(), signal.SIGKILL)

    def wrap(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        async def wrapped(*arguments: Any, **more: Any) -> Any:
            self.step(name)
            result = await method(*arguments, **more)
            self.step(name)
            return result

        return wrapped

    def wrap_blocking(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def wrapped(*arguments: Any, **more: Any) -> Any:
            self.step(name)
            result = function(*arguments, **more)
            self.step(name)
            return result

        return wrapped


if __name__ == "__main__":
    plan = Plan(Path(sys.argv.pop(1)))
    for owner, names in STEPS:
        for name in names:
            setattr(owner, name, plan.wrap(name, getattr(owner, name)))
    for place, names in BLOCKING_STEPS:
        for name in names:
            setattr(place, name, plan.wrap_blocking(name, getattr(place, name)))
    main()
