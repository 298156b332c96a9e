"""A container's root file system with its volumes, mounted for whoever reads or writes files beside the container.

A running container's is there already; of one that does not run it is mounted for the time, shared by all who need it,
and the container can neither start nor go meanwhile. Volumes and bind mounts are added in a mount namespace of the
worker's own, so that nobody else sees them.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tare.archive.confined import make_directories_in_root, open_beneath
from tare.base.locks import KeyedLocks
from tare.base.shielding import finish
from tare.engine.paths import EnginePaths
from tare.engine.records import ContainerRecords
from tare.engine.sandbox import Sandboxes
from tare.errors import Conflict, NotFound
from tare.kernel import syscalls
from tare.kernel.idmap import DetachedMount, clone_idmapped, container_maps
from tare.kernel.mounts import is_mount_point, mount_table
from tare.kernel.private_mounts import in_private_mounts, let_go_below
from tare.model import ContainerStatus
from tare.model.container import Container, IdRange, MountPoint

T = TypeVar("T")

_ATTEMPTS = 5  # a container may start or end between two looks at it


class _Ended(Exception):
    """The container's root is no longer mounted."""


@dataclass(slots=True)
class _Resting:
    users: int = 0
    prepared: Container | None = None


class RestingRoots:
    """Root file systems of containers that do not run, each mounted once for all who need it.

    Whoever enters holds the container's lock then, so that it cannot begin to run meanwhile; to leave needs no lock.
    """

    def __init__(self, sandboxes: Sandboxes) -> None:
        self._sandboxes = sandboxes
        self._gates = KeyedLocks()
        self._resting: dict[str, _Resting] = {}

    async def enter(self, container: Container) -> None:
        """Have the root mounted until :meth:`leave`. What goes wrong leaves nothing behind."""
        async with self._gates.hold(container.id):
            resting = self._resting.get(container.id)
            if resting is None:
                try:
                    await self._sandboxes.mount_root(container)
                except BaseException:
                    await finish(self._sandboxes.release_root(container.id), what=f"root of {container.id[:12]}")
                    raise
                resting = self._resting[container.id] = _Resting()
            resting.users += 1

    async def leave(self, container_id: str) -> None:
        """Undo one :meth:`enter`."""
        async with self._gates.hold(container_id):
            resting = self._resting[container_id]
            resting.users -= 1
            if not resting.users:
                del self._resting[container_id]
                await self._sandboxes.release_root(container_id)

    async def prepared(self, container: Container) -> Container:
        """``container``, which was entered, with its volumes mounted; its mounts have the sources to bind.

        Raises what :meth:`tare.engine.mounts.ContainerMounts.prepare` raises.
        """
        async with self._gates.hold(container.id):
            resting = self._resting[container.id]
            if resting.prepared is None:
                try:
                    resting.prepared = await self._sandboxes.mounts.prepare(container)
                except BaseException:
                    await finish(self._sandboxes.mounts.release(container.id), what=f"mounts of {container.id[:12]}")
                    raise
            return resting.prepared


@dataclass(slots=True)
class _Shared:
    gate: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    held: AsyncExitStack = field(default_factory=AsyncExitStack)


class ContainerRoots:
    """Gives access to containers' files."""

    def __init__(
        self,
        *,
        records: ContainerRecords,
        sandboxes: Sandboxes,
        resting: RestingRoots,
        locks: KeyedLocks,
        paths: EnginePaths,
    ) -> None:
        self._records = records
        self._sandboxes = sandboxes
        self._resting = resting
        self._locks = locks
        self._paths = paths
        self._shared: dict[str, _Shared] = {}

    async def visit(self, container: Container, work: Callable[[Path], T], *, volumes: bool = True) -> T:
        """The result of ``work(root)`` on a thread of its own that sees the container's files below ``root``.

        With ``volumes`` its volumes, bind mounts and name files are there too, read-only ones read-only. Waits for the
        thread even when cancelled. Raises NotFound, Conflict when the container keeps starting and ending, and what
        ``work`` raises.
        """
        for _ in range(_ATTEMPTS):
            current = await self._records.get(container.id)
            if ContainerStatus(current.state.status).is_live:
                try:
                    mounted = await asyncio.to_thread(self._sandboxes.mounts.current, current)
                    return await self._run(mounted, work, volumes=volumes)
                except _Ended:
                    continue
            async with self._at_rest(container.id, volumes=volumes) as resting:
                if resting is not None:
                    return await self._run(resting, work, volumes=volumes)
        raise Conflict(f"container {container.name} starts and ends all the time", hint="stop it first")

    async def _run(self, container: Container, work: Callable[[Path], T], *, volumes: bool) -> T:
        root = self._paths.rootfs(container.id)
        names = {f"/etc/{name}": self._paths.container(container.id) / name for name in _NAME_FILES}

        def enter() -> T:
            if not is_mount_point(root):
                raise _Ended
            let_go_below(root.parent, keep=[root])
            let_go_below(self._paths.run_root / "netns", keep=())
            if volumes:
                _add_mounts(root, container.mounts, names, container.ids)
            return work(root)

        return await in_private_mounts(enter)

    @asynccontextmanager
    async def _at_rest(self, container_id: str, *, volumes: bool) -> AsyncIterator[Container | None]:
        """The container with its root mounted, kept from changing; None when it runs after all."""
        shared = self._shared.setdefault(container_id, _Shared())
        async with shared.gate:
            container = await self._enter(shared, container_id)
            if container is not None and volumes:
                try:
                    container = await self._resting.prepared(container)
                except BaseException:
                    await finish(self._release(shared, container_id), what=f"files of container {container_id[:12]}")
                    raise
        try:
            yield container
        finally:
            if container is not None:
                await finish(self._leave(shared, container_id), what=f"files of container {container_id[:12]}")

    async def _enter(self, shared: _Shared, container_id: str) -> Container | None:
        async with AsyncExitStack() as stack:
            if not shared.users:
                await stack.enter_async_context(self._locks.hold(container_id))
            container = await self._records.get(container_id)
            if ContainerStatus(container.state.status).is_live:
                return None
            if not shared.users:
                await self._resting.enter(container)
                stack.push_async_callback(self._resting.leave, container_id)
                shared.held = stack.pop_all()
            shared.users += 1
        return container

    async def _leave(self, shared: _Shared, container_id: str) -> None:
        async with shared.gate:
            await self._release(shared, container_id)

    async def _release(self, shared: _Shared, container_id: str) -> None:
        shared.users -= 1
        if not shared.users:
            self._shared.pop(container_id, None)
            await shared.held.aclose()


_NAME_FILES = ("resolv.conf", "hostname", "hosts")


def first_id(container: Container) -> int:
    """The id of the host that is seen as owner where a file is stored with owner 0 (``--userns auto``)."""
    return container.ids.first if container.ids is not None else 0


def _add_mounts(
    root: Path, points: list[MountPoint], names: dict[str, Path], ids: IdRange | None, *, make: bool = True
) -> None:
    taken = {point.destination for point in points}
    for point in sorted(points, key=lambda one: one.destination.count("/")):
        if point.type in ("bind", "volume"):
            bind_in_root(root, point.destination, Path(point.source), read_only=not point.rw, ids=ids, make=make)
    for destination, source in names.items():
        if destination not in taken and source.exists():
            bind_in_root(root, destination, source, read_only=False, ids=ids, make=make)


def copy_with_mounts(root: Path, container: Container, names: dict[str, Path]) -> DetachedMount:
    """A copy of the mount at ``root``, of a container at rest, with its volumes, bind mounts and name files in it.

    Nothing is made in it: what has no place there yet is left out. Runs on a thread with mounts of its own.
    Raises NotFound for a source that is gone, OSError.
    """
    let_go_below(root.parent, keep=[root])
    _add_mounts(root, container.mounts, names, container.ids, make=False)
    flags = syscalls.OPEN_TREE_CLONE | syscalls.OPEN_TREE_CLOEXEC | syscalls.AT_RECURSIVE
    return DetachedMount(syscalls.open_tree(os.fspath(root), flags), root)


def bind_in_root(
    root: Path, destination: str, source: Path, *, read_only: bool, ids: IdRange | None = None, make: bool = True
) -> None:
    """Bind ``source`` at ``destination`` inside ``root``, links resolved as if ``root`` were ``/``; all below with it.

    A missing destination is made, or without ``make`` left alone; with ``ids`` the source is seen in these. Raises
    NotFound for a source that is not there, OSError.
    """
    try:
        kind = source.stat().st_mode
    except FileNotFoundError as error:
        raise NotFound(f"mount of {destination}: {source} does not exist", hint="make it again") from error
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        target = _open_target(root, root_fd, destination, directory=stat.S_ISDIR(kind), make=make)
        if target is None:
            return
        try:
            if ids is None:
                syscalls.mount(os.fspath(source), f"/proc/self/fd/{target}", None, syscalls.MS_BIND | syscalls.MS_REC)
            else:
                maps = container_maps(ids.first, ids.size)
                with clone_idmapped(source, maps, maps, recursive=True) as mapped:
                    mapped.attach_to(target)
        finally:
            os.close(target)
        if read_only:
            mounted = open_beneath(root_fd, destination, os.O_PATH)
            try:
                _make_read_only(os.readlink(f"/proc/self/fd/{mounted}"))  # noqa: PTH115 - what the kernel calls it
            finally:
                os.close(mounted)
    finally:
        os.close(root_fd)


def _open_target(root: Path, root_fd: int, destination: str, *, directory: bool, make: bool) -> int | None:
    try:
        return open_beneath(root_fd, destination, os.O_PATH)
    except FileNotFoundError:
        if not make:
            return None
    if directory:
        make_directories_in_root(root, destination)
    else:
        make_directories_in_root(root, destination.rpartition("/")[0])
        os.close(open_beneath(root_fd, destination, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o644))
    return open_beneath(root_fd, destination, os.O_PATH)


def _make_read_only(place: str) -> None:
    for entry in mount_table():
        if entry.target == place or entry.target.startswith(f"{place}/"):
            flags = syscalls.MS_BIND | syscalls.MS_REMOUNT | syscalls.MS_RDONLY | _kept_flags(entry.options)
            syscalls.mount("", entry.target, None, flags)


def _kept_flags(options: str) -> int:
    words = options.split(",")
    known = {"nosuid": syscalls.MS_NOSUID, "nodev": syscalls.MS_NODEV, "noexec": syscalls.MS_NOEXEC}
    return sum(flag for word, flag in known.items() if word in words)
