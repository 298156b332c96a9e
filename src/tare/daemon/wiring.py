"""Builds the objects of an engine and hands them to each other; the only place that knows all of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from tare.base.locks import KeyedLocks
from tare.build.builder import Builder
from tare.build.kept import KeepPolicy
from tare.build.sources.limits import SourceLimits
from tare.daemon.config import Settings
from tare.distroless.catalogue import DebianCatalogue
from tare.distroless.settings import DEBIAN_KEYRING, ArchiveSettings
from tare.engine.build_cache import BuildCacheService
from tare.engine.builds import Builds, ImageSources
from tare.engine.bundle import BundleWriter
from tare.engine.container_maker import ContainerMaker
from tare.engine.containers import Containers
from tare.engine.debugging import Debugging
from tare.engine.engine import Engine
from tare.engine.events import Events
from tare.engine.execs import Execs
from tare.engine.executor import StepExecutor
from tare.engine.health import HealthMonitors
from tare.engine.health_probes import HealthProbes
from tare.engine.health_records import HealthRecords
from tare.engine.images import Images
from tare.engine.launch import Launcher
from tare.engine.lifecycle import Lifecycle
from tare.engine.live import LiveContainers
from tare.engine.networks import Networks
from tare.engine.paths import EnginePaths
from tare.engine.records import ContainerRecords
from tare.engine.recovery import Recovery
from tare.engine.removal import Remover
from tare.engine.sandbox import Sandboxes
from tare.engine.system import System
from tare.engine.views import NetworkView
from tare.engine.volumes import Volumes
from tare.engine.weigh import Weigher
from tare.network.model import NetworkSettings
from tare.network.service import NetworkService
from tare.runtime.host import HostFacts, probe_host
from tare.runtime.oci_runtime import OciRuntime
from tare.runtime.probe import RUNTIMES, probe_runtimes
from tare.runtime.supervisor import Supervisor
from tare.store.store import Store
from tare.volumes.local import LocalVolumes

SECONDS_PER_DAY = 86400.0


async def build_engine(settings: Settings) -> Engine:
    """Open the data root and wire an engine; call ``Engine.start`` next.

    Raises Conflict when another engine has the data root, Unavailable when the host lacks a part.
    """
    paths = EnginePaths(Path(settings.data_root), settings.run_directory)
    facts = await asyncio.to_thread(probe_host)
    await asyncio.to_thread(_make_directories, paths)
    runtime = await probe_runtimes(
        facts,
        paths.run_root,
        names=(settings.runtime,) if settings.runtime else RUNTIMES,
        cache=paths.cache / "runtime.json",
        cgroup_parent=paths.cgroup_parent,
    )
    store = await Store.open(paths.data_root)
    try:
        return _wire(settings, paths, store, runtime, facts)
    except BaseException:
        await store.close()
        raise


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """The rooms' objects, and what the engine's services share."""

    settings: Settings
    paths: EnginePaths
    facts: HostFacts
    runtime: OciRuntime
    store: Store
    supervisor: Supervisor
    network: NetworkService
    local_volumes: LocalVolumes
    records: ContainerRecords
    sandboxes: Sandboxes
    bundles: BundleWriter
    remover: Remover
    events: Events
    health: HealthMonitors
    locks: KeyedLocks
    live: LiveContainers


def _wire(settings: Settings, paths: EnginePaths, store: Store, runtime: OciRuntime, facts: HostFacts) -> Engine:
    events = Events()
    records = ContainerRecords(store.db)
    network = NetworkService(store.db, paths.run_root, paths.instance, _network_settings(settings))
    local_volumes = LocalVolumes(store.db, paths.volumes)
    supervisor = Supervisor(runtime, paths.run_root)
    bundles = BundleWriter(paths=paths, facts=facts, records=records)
    probes = HealthProbes(bundles=bundles, supervisor=supervisor, network=network, events=events)
    parts = _Parts(
        settings=settings,
        paths=paths,
        facts=facts,
        runtime=runtime,
        store=store,
        supervisor=supervisor,
        network=network,
        local_volumes=local_volumes,
        records=records,
        sandboxes=Sandboxes(store, network, paths),
        bundles=bundles,
        remover=Remover(records=records, store=store, volumes=local_volumes, events=events, paths=paths),
        events=events,
        health=HealthMonitors(records=HealthRecords(store.db, records), probes=probes, events=events),
        locks=KeyedLocks(),
        live=LiveContainers(),
    )
    return _engine(parts)


def _engine(parts: _Parts) -> Engine:
    lifecycle = _lifecycle(parts)
    containers = _containers(parts, lifecycle)
    executor = StepExecutor(
        store=parts.store, network=parts.network, runtime=parts.runtime, facts=parts.facts, paths=parts.paths
    )
    images = _images(parts, executor, lifecycle)
    builder = _builder(parts, executor, images)
    volumes = Volumes(parts.local_volumes, parts.events)
    build_cache = BuildCacheService(builder.cache, parts.events, parts.settings.build.cache_limits)
    return Engine(
        paths=parts.paths,
        containers=containers,
        execs=Execs(records=parts.records, bundles=parts.bundles, supervisor=parts.supervisor, events=parts.events),
        images=images,
        builds=_builds(parts, builder, images, build_cache),
        build_cache=build_cache,
        debugging=Debugging(builder=builder, executor=executor, supervisor=parts.supervisor),
        networks=Networks(
            network=parts.network,
            records=parts.records,
            sandboxes=parts.sandboxes,
            events=parts.events,
            locks=parts.locks,
        ),
        volumes=volumes,
        events=parts.events,
        system=System(
            containers=containers,
            images=images,
            volumes=volumes,
            build_cache=build_cache,
            runtime=parts.runtime,
            facts=parts.facts,
            paths=parts.paths,
            driver=parts.store.snapshots.name,
        ),
        lifecycle=lifecycle,
        health=parts.health,
        recovery=_recovery(parts, lifecycle),
        store=parts.store,
        network=parts.network,
        supervisor=parts.supervisor,
        local_volumes=parts.local_volumes,
        cgroups=parts.facts.cgroups,
    )


def _lifecycle(parts: _Parts) -> Lifecycle:
    launcher = Launcher(
        sandboxes=parts.sandboxes, bundles=parts.bundles, supervisor=parts.supervisor, paths=parts.paths
    )
    return Lifecycle(
        records=parts.records,
        live=parts.live,
        sandboxes=parts.sandboxes,
        launcher=launcher,
        supervisor=parts.supervisor,
        remover=parts.remover,
        health=parts.health,
        events=parts.events,
        locks=parts.locks,
    )


def _containers(parts: _Parts, lifecycle: Lifecycle) -> Containers:
    maker = ContainerMaker(
        records=parts.records,
        store=parts.store,
        volumes=parts.local_volumes,
        network=parts.network,
        paths=parts.paths,
        runtime=parts.runtime.name,
        cgroupns="private" if parts.facts.cgroups.kind == "v2" else "host",
    )
    return Containers(
        records=parts.records,
        live=parts.live,
        lifecycle=lifecycle,
        maker=maker,
        remover=parts.remover,
        view=NetworkView(parts.network),
        supervisor=parts.supervisor,
        store=parts.store,
        paths=parts.paths,
        locks=parts.locks,
        cgroups=parts.facts.cgroups,
    )


def _images(parts: _Parts, executor: StepExecutor, lifecycle: Lifecycle) -> Images:
    catalogue = DebianCatalogue(parts.store, executor, _archive_settings(parts.settings), parts.paths.cache)
    weigher = Weigher(parts.store, parts.paths.cache / "weigh", parts.paths.run_root / "scratch")
    return Images(
        store=parts.store,
        records=parts.records,
        catalogue=catalogue,
        weigher=weigher,
        events=parts.events,
        settle=lifecycle.settle,
    )


def _builder(parts: _Parts, executor: StepExecutor, images: Images) -> Builder:
    section = parts.settings.build
    policy = KeepPolicy(count=section.keep_steps, seconds=section.keep_days * SECONDS_PER_DAY)
    limits = _source_limits(parts.settings)
    return Builder(parts.store, executor, ImageSources(images), parts.paths.cache, limits=limits, keep=policy)


def _builds(parts: _Parts, builder: Builder, images: Images, build_cache: BuildCacheService) -> Builds:
    return Builds(
        builder=builder,
        images=images,
        events=parts.events,
        scratch=parts.paths.data_root / "staging",
        host_ca=parts.settings.build.host_ca,
        cache=build_cache,
    )


def _recovery(parts: _Parts, lifecycle: Lifecycle) -> Recovery:
    return Recovery(
        records=parts.records,
        live=parts.live,
        lifecycle=lifecycle,
        remover=parts.remover,
        sandboxes=parts.sandboxes,
        supervisor=parts.supervisor,
        runtime=parts.runtime,
        health=parts.health,
        locks=parts.locks,
        store=parts.store,
        paths=parts.paths,
        cgroups=parts.facts.cgroups,
    )


def _make_directories(paths: EnginePaths) -> None:
    paths.data_root.mkdir(parents=True, exist_ok=True, mode=0o711)
    paths.run_root.mkdir(parents=True, exist_ok=True, mode=0o711)
    for name in ("containers", "volumes", "cache"):
        (paths.data_root / name).mkdir(exist_ok=True, mode=0o711)


def _source_limits(settings: Settings) -> SourceLimits:
    section = settings.build
    return SourceLimits(
        archive_entries=section.max_archive_entries,
        archive_bytes=section.max_archive_bytes,
        archive_ratio=section.max_archive_ratio,
        download=section.max_download_bytes,
        seconds=section.fetch_seconds,
        cache=section.source_cache_bytes,
    )


def _archive_settings(settings: Settings) -> ArchiveSettings:
    section = settings.archive
    return ArchiveSettings(
        mirrors=tuple(section.mirrors),
        suites=tuple(section.suites),
        components=tuple(section.components),
        check_dates=section.check_dates,
        keyring=Path(section.keyring) if section.keyring else DEBIAN_KEYRING,
    )


def _network_settings(settings: Settings) -> NetworkSettings:
    section = settings.network
    default = NetworkSettings()
    return NetworkSettings(default_subnet=section.default_subnet, mtu=section.mtu or default.mtu)
