"""Facts about the engine and its host, and the space that it uses."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tare.engine.build_cache import BuildCacheService
from tare.engine.containers import Containers
from tare.engine.images import Images
from tare.engine.paths import EnginePaths
from tare.engine.volumes import Volumes
from tare.errors import InvalidArgument
from tare.kernel.cgroups import LimitSupport
from tare.runtime.choice import RuntimeChoice
from tare.runtime.host import HostFacts
from tare.runtime.oci_runtime import OciRuntime
from tare.version import __version__

USAGE_TYPES = ("image", "container", "volume", "build-cache")


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemInfo:
    """What ``info`` shows; sizes in bytes."""

    containers: int
    running: int
    paused: int
    stopped: int
    images: int
    name: str
    operating_system: str
    kernel: str
    architecture: str
    cpus: int
    memory: int
    data_root: str
    driver: str
    log_driver: str = "json-file"
    cgroup_version: str
    runtime: str
    runtime_version: str
    runtimes: Mapping[str, str]
    limits: LimitSupport
    security_modules: tuple[str, ...]
    init_binary: str
    version: str
    labels: Mapping[str, str]
    warnings: tuple[str, ...]


class System:
    """The system service."""

    def __init__(
        self,
        *,
        containers: Containers,
        images: Images,
        volumes: Volumes,
        build_cache: BuildCacheService,
        runtime: OciRuntime,
        runtimes: RuntimeChoice,
        facts: HostFacts,
        paths: EnginePaths,
        driver: str,
        log_driver: str,
    ) -> None:
        self._containers = containers
        self._images = images
        self._volumes = volumes
        self._build_cache = build_cache
        self._runtime = runtime
        self._runtimes = runtimes
        self._facts = facts
        self._paths = paths
        self._driver = driver
        self._log_driver = log_driver

    async def info(self) -> SystemInfo:
        """Counts and host facts."""
        states = [item.state.status for item in await self._containers.list(all=True)]
        images = await self._images.list(all=True)
        host = await asyncio.to_thread(_host)
        return SystemInfo(
            containers=len(states),
            running=states.count("running"),
            paused=states.count("paused"),
            stopped=len(states) - states.count("running") - states.count("paused"),
            images=len(images),
            data_root=str(self._paths.data_root),
            driver=self._driver,
            log_driver=self._log_driver,
            cgroup_version="2" if self._facts.cgroups.kind == "v2" else "1",
            runtime=self._runtime.name,
            runtimes=self._runtimes.paths,
            limits=self._facts.limits,
            security_modules=tuple(sorted(self._facts.security_modules)),
            init_binary=self._facts.init.name if self._facts.init is not None else "",
            runtime_version=await self._runtime_version(),
            version=__version__,
            labels={},
            warnings=(),
            **host,
        )

    async def version(self) -> dict[str, str]:
        """Versions of the engine, its runtime and the kernel."""
        return {
            "version": __version__,
            "runtime": self._runtime.name,
            "runtime_version": await self._runtime_version(),
            "kernel": platform.release(),
            "os": "linux",
            "architecture": self._facts.architecture,
        }

    async def _runtime_version(self) -> str:
        """The number alone: ``runc version 1.1.5`` gives ``1.1.5``."""
        return (await self._runtime.version()).rpartition(" ")[2]

    async def df(self, types: Collection[str] = ()) -> dict[str, Any]:
        """Space used by images, containers, volumes and the build cache (API ``SystemDataUsageResponse``'s sources).

        ``types`` are the kinds to look at, of :data:`USAGE_TYPES`; none for all. The others are not in the answer.
        Raises InvalidArgument.
        """
        if unknown := [kind for kind in types if kind not in USAGE_TYPES]:
            raise InvalidArgument(f"unknown object type: {unknown[0]}", hint=f"take {', '.join(USAGE_TYPES)}")
        wanted = types or USAGE_TYPES
        found: dict[str, Any] = {}
        if "image" in wanted:
            found["images"] = await self._images.list(shared_size=True)
            found["layers_size"] = await self._images.layers_size()
        if "container" in wanted:
            containers = await self._containers.list(all=True)
            names = await self._containers.image_names(containers)
            found["containers"] = [(one, await self._containers.sizes(one.id), names[one.id]) for one in containers]
        if "volume" in wanted:
            volumes = await self._volumes.usages(size=True)
            found["volumes"] = [(one.volume, one.size + one.snapshots_size) for one in volumes]
        if "build-cache" in wanted:
            found["build_cache"] = await self._build_cache.list()
        return found


def _host() -> dict[str, Any]:
    release = Path("/etc/os-release")
    fields = dict(
        line.split("=", 1) for line in (release.read_text().splitlines() if release.exists() else []) if "=" in line
    )
    return {
        "name": platform.node(),
        "operating_system": fields.get("PRETTY_NAME", "Linux").strip('"'),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "cpus": os.cpu_count() or 1,
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }
