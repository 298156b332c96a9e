"""Work in a mount namespace of its own: what is mounted there nobody else sees, and it goes when the work ends.

A mount namespace, like the root and working directory that come with it, belongs to a *thread* once it is unshared
(unshare(2), CLONE_NEWNS implies CLONE_FS). So the work runs on a thread started for it alone, which ends afterwards; no
process is forked. The thread's root stays the host's: nothing of a container is ever loaded from there as code.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from tare.base.own_thread import in_own_thread
from tare.kernel import syscalls
from tare.kernel.mounts import mount_table

T = TypeVar("T")


async def in_private_mounts(function: Callable[[], T]) -> T:
    """The result of ``function()``, run with mounts of its own: those of the host, without propagation either way.

    It has a thread of its own, so that slow work takes no place among the threads that others share. Waits for its end
    even when cancelled. Raises what ``function`` raises.
    """

    def work() -> T:
        _enter()
        return function()

    return await in_own_thread(work, name="mounts")


def wait_in_private_mounts(function: Callable[[], T]) -> T:
    """The same for callers that may block."""
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            _enter()
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, name="mounts", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _enter() -> None:
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("", "/", None, syscalls.MS_PRIVATE | syscalls.MS_REC)


def let_go_below(directory: Path, keep: Iterable[Path]) -> None:
    """Detach all mounts below ``directory`` except those in ``keep``, in the calling thread's namespace.

    A copied mount keeps its file system alive: other containers' must not depend on how long this thread works.
    """
    prefix, kept = f"{directory}/", {os.fspath(path) for path in keep}
    for entry in reversed(mount_table()):
        if entry.target.startswith(prefix) and entry.target not in kept:
            try:
                syscalls.umount(entry.target, syscalls.MNT_DETACH)
            except OSError:
                continue  # went with the mount that it was below
