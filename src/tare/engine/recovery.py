"""What a new engine makes of what the last one left: adopt what runs, settle what has ended, delete the rest."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from pathlib import Path

from tare.base.locks import KeyedLocks
from tare.base.shielding import finish
from tare.engine.bundle import clear_bundle
from tare.engine.clock import ZERO_TIME, format_ns, to_seconds
from tare.engine.executor import step_runtime
from tare.engine.health import HealthMonitors
from tare.engine.lifecycle import Lifecycle
from tare.engine.live import LiveContainers
from tare.engine.paths import EnginePaths
from tare.engine.records import ContainerRecords
from tare.engine.removal import Remover
from tare.engine.restarts import starts_with_engine
from tare.engine.sandbox import Sandboxes, remove_tree
from tare.errors import TareError
from tare.kernel.cgroups import CgroupLayout, is_frozen, kill_cgroup
from tare.kernel.mounts import unmount_below
from tare.model import ContainerStatus
from tare.model.container import Container, ContainerState
from tare.runtime.oci_runtime import OciRuntime
from tare.runtime.supervisor import Supervisor
from tare.store.store import Store
from tare.volumes.live_mounts import boot_id

logger = logging.getLogger(__name__)

_LIVE = (ContainerStatus.RUNNING, ContainerStatus.PAUSED)


class Recovery:
    """Runs once, before the engine answers requests."""

    def __init__(
        self,
        *,
        records: ContainerRecords,
        live: LiveContainers,
        lifecycle: Lifecycle,
        remover: Remover,
        sandboxes: Sandboxes,
        supervisor: Supervisor,
        runtime: OciRuntime,
        health: HealthMonitors,
        locks: KeyedLocks,
        store: Store,
        paths: EnginePaths,
        cgroups: CgroupLayout,
    ) -> None:
        self._records = records
        self._live = live
        self._lifecycle = lifecycle
        self._remover = remover
        self._sandboxes = sandboxes
        self._supervisor = supervisor
        self._runtime = runtime
        self._health = health
        self._locks = locks
        self._store = store
        self._paths = paths
        self._cgroups = cgroups

    async def run(self) -> None:
        """Bring the database and the host in line."""
        same_boot = await self._note_boot()
        containers = await self._records.list()
        adopted = set()
        for container in containers:
            if await self._recover(container, same_boot=same_boot):
                adopted.add(container.id)
        await self._delete_orphans({container.id for container in containers})
        await asyncio.to_thread(self._sweep_cgroups, adopted)
        self._lifecycle.restarts_begun = True
        await self._restart_what_is_due()

    async def _restart_what_is_due(self) -> None:
        due = []
        for container in reversed(await self._records.list()):  # oldest first
            if container.state.status != ContainerStatus.RESTARTING:
                continue
            if to_seconds(container.state.restart_at) <= time.time():
                due.append(container)
            else:
                self._lifecycle.restart_later(container)
        if due:
            self._lifecycle.restart_in_order(due)

    async def _note_boot(self) -> bool:
        """Store which boot of the machine this is; False when the engine ran last in another one."""
        boot = await asyncio.to_thread(boot_id)

        def transaction(connection: sqlite3.Connection) -> bool:
            row = connection.execute("SELECT boot FROM boots").fetchone()
            connection.execute("INSERT OR REPLACE INTO boots (id, boot) VALUES (1, ?)", (boot,))
            return row is None or row[0] == boot

        same_boot = await self._store.db.write(transaction)
        if not same_boot:
            logger.info("the machine has been started again: no process of the last engine is left")
        return same_boot

    async def _recover(self, container: Container, *, same_boot: bool) -> bool:
        """Settle one container. True when it runs on and is watched again."""
        status = ContainerStatus(container.state.status)
        if status in _LIVE:
            return await self._adopt(container, same_boot=same_boot)
        await self._settle_surroundings(container)
        if status is ContainerStatus.RESTARTING:
            if not same_boot:
                await self._due_now(container)
        elif container.host_config.auto_remove and container.state.finished_at != ZERO_TIME:
            await self._remover.remove_locked(container, volumes=True)
        elif status is ContainerStatus.EXITED and starts_with_engine(container):
            await self._due_now(container)
        return False

    async def _due_now(self, container: Container) -> None:
        def due(state: ContainerState) -> None:
            state.status = ContainerStatus.RESTARTING
            state.restart_at = format_ns(0)

        await self._records.set_state(container.id, due)

    async def _adopt(self, container: Container, *, same_boot: bool) -> bool:
        """Take over a container whose supervisor lives, or settle how it ended, as if the engine had been there."""
        if not await self._supervisor.adopt(container.id, same_boot=same_boot):
            outcome = await self._supervisor.wait(container.id)
            async with self._locks.hold(container.id):
                await self._lifecycle.ended(container.id, outcome, restart_now=not same_boot)
            return False
        logger.info("adopted container %s (%s)", container.id[:12], container.name)
        container = await self._match_freezer(container)
        await finish(self._sandboxes.leave_unknown(container), what=f"networks of {container.name}")
        self._lifecycle.watch(container)
        if container.state.stopping:
            self._lifecycle.finish_stop(container)
        if container.state.status == ContainerStatus.RUNNING:
            self._health.begin(container)
        return True

    async def _match_freezer(self, container: Container) -> Container:
        """An engine that ends between freezing a container and noting it has left the two apart."""
        frozen = await asyncio.to_thread(is_frozen, self._cgroups, self._cgroup(container))
        actual = ContainerStatus.PAUSED if frozen else ContainerStatus.RUNNING
        if container.state.status == actual:
            return container

        def matched(state: ContainerState) -> None:
            state.status = actual

        return await self._records.set_state(container.id, matched)

    def _cgroup(self, container: Container) -> str:
        return f"{container.host_config.cgroup_parent or self._paths.cgroup_parent}/{container.id}"

    async def _settle_surroundings(self, container: Container) -> None:
        """A crash in the middle of start or stop leaves mounts and namespaces of a container that does not run."""
        await finish(self._supervisor.delete(container.id), what=f"runtime state of {container.id[:12]}")
        await finish(self._sandboxes.unmount_root(container.id), what=f"root of {container.id[:12]}")
        await finish(self._sandboxes.disconnect(container.id), what=f"network of {container.id[:12]}")

    async def end_build_steps(self) -> None:
        """Build steps end with their engine: kill what is left of them, then delete their bundles; call it first."""
        if not await asyncio.to_thread(self._paths.build_steps.is_dir):
            return
        for bundle in await asyncio.to_thread(lambda: sorted(self._paths.build_steps.iterdir())):
            logger.info("ending build step %s of an earlier engine", bundle.name[:12])
            for runtime in (step_runtime(self._runtime, bundle), self._runtime):  # the second ran a shell in the step
                with contextlib.suppress(TareError):
                    await runtime.delete(bundle.name, force=True)
            await asyncio.to_thread(clear_bundle, bundle)

    async def _delete_orphans(self, known: set[str]) -> None:
        """Writable layers and directories whose container never came to be, or is gone."""

        def orphans(connection: sqlite3.Connection) -> list[str]:
            rows = connection.execute(
                "SELECT key FROM snapshots WHERE kind = 'active' AND key NOT IN (SELECT id FROM containers)"
            )
            return [row[0] for row in rows]

        for container_id in await self._supervisor.known():
            if container_id not in known:
                await finish(self._supervisor.delete(container_id), what=f"runtime state of {container_id[:12]}")
        run_root = self._paths.run_root
        for parent in (run_root / "rootfs", run_root / "isolation", self._paths.data_root / "containers"):
            if await asyncio.to_thread(parent.is_dir):
                await asyncio.to_thread(_delete_unknown, parent, known)
        for key in await self._store.db.read(orphans):
            logger.info("deleting the writable layer %s, which nothing owns", key[:12])
            with contextlib.suppress(TareError):
                await self._store.snapshots.remove(key)

    def _sweep_cgroups(self, adopted: set[str]) -> None:
        """A runtime that is killed while it creates a container leaves cgroups that it does not know afterwards."""
        for directory in self._cgroups.directories(self._paths.cgroup_parent):
            if not directory.is_dir():
                continue
            for child in directory.iterdir():
                if child.is_dir() and child.name not in adopted:
                    _end_cgroup(self._cgroups, f"{self._paths.cgroup_parent}/{child.name}")


def _delete_unknown(parent: Path, known: set[str]) -> None:
    for path in parent.iterdir():
        if path.name not in known:
            unmount_below(path)
            remove_tree(path)


def _end_cgroup(layout: CgroupLayout, path: str) -> None:
    try:
        gone = kill_cgroup(layout, path)
    except OSError as error:
        logger.warning("cgroup %s, which no container has, stays: %s", path, error)
    else:
        logger.log(
            logging.INFO if gone else logging.WARNING,
            "cgroup %s, which no container has: %s",
            path,
            "removed" if gone else "cannot be removed",
        )
