"""An engine that kills itself at a chosen step: started as ``python crashing_engine.py PLAN <arguments of tared>``.

A step is the moment before or after something that outlasts the engine: a commit, a call of the runtime, a mount, a
namespace. While the file PLAN exists, steps are counted; at the number that it holds the engine ends by SIGKILL. The
engine itself is not changed: its methods are wrapped here.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tare.daemon.main import main
from tare.engine.sandbox import Sandboxes
from tare.network.service import NetworkService
from tare.runtime.conmon import Launch
from tare.runtime.oci_runtime import OciRuntime
from tare.runtime.supervisor import Supervisor
from tare.store.database import Database
from tare.store.unpacked import UnpackedSnapshotter

STEPS: tuple[tuple[type, tuple[str, ...]], ...] = (
    (Database, ("write",)),
    (OciRuntime, ("_call",)),
    (Launch, ("__aenter__", "report")),
    (UnpackedSnapshotter, ("prepare", "mount", "unmount", "remove")),
    (NetworkService, ("create_sandbox", "attach", "detach_all", "remove_sandbox")),
    (Sandboxes, ("fill_files",)),
    (Supervisor, ("delete",)),
)


class Plan:
    """Counts the steps while the plan is there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._count = 0

    def step(self) -> None:
        try:
            last = int(self._path.read_text())
        except (FileNotFoundError, ValueError):
            self._count = 0
            return
        self._count += 1
        if self._count == last:
            os.kill(os.getpid(), signal.SIGKILL)

    def wrap(self, method: Callable[..., Any]) -> Callable[..., Any]:
        async def wrapped(*arguments: Any, **more: Any) -> Any:
            self.step()
            result = await method(*arguments, **more)
            self.step()
            return result

        return wrapped


if __name__ == "__main__":
    plan = Plan(Path(sys.argv.pop(1)))
    for owner, names in STEPS:
        for name in names:
            setattr(owner, name, plan.wrap(getattr(owner, name)))
    main()
