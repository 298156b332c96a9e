"""What a new engine makes of what the last one left: adopt what runs, settle what has ended, delete the rest."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
from pathlib import Path

from tare.base.shielding import finish
from tare.engine.clock import ZERO_TIME, now
from tare.engine.executor import step_runtime
from tare.engine.lifecycle import Lifecycle
from tare.engine.live import LiveContainers
from tare.engine.paths import EnginePaths
from tare.engine.records import ContainerRecords
from tare.engine.removal import Remover
from tare.engine.sandbox import Sandboxes, remove_tree
from tare.errors import TareError
from tare.kernel.mounts import unmount_below
from tare.model import ContainerStatus
from tare.model.container import Container, ContainerState
from tare.runtime.oci_runtime import OciRuntime
from tare.runtime.supervisor import Supervisor
from tare.store.store import Store

logger = logging.getLogger(__name__)


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
        store: Store,
        paths: EnginePaths,
    ) -> None:
        self._records = records
        self._live = live
        self._lifecycle = lifecycle
        self._remover = remover
        self._sandboxes = sandboxes
        self._supervisor = supervisor
        self._runtime = runtime
        self._store = store
        self._paths = paths

    async def run(self) -> None:
        """Bring the database and the host in line."""
        containers = await self._records.list()
        restart = []
        for container in containers:
            status = ContainerStatus(container.state.status)
            if status in (ContainerStatus.RUNNING, ContainerStatus.PAUSED, ContainerStatus.RESTARTING):
                if not await self._adopt(container):
                    restart.append(container)
            else:
                await self._settle_surroundings(container)
                if _ran_once(container) and container.host_config.auto_remove:
                    await self._remover.remove_locked(container, volumes=True)
        await self._delete_orphans({container.id for container in containers})
        for container in restart:
            await self._restart(container)

    async def _adopt(self, container: Container) -> bool:
        """Take over a container whose supervisor lives, or learn how it ended. False: its process is gone."""
        if container.state.status != ContainerStatus.RESTARTING and await self._supervisor.adopt(
            container.id, self._paths.container(container.id)
        ):
            logger.info("adopted container %s (%s)", container.id[:12], container.name)
            self._lifecycle.watch(container)
            return True
        restarting = container.state.status == ContainerStatus.RESTARTING
        outcome = None if restarting else await self._supervisor.wait(container.id)
        await self._lifecycle.take_down(container.id)

        def ended(state: ContainerState) -> None:
            if outcome is not None:
                state.exit_code = outcome.code
                state.oom_killed = outcome.oom_killed
                state.finished_at = outcome.finished_at or now()
            state.status = ContainerStatus.EXITED
            state.pid = 0
            state.conmon_pid = 0

        await self._records.set_state(container.id, ended)
        return False

    async def _restart(self, container: Container) -> None:
        policy = container.host_config.restart_policy.name
        if container.host_config.auto_remove:
            await self._remover.remove_locked(container, volumes=True)
        elif policy in ("always", "unless-stopped") or (policy == "on-failure" and container.state.exit_code != 0):
            try:
                await self._lifecycle.start(container.id)
            except TareError as error:
                logger.warning("container %s does not start again: %s", container.name, error)

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
            await asyncio.to_thread(unmount_below, bundle)
            await asyncio.to_thread(remove_tree, bundle)

    async def _delete_orphans(self, known: set[str]) -> None:
        """Writable layers and directories whose container never came to be, or is gone."""

        def orphans(connection: sqlite3.Connection) -> list[str]:
            rows = connection.execute(
                "SELECT key FROM snapshots WHERE kind = 'active' AND key NOT IN (SELECT id FROM containers)"
            )
            return [row[0] for row in rows]

        for key in await self._store.db.read(orphans):
            logger.info("deleting the writable layer %s, which nothing owns", key[:12])
            with contextlib.suppress(TareError):
                await self._store.snapshots.remove(key)
        for container_id in await self._supervisor.known():
            if container_id not in known:
                await finish(self._supervisor.delete(container_id), what=f"runtime state of {container_id[:12]}")
        run_root = self._paths.run_root
        for parent in (self._paths.data_root / "containers", run_root / "rootfs", run_root / "isolation"):
            if await asyncio.to_thread(parent.is_dir):
                await asyncio.to_thread(_delete_unknown, parent, known)


def _ran_once(container: Container) -> bool:
    return container.state.finished_at != ZERO_TIME


def _delete_unknown(parent: Path, known: set[str]) -> None:
    for path in parent.iterdir():
        if path.name not in known:
            unmount_below(path)
            remove_tree(path)
