"""Network namespaces that outlive their creator: kept by a bind mount on a file.

A network namespace belongs to a *thread* (clone(2), setns(2)), not to the process. Work inside another one therefore
runs on a thread started for it alone, which ends afterwards: no other thread, and no later task of a pool, ever sees
the changed namespace. No process is forked. ``/proc/thread-self`` and ``/proc/sys/net`` follow the calling thread.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from tare.errors import NotFound
from tare.kernel import syscalls
from tare.kernel.idmap import IdMap, waiting_child, write_maps

T = TypeVar("T")

_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1


class _Once(Generic[T]):
    """Runs one function on one thread of its own and hands on its result or error."""

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._result: list[T] = []
        self._error: BaseException | None = None

    def run(self) -> T:
        thread = threading.Thread(target=self._work, name="netns", daemon=True)
        thread.start()
        thread.join()
        if self._error is not None:
            raise self._error
        return self._result[0]

    def _work(self) -> None:
        try:
            self._result.append(self._function())
        except BaseException as error:
            self._error = error


def create_network_namespace(path: Path) -> None:
    """Make a network namespace with its loopback up and keep it at the file ``path``. Blocks for about 1 ms.

    Raises FileExistsError when ``path`` exists, OSError when the kernel refuses; then nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))

    def work() -> None:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        _raise_interface("lo")
        syscalls.mount("/proc/thread-self/ns/net", str(path), flags=syscalls.MS_BIND)

    try:
        _Once(work).run()
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def create_user_and_network_namespace(user_path: Path, network_path: Path, first: int, size: int) -> None:
    """Make a user namespace whose 0 is the host's ``first``, and a network namespace that it owns, kept at the paths.

    A network namespace has to belong to the container's user namespace: otherwise sysfs cannot be mounted in there.
    Raises FileExistsError when a path exists, Unsupported, InvalidArgument; then nothing is left behind.
    """
    maps = [IdMap(0, first, size)]
    with contextlib.ExitStack() as undo:
        for path in (user_path, network_path):
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
            undo.callback(remove_network_namespace, path)
        with waiting_child(["--user", "--net"]) as pid:
            write_maps(pid, maps, maps)
            syscalls.mount(f"/proc/{pid}/ns/user", str(user_path), flags=syscalls.MS_BIND)
            syscalls.mount(f"/proc/{pid}/ns/net", str(network_path), flags=syscalls.MS_BIND)
        run_in_network_namespace(network_path, lambda: _raise_interface("lo"))
        undo.pop_all()


def remove_network_namespace(path: Path) -> None:
    """Let go of the namespace at ``path``; the kernel ends it with its last user. Nothing there is no error."""
    try:
        syscalls.umount(str(path), syscalls.MNT_DETACH)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):  # EINVAL: a file that a crash left before the mount
            raise
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def is_network_namespace(path: Path) -> bool:
    """Whether ``path`` keeps a namespace; a plain file is what a crash before the mount leaves."""
    try:
        return path.stat().st_dev != path.parent.stat().st_dev
    except FileNotFoundError:
        return False


def run_in_network_namespace(path: Path, function: Callable[[], T]) -> T:
    """The result of ``function()`` run inside the namespace kept at ``path``; blocks until it ends.

    Sockets that it opens stay in that namespace wherever they go afterwards. Raises NotFound when ``path`` keeps no
    namespace, and what ``function`` raises.
    """
    if not is_network_namespace(path):
        raise NotFound(f"network namespace {path} not found")

    def work() -> T:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            syscalls.setns(fd, syscalls.CLONE_NEWNET)
        finally:
            os.close(fd)
        return function()

    return _Once(work).run()


def run_in_new_network_namespace(function: Callable[[], T]) -> T:
    """The result of ``function()`` run in a namespace that ends with it, so that whatever it changes there is gone.

    Blocks. Raises OSError when the kernel refuses the namespace, and what ``function`` raises.
    """

    def work() -> T:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        return function()

    return _Once(work).run()


def _raise_interface(name: str) -> None:
    """Set the interface up in the calling thread's namespace (netdevice(7))."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        request = struct.pack("16sh14x", name.encode(), 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(control, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", name.encode(), flags | _IFF_UP))
