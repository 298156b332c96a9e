"""The engine: its services, opened together and closed together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass

from tare.engine.audits import Audits
from tare.engine.build_cache import BuildCacheService
from tare.engine.builds import Builds
from tare.engine.catalogue import Catalogue
from tare.engine.commit import Commits
from tare.engine.container_files import ContainerFiles
from tare.engine.container_logs import ContainerLogs
from tare.engine.containers import Containers
from tare.engine.debugging import Debugging
from tare.engine.events import Events
from tare.engine.execs import Execs
from tare.engine.fsck import Fsck
from tare.engine.health import HealthMonitors
from tare.engine.image_archives.loading import ImageLoader
from tare.engine.image_archives.saving import ImageSaver
from tare.engine.images import Images
from tare.engine.lifecycle import Lifecycle
from tare.engine.links import Links
from tare.engine.log_keeping import LogKeeping
from tare.engine.networks import Networks
from tare.engine.paths import EnginePaths
from tare.engine.reachability import Reachability
from tare.engine.recovery import Recovery
from tare.engine.registry_logins import RegistryLogins
from tare.engine.serving import Serving
from tare.engine.stats import Stats
from tare.engine.system import System
from tare.engine.unpersisted import UnpersistedService
from tare.engine.updates import Updates
from tare.engine.volumes import Volumes
from tare.kernel.cgroups import CgroupLayout, remove_cgroup
from tare.network.service import NetworkService
from tare.runtime.supervisor import Supervisor
from tare.store.store import Store
from tare.volumes.catalogue import VolumeCatalogue

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Engine:
    """What the API offers, one attribute per service; ``daemon/wiring.py`` builds it."""

    paths: EnginePaths
    containers: Containers
    container_logs: ContainerLogs
    container_files: ContainerFiles
    commits: Commits
    stats: Stats
    updates: Updates
    execs: Execs
    images: Images
    image_loader: ImageLoader
    image_saver: ImageSaver
    audits: Audits
    builds: Builds
    build_cache: BuildCacheService
    catalogue: Catalogue
    serving: Serving
    debugging: Debugging
    networks: Networks
    registry_logins: RegistryLogins
    reachability: Reachability
    volumes: Volumes
    events: Events
    fsck: Fsck
    system: System
    lifecycle: Lifecycle
    health: HealthMonitors
    recovery: Recovery
    store: Store
    network: NetworkService
    links: Links
    supervisor: Supervisor
    local_volumes: VolumeCatalogue
    cgroups: CgroupLayout
    unpersisted: UnpersistedService
    logs: LogKeeping

    async def start(self) -> None:
        """Bring kernel and database in line and take over what runs."""
        await self.local_volumes.recover()
        await self.volumes.copies.recover()
        await self.network.start()
        await self.recovery.end_build_steps()
        await self.builds.recover()  # before snapshots without an owner are looked for: they must not be mounted
        await self.recovery.run()
        await self.store.collect()
        await self.images.start()
        self.build_cache.collect_soon()

    async def stop(self, *, containers_too: bool = False) -> None:
        """Let go. Containers go on, unless ``containers_too``: then nothing of this engine is left in the kernel."""
        await self.builds.close()
        await self.images.close()
        await self.debugging.close()
        await self.build_cache.close()
        if containers_too:
            await self._stop_containers()
        await self.execs.close()
        await self.lifecycle.close()
        await self.logs.close()
        self.events.close()
        await self.supervisor.close()
        await self.network.stop(remove_kernel_state=containers_too)
        await self.store.close()
        if containers_too:
            await asyncio.to_thread(remove_cgroup, self.cgroups, self.paths.cgroup_parent)

    async def _stop_containers(self) -> None:
        self.lifecycle.ending_containers = True
        running = await self.containers.list()

        async def end(container_id: str) -> None:
            with contextlib.suppress(Exception):
                await self.lifecycle.stop(container_id, timeout=5, by_user=False)

        await asyncio.gather(*(end(container.id) for container in running))
        # The processes are gone; their monitors take mounts and namespaces down.
        monitors = [live.monitor for live in self.lifecycle.live.all() if live.monitor is not None]
        if monitors:
            await asyncio.wait(monitors, timeout=30)
