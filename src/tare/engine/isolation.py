"""What containers of ``--userns auto`` and ``--ipc shareable`` have on the host while they run."""

from __future__ import annotations

import asyncio
import shutil
import stat
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tare.engine.paths import EnginePaths
from tare.engine.records import ContainerRecords
from tare.errors import Conflict, InvalidArgument
from tare.kernel import syscalls
from tare.kernel.idmap import clone_with_namespace, container_maps, user_namespace
from tare.kernel.mounts import unmount_below
from tare.model import ContainerStatus
from tare.model.container import Container, IdRange
from tare.network.sandboxes import NamespaceOwner
from tare.runtime.spec_request import SpecMount
from tare.runtime.users import UserIds


class Isolation:
    """Makes it and takes it away: user namespace, shared memory, id-mapped mounts."""

    def __init__(self, paths: EnginePaths, records: ContainerRecords) -> None:
        self._paths = paths
        self._records = records

    def owner(self, container: Container) -> NamespaceOwner | None:
        """The user namespace that the container's other namespaces belong to; None for the host's."""
        if container.ids is None:
            return None
        return NamespaceOwner(self._user_namespace(container.id), container.ids.first, container.ids.size)

    def user_namespace(self, container: Container) -> Path | None:
        """Where the container's user namespace is kept."""
        return self._user_namespace(container.id) if container.ids is not None else None

    def _user_namespace(self, container_id: str) -> Path:
        return self._paths.isolation(container_id) / "userns"

    async def prepare(self, container: Container) -> None:
        """Make the memory that other containers may share with this one (``--ipc shareable``).

        Raises Conflict when a container with ids of its own could not reach its root file system.
        """
        host = container.host_config
        if container.ids is not None:
            await asyncio.to_thread(check_reachable, self._paths.rootfs(container.id))
        if host.ipc_mode == "shareable":
            owner = container.ids.first if container.ids is not None else 0
            place = self._shm(container.id)
            await asyncio.to_thread(_mount_shm, place, host.shm_size, owner)

    async def release(self, container_id: str) -> None:
        """Take away all that :meth:`prepare` and :meth:`map_mounts` made; quiet when there is nothing."""
        await asyncio.to_thread(_release, self._paths.isolation(container_id))

    def _shm(self, container_id: str) -> Path:
        return self._paths.isolation(container_id) / "shm"

    async def namespace(self, mode: str, kind: str) -> str:
        """What the runtime is told for ``--pid`` or ``--ipc``: the mode, or the path of another's namespace.

        Raises Conflict when the other container does not run, or does not share.
        """
        if not mode.startswith("container:"):
            return "" if mode in ("private", "shareable", "none") else mode
        other = await self._records.get(mode.removeprefix("container:"))
        what = f"failed to join {kind.upper()} namespace: container {other.id}"
        status = ContainerStatus(other.state.status)
        if status is ContainerStatus.RESTARTING:
            raise Conflict(f"{what} is restarting, wait until the container is running")
        if not status.is_live or not other.state.pid:
            raise Conflict(f"{what} is not running", hint=f"start {other.name} first", code="not-running")
        if kind == "ipc" and other.host_config.ipc_mode not in ("shareable", "host"):
            raise Conflict(
                f"{what}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)", code="not-shareable"
            )
        return f"/proc/{other.state.pid}/ns/{kind}"

    async def shared_memory(self, container: Container) -> Path | None:
        """The directory of the host to mount at /dev/shm; None for memory of the container's own."""
        mode = container.host_config.ipc_mode
        if mode == "shareable":
            return self._shm(container.id)
        if not mode.startswith("container:"):
            return None
        other = await self._records.get(mode.removeprefix("container:"))
        return Path("/dev/shm") if other.host_config.ipc_mode == "host" else self._shm(other.id)

    async def map_mounts(self, container: Container, mounts: Sequence[SpecMount]) -> tuple[SpecMount, ...]:
        """The bind mounts with sources in which the container's own ids are the plain ones; as they are without ids.

        Raises Unsupported naming the source and its file system where that cannot be done.
        """
        ids = container.ids
        if ids is None:
            return tuple(mounts)
        sources = list(dict.fromkeys(mount.source for mount in mounts if mount.type == "bind"))
        directory = self._paths.isolation(container.id) / "mounts"
        places = {source: directory / str(number) for number, source in enumerate(sources)}
        await asyncio.to_thread(_map_all, places, ids)
        return tuple(
            replace(mount, source=str(places[mount.source])) if mount.type == "bind" else mount for mount in mounts
        )


def check_ids(ids: IdRange | None, user: UserIds) -> None:
    """Refuse a user or group that the container's range does not reach. Raises InvalidArgument."""
    if ids is None:
        return
    for number in (user.uid, user.gid, *user.groups):
        if number >= ids.size:
            raise InvalidArgument(
                f"the id {number} is outside of the container's {ids.size} ids",
                hint=f"ask for more with --userns auto:size={number + 1}",
                code="id-out-of-range",
            )


def check_reachable(place: Path) -> None:
    """The runtime enters the root file system as the container's root, who is one of the others on the host.

    Raises Conflict naming the directory that is closed to others.
    """
    for directory in reversed(place.parents):
        mode = directory.stat().st_mode
        if not mode & stat.S_IXOTH:
            raise Conflict(
                f"a container with ids of its own cannot reach {place}: {directory} is closed to others "
                f"(mode {stat.S_IMODE(mode):04o})",
                hint=f"chmod o+x {directory}, or choose another run root",
                code="root-unreachable",
            )


def _mount_shm(place: Path, size: int, owner: int) -> None:
    place.mkdir(parents=True, exist_ok=True)
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
    syscalls.mount("shm", str(place), "tmpfs", flags, f"mode=1777,size={size},uid={owner},gid={owner}")


def _map_all(places: dict[str, Path], ids: IdRange) -> None:
    maps = container_maps(ids.first, ids.size)
    with user_namespace(maps, maps) as namespace:
        for source, place in places.items():
            place.parent.mkdir(parents=True, exist_ok=True)
            if Path(source).is_dir():
                place.mkdir(exist_ok=True)
            else:
                place.touch()
            with clone_with_namespace(Path(source), namespace, recursive=True) as mapped:
                mapped.attach(place)


def _release(directory: Path) -> None:
    if directory.exists():
        unmount_below(directory)
        shutil.rmtree(directory)
