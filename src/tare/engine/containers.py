"""The containers service: what the API offers about containers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Iterable, Sequence

from tare.base.locks import KeyedLocks
from tare.engine.container_filters import select, select_for_prune
from tare.engine.container_maker import ContainerMaker
from tare.engine.endings import check_end_is_stored
from tare.engine.image_parents import descendants, parents
from tare.engine.lifecycle import Lifecycle
from tare.engine.live import WAIT_CONDITIONS, LiveContainers
from tare.engine.names import NAME
from tare.engine.paths import EnginePaths
from tare.engine.processes import cgroup_pids, list_processes
from tare.engine.records import ContainerRecords, name_taken
from tare.engine.removal import Remover
from tare.engine.requests import Created, Exit, Filters
from tare.engine.views import NetworkView
from tare.engine.visitors import Visitors
from tare.errors import Conflict, InvalidArgument, NotFound, NotModified
from tare.kernel.cgroups import CgroupLayout
from tare.model import ContainerStatus
from tare.model.container import (
    Container,
    ContainerConfig,
    EndpointSettings,
    HostConfig,
    NetworkingConfig,
    PortBinding,
)
from tare.model.signals import parse_signal
from tare.runtime.supervisor import Supervisor
from tare.store.store import Store


class Containers:
    """Make, find, change, watch and remove containers."""

    def __init__(
        self,
        *,
        records: ContainerRecords,
        live: LiveContainers,
        lifecycle: Lifecycle,
        maker: ContainerMaker,
        remover: Remover,
        view: NetworkView,
        supervisor: Supervisor,
        store: Store,
        paths: EnginePaths,
        locks: KeyedLocks,
        cgroups: CgroupLayout,
        visitors: Visitors,
    ) -> None:
        self._visitors = visitors
        self._cgroups = cgroups
        self._records = records
        self._live = live
        self._lifecycle = lifecycle
        self._maker = maker
        self._remover = remover
        self._view = view
        self._supervisor = supervisor
        self._store = store
        self._paths = paths
        self._locks = locks

    async def create(
        self,
        name: str,
        config: ContainerConfig,
        host: HostConfig,
        networking: NetworkingConfig | None,
        platform: str = "",
    ) -> Created:
        """Make a container. Raises InvalidArgument, NotFound (image, volume, network), Conflict (name)."""
        container, warnings = await self._maker.make(name, config, host, networking, platform)
        self._lifecycle.emit(container, "create")
        return Created(id=container.id, warnings=tuple(warnings))

    async def get(self, reference: str) -> Container:
        """Find by name, id or unique prefix. Raises NotFound."""
        return await self._records.get(reference)

    async def endpoints(self, container_id: str) -> dict[str, EndpointSettings]:
        """The container's networks with the addresses it has on them now."""
        return await self._view.endpoints(await self._records.get(container_id))

    def sandbox_key(self, container: Container) -> str:
        """The file that stands for a running container's network namespace; empty when it has none of its own."""
        return self._view.sandbox_key(container)

    async def ports(self, container_id: str) -> dict[str, list[PortBinding] | None]:
        """Container ports and where on the host they are published now."""
        return await self._view.ports(await self._records.get(container_id))

    async def start(self, reference: str) -> None:
        """See :meth:`Lifecycle.start`."""
        await self._lifecycle.start(reference)

    async def stop(self, reference: str, timeout: int | None = None, signal: str | None = None) -> None:
        """See :meth:`Lifecycle.stop`."""
        _check_signal(signal, f"cannot stop container: {reference}")
        await self._lifecycle.stop(reference, timeout=timeout, signal=signal)

    async def restart(self, reference: str, timeout: int | None = None, signal: str | None = None) -> None:
        """See :meth:`Lifecycle.restart`."""
        await self._lifecycle.restart(reference, timeout=timeout, signal=signal)

    async def kill(self, reference: str, signal: str = "SIGKILL") -> None:
        """See :meth:`Lifecycle.kill`."""
        prefix = f"cannot kill container: {reference}"
        try:
            await self._records.get(reference)
        except NotFound as error:
            raise NotFound(f"{prefix}: {error.message}", code=error.code) from error
        _check_signal(signal, prefix)
        await self._lifecycle.kill(reference, signal)

    async def pause(self, reference: str) -> None:
        """See :meth:`Lifecycle.pause`."""
        container = await self._running(reference)
        if container.state.status == ContainerStatus.PAUSED:
            raise Conflict(f"Container {container.id} is already paused", code="already-paused")
        await self._lifecycle.pause(reference)

    async def unpause(self, reference: str) -> None:
        """See :meth:`Lifecycle.unpause`."""
        await self._lifecycle.unpause(reference)

    async def rename(self, reference: str, name: str) -> None:
        """Give another name. Raises InvalidArgument, Conflict when it is taken."""
        wanted = name.removeprefix("/")
        container = await self._records.get(reference)
        if container.name == wanted:
            raise InvalidArgument("Renaming a container with the same name as its current name", code="same-name")
        prefix = "Error when allocating new name: "
        if not NAME.fullmatch(wanted):
            raise InvalidArgument(
                f"{prefix}Invalid container name (/{wanted}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
                code="invalid-name",
            )
        with contextlib.suppress(NotFound):
            owner = await self._records.get(wanted)
            if owner.name == wanted:
                raise Conflict(f"{prefix}{name_taken(wanted, owner.id).message}", code="name-in-use")

        def renamed(document: Container) -> None:
            document.name = wanted

        updated = await self._records.update(container.id, renamed, durable=True)
        await self._view.rename(container.id, wanted)
        self._lifecycle.emit(updated, "rename", {"oldName": f"/{container.name}"})

    async def remove(self, reference: str, *, force: bool = False, volumes: bool = False) -> None:
        """Remove a container. Raises NotFound, Conflict while it runs unless ``force`` kills it first."""
        container = await self._records.get(reference)
        status = ContainerStatus(container.state.status)
        if not status.can_remove:
            if not force:
                check_end_is_stored(self._live.of(container.id), container)
                advice = f"{status}: stop the container before removing or force remove"
                if status is ContainerStatus.PAUSED:
                    advice = "paused and must be unpaused first"
                raise Conflict(
                    f'cannot remove container "{container.name}": container is {advice}',
                    code="container-running",
                )
            with contextlib.suppress(NotModified):
                await self._lifecycle.stop(container.id, timeout=0, signal="SIGKILL", announce=False)
        async with self._locks.hold(container.id):
            try:
                container = await self._records.get(container.id)
            except NotFound:
                return  # `--rm` was quicker
            if not ContainerStatus(container.state.status).can_remove:
                check_end_is_stored(self._live.of(container.id), container)
                raise Conflict(f"cannot remove container {container.name}: it was started again at the same time")
            await self._visitors.dismiss(container.id, "is being removed")
            await self._remover.remove_locked(container, volumes=volumes)
        self._live.wake(container.id, {"removed", "not-running"}, Exit(code=container.state.exit_code))
        self._live.forget(container.id)

    async def prepare_wait(self, reference: str, condition: str = "") -> Awaitable[Exit]:
        """Register a wait and return what to await; what happens after this returns is not missed.

        Conditions: ``not-running`` (default; also true now), ``next-exit``, ``removed``. Raises InvalidArgument,
        NotFound.
        """
        wanted = condition or "not-running"
        if wanted not in WAIT_CONDITIONS:
            raise InvalidArgument(f'invalid condition: "{condition}"', hint=f"one of {', '.join(WAIT_CONDITIONS)}")
        container = await self._records.get(reference)
        future = self._live.add_waiter(container.id, wanted)
        container = await self._records.get(container.id)
        settled = ContainerStatus(container.state.status) not in (
            ContainerStatus.RUNNING,
            ContainerStatus.PAUSED,
            ContainerStatus.RESTARTING,
        )
        unstored = self._live.of(container.id).unstored_end
        if wanted == "not-running" and not settled and unstored is not None and not future.done():
            future.set_result(unstored)
        if wanted == "not-running" and settled and not future.done():
            future.set_result(
                Exit(
                    code=container.state.exit_code,
                    error=container.state.error,
                    diagnosis=container.state.diagnosis,
                )
            )
        return future

    async def wait(self, reference: str, condition: str = "") -> Exit:
        """Wait for ``condition``."""
        return await (await self.prepare_wait(reference, condition))

    async def resize(self, reference: str, height: int, width: int) -> None:
        """Set the terminal's size in characters. Raises Conflict when the container does not run."""
        container = await self._running(reference)
        self._supervisor.resize(container.id, height, width)
        self._lifecycle.emit(container, "resize", {"height": str(height), "width": str(width)})

    async def top(self, reference: str, ps_args: str = "-ef") -> tuple[list[str], list[list[str]]]:
        """The container's processes as ``ps`` shows them. Raises Conflict when it does not run."""
        container = await self._running(reference)
        found = await list_processes(await asyncio.to_thread(self.pids, container), ps_args)
        self._lifecycle.emit(container, "top")
        return found

    def pids(self, container: Container) -> list[int]:
        """The host's process ids of a container. Blocks for a moment."""
        path = f"{container.host_config.cgroup_parent or self._paths.cgroup_parent}/{container.id}"
        return cgroup_pids(self._cgroups, path)

    async def _running(self, reference: str) -> Container:
        container = await self._records.get(reference)
        if not ContainerStatus(container.state.status).is_live:
            raise Conflict(f"container {container.id} is not running")
        return container

    async def sizes(self, container_id: str) -> tuple[int, int]:
        """Bytes in the writable layer, and together with the image's layers."""
        container = await self._records.get(container_id)
        written = await self._store.snapshots.usage(container.id)
        image = await self._store.images.resolve(container.image_id)
        return written, written + image.size

    async def prune(self, filters: Filters | None = None) -> tuple[list[str], int]:
        """Remove stopped containers; returns their ids and the bytes freed. Raises InvalidArgument for a filter."""
        removed, freed = [], 0
        for container in select_for_prune(await self._records.list(), filters or {}, time.time()):
            if not ContainerStatus(container.state.status).can_remove:
                continue
            size, _ = await self.sizes(container.id)
            with contextlib.suppress(Conflict, NotFound):
                await self.remove(container.id)
                removed.append(container.id)
                freed += size
        return removed, freed

    async def list(self, *, all: bool = False, filters: Filters | None = None, limit: int = 0) -> list[Container]:  # noqa: A002
        """Containers, newest first: running ones, or all; ``limit`` > 0 gives the newest of all states."""
        containers, given = await self._records.list(), filters or {}
        ancestors = await self._ancestors(given["ancestor"]) if given.get("ancestor") else set()
        chosen = select(containers, given, running_only=not all and limit <= 0, ancestors=ancestors)
        return chosen[:limit] if limit > 0 else chosen

    async def _ancestors(self, names: Iterable[str]) -> set[str]:
        """The IDs of the images with these names, and of those that were committed from them."""
        found = set().union(*(await self._store.images.ids(names)).values())
        return {str(one) for one in descendants(found, parents(await self._store.images.list()))}

    async def image_names(self, containers: Sequence[Container]) -> dict[str, str]:
        """What listings call the containers' images, by container: what they were made of, or its ID once that is
        another image's name, or nobody's.
        """
        known = await self._store.images.ids(item.image_name for item in containers)
        return {
            item.id: item.image_name if item.image_id in map(str, known.get(item.image_name, ())) else item.image_id
            for item in containers
        }


def _check_signal(signal: str | None, prefix: str) -> None:
    try:
        parse_signal(signal or "SIGKILL")
    except InvalidArgument as error:
        cause = error.message
        if signal and signal.isdecimal():
            cause = f"the linux daemon does not support signal {signal}"
        raise InvalidArgument(f"{prefix}: {cause}", code="invalid-signal") from error
