"""The namespaces of another process: held by descriptors, and its root file system as it sees it.

A mount can be copied only by who is in the mount namespace that it belongs to (open_tree(2)), so a thread started for
that alone goes there, copies the root with everything below it, and comes back (setns(2): a mount namespace belongs
to a thread once CLONE_FS is no longer shared). Nothing but these calls happens in between: no file of the other
process is opened, and none could be loaded as code.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import threading
from pathlib import Path
from types import TracebackType

from tare.errors import Conflict, InternalError, Unsupported
from tare.kernel import syscalls
from tare.kernel.idmap import DetachedMount
from tare.kernel.processes import in_cgroup

KINDS = ("mnt", "pid", "net", "ipc", "uts", "user")
"""By their names below ``/proc/PID/ns`` (namespaces(7))."""
_PF_EXITING = 0x4  # linux/sched.h


class ProcessNamespaces:
    """Those of one process, kept alive by descriptors; a context manager that lets go of them."""

    def __init__(self, pid: int, pidfd: int, descriptors: dict[str, int]) -> None:
        self.pid = pid
        self._pidfd = pidfd
        self._descriptors = descriptors

    @classmethod
    def of_process(cls, pid: int, cgroup: str) -> ProcessNamespaces:
        """Open those of process ``pid``, which is in a cgroup called ``cgroup``: ids are given out again.

        Raises Conflict when there is no such process.
        """
        with contextlib.ExitStack() as undo:
            try:
                pidfd = os.pidfd_open(pid)
                undo.callback(os.close, pidfd)
                descriptors = {}
                for kind in KINDS:
                    descriptors[kind] = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
                    undo.callback(os.close, descriptors[kind])
            except (FileNotFoundError, ProcessLookupError) as error:
                raise Conflict(f"process {pid} has ended", code="not-running") from error
            found = cls(pid, pidfd, descriptors)
            if not in_cgroup(pid, cgroup) or found.has_ended:
                raise Conflict(f"process {pid} has ended", code="not-running")
            undo.pop_all()
        return found

    def path(self, kind: str) -> Path | None:
        """Where other processes can open this namespace while it is held; None for one that is this process's own."""
        own, held = os.stat(f"/proc/self/ns/{kind}"), os.fstat(self._descriptors[kind])  # noqa: PTH116 - beside fstat
        if (own.st_dev, own.st_ino) == (held.st_dev, held.st_ino):
            return None
        return Path(f"/proc/{os.getpid()}/fd/{self._descriptors[kind]}")

    @property
    def has_ended(self) -> bool:
        """Whether the process is ending or has ended.

        The first process of a pid namespace takes all others along before it can be waited for: it counts as ended from
        the moment that it begins to (field ``flags`` of proc_pid_stat(5)).
        """
        ended = select.poll()
        ended.register(self._pidfd, select.POLLIN)
        if ended.poll(0):
            return True
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return True
        return bool(int(fields[6]) & _PF_EXITING)

    def copy_root(self) -> DetachedMount:
        """A copy of the process's root with all that is mounted below it: the same files, live. Blocks for about 1 ms.

        Raises Unsupported where the kernel has no open_tree(2) (Linux 5.2), InternalError.
        """
        trees: list[int] = []
        errors: list[OSError] = []
        flags = syscalls.OPEN_TREE_CLONE | syscalls.OPEN_TREE_CLOEXEC | syscalls.AT_RECURSIVE

        def work() -> None:
            try:
                syscalls.unshare(syscalls.CLONE_FS)
                own = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
                try:
                    syscalls.setns(self._descriptors["mnt"], syscalls.CLONE_NEWNS)
                    try:
                        trees.append(syscalls.open_tree("/", flags))
                    finally:
                        syscalls.setns(own, syscalls.CLONE_NEWNS)
                finally:
                    os.close(own)
            except OSError as error:
                errors.append(error)

        thread = threading.Thread(target=work, name="foreign root", daemon=True)
        thread.start()
        thread.join()
        if not errors:
            return DetachedMount(trees[0], Path(f"/proc/{self.pid}/root"))
        for tree in trees:
            os.close(tree)
        subject = f"the root file system of process {self.pid} cannot be copied: {errors[0].strerror}"
        if errors[0].errno == errno.ENOSYS:
            raise Unsupported(subject, hint="this needs Linux 5.2 or newer") from errors[0]
        raise InternalError(subject) from errors[0]

    def close(self) -> None:
        """Let go. Calling it twice is fine."""
        for fd in (*self._descriptors.values(), *((self._pidfd,) if self._pidfd >= 0 else ())):
            os.close(fd)
        self._descriptors, self._pidfd = {}, -1

    def __enter__(self) -> ProcessNamespaces:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
