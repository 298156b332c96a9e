"""Freeze and thaw control groups: v1's freezer controller and v2's ``cgroup.freeze``.

Sources: Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst and cgroup-v2.rst ("cgroup.freeze").
"""

from __future__ import annotations

import contextlib
import select
import time
from pathlib import Path

from tare.errors import Unavailable, Unsupported
from tare.kernel.cgroups import CgroupLayout

_V1_STATE = "freezer.state"
_V2_FREEZE, _V2_EVENTS = "cgroup.freeze", "cgroup.events"
_V1_PAUSE = 0.0005  # seconds between two looks: v1 tells nobody when it is done, it has to be asked


def freezer_directory(layout: CgroupLayout, path: str) -> Path | None:
    """Where the cgroup ``path`` (absolute, as in a runtime spec) is frozen; None when it does not exist.

    Raises Unsupported on a host that has neither freezer.
    """
    if "freezer" in layout.v1:
        directory = layout.v1["freezer"] / path.strip("/")
        return directory if (directory / _V1_STATE).exists() else None
    if layout.unified is not None:
        directory = layout.unified / path.strip("/")
        return directory if (directory / _V2_FREEZE).exists() else None
    raise Unsupported("this host cannot freeze control groups", hint="mount the freezer controller or cgroup v2")


def is_frozen(directory: Path) -> bool:
    """Whether somebody has asked for the cgroup to be frozen. Raises OSError when it is gone."""
    state = directory / _V1_STATE
    if state.exists():
        return state.read_text().strip() != "THAWED"
    return (directory / _V2_FREEZE).read_text().strip() == "1"


def freeze(directory: Path, *, seconds: float) -> None:
    """Stop every process of the cgroup and wait until all stand still; blocks.

    A cgroup that goes away meanwhile has no process left, which is as good. Raises Unavailable after
    ``seconds``: a process in uninterruptible sleep cannot be frozen. It is thawed then.
    """
    deadline = time.monotonic() + seconds
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        frozen = (
            _freeze_v1(directory, deadline) if (directory / _V1_STATE).exists() else _freeze_v2(directory, deadline)
        )
        if not frozen:
            thaw(directory)
            raise Unavailable(
                f"{directory}: its processes do not stand still within {seconds:g} seconds",
                hint="a process waits for a device or a network file system; look for state D in ps",
                code="freeze-timeout",
            )


def thaw(directory: Path) -> None:
    """Let the cgroup go on; quiet when it is gone or was not frozen."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, OSError):
        if (directory / _V1_STATE).exists():
            (directory / _V1_STATE).write_text("THAWED")
        else:
            (directory / _V2_FREEZE).write_text("0")


def _freeze_v1(directory: Path, deadline: float) -> bool:
    state = directory / _V1_STATE
    while True:
        # A process that forks while it is being frozen is missed by the first attempt: ask again each time.
        state.write_text("FROZEN")
        if state.read_text().strip() == "FROZEN":
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(_V1_PAUSE)


def _freeze_v2(directory: Path, deadline: float) -> bool:
    with (directory / _V2_EVENTS).open() as events:
        poller = select.poll()
        poller.register(events, select.POLLPRI)
        (directory / _V2_FREEZE).write_text("1")
        while True:
            events.seek(0)
            if "frozen 1" in events.read().splitlines():
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            poller.poll(left * 1000)
