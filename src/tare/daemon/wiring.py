"""Builds the objects of an engine and hands them to each other; the only place that knows all of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from tare.base.locks import KeyedLocks
from tare.build.builder import Builder
from tare.build.kept import KeepPolicy
from tare.build.sources.limits import SourceLimits
from tare.daemon.config import Settings
from tare.distroless.catalogue import DebianCatalogue
from tare.distroless.settings import DEBIAN_KEYRING, ArchiveSettings
from tare.engine.audits import Audits
from tare.engine.boms import BillsOfMaterials
from tare.engine.build_cache import BuildCacheService
from tare.engine.builds import Builds, ImageSources
from tare.engine.bundle import BundleWriter
from tare.engine.catalogue import Catalogue
from tare.engine.commit import Commits
from tare.engine.container_files import ContainerFiles
from tare.engine.container_logs import ContainerLogs
from tare.engine.container_maker import ContainerMaker
from tare.engine.container_root import ContainerRoots, RestingRoots
from tare.engine.containers import Containers
from tare.engine.debugging import Debugging
from tare.engine.engine import Engine
from tare.engine.events import Events
from tare.engine.execs import Execs
from tare.engine.executor import StepExecutor
from tare.engine.failures import Failures
from tare.engine.fsck import Fsck
from tare.engine.health import HealthMonitors
from tare.engine.health_probes import HealthProbes
from tare.engine.health_records import HealthRecords
from tare.engine.id_ranges import IdRanges
from tare.engine.image_archives.loading import ImageLoader
from tare.engine.image_archives.saving import ImageSaver
from tare.engine.image_import import ImageImports
from tare.engine.images import Images
from tare.engine.isolation import Isolation
from tare.engine.launch import Launcher
from tare.engine.lifecycle import Lifecycle
from tare.engine.links import Links
from tare.engine.live import LiveContainers
from tare.engine.log_keeping import LogKeeping
from tare.engine.looking_up import LookUps
from tare.engine.mounts import ContainerMounts
from tare.engine.networks import Networks
from tare.engine.oom import OomWatch
from tare.engine.paths import EnginePaths
from tare.engine.pulling import Pulls
from tare.engine.pushing import Pushes
from tare.engine.quiesce import Quiescer
from tare.engine.reachability import Reachability
from tare.engine.records import ContainerRecords
from tare.engine.recovery import Recovery
from tare.engine.registry_logins import RegistryLogins
from tare.engine.removal import Remover
from tare.engine.sandbox import Sandboxes
from tare.engine.serving import Serving
from tare.engine.shells import Shells
from tare.engine.stats import Stats
from tare.engine.system import System
from tare.engine.targets import Targets
from tare.engine.tools import Tools
from tare.engine.unpersisted import UnpersistedService
from tare.engine.updates import Updates
from tare.engine.use_events import UseEvents
from tare.engine.views import NetworkView
from tare.engine.visitors import Visitors
from tare.engine.volume_copies import VolumeCopies
from tare.engine.volume_files import VolumeFiles
from tare.engine.volumes import Volumes
from tare.engine.weigh import Weigher
from tare.errors import InvalidArgument
from tare.network.model import NetworkSettings
from tare.network.service import NetworkService
from tare.registry.client import RegistryClient
from tare.registry.settings import Registries
from tare.runtime.choice import RuntimeChoice, choose_runtimes
from tare.runtime.filters import CompiledFilters
from tare.runtime.host import HostFacts, probe_host
from tare.runtime.log_rotation import LogKeeper
from tare.runtime.oci_runtime import OciRuntime
from tare.runtime.supervisor import Supervisor
from tare.store.store import Store
from tare.volumes.catalogue import VolumeCatalogue
from tare.volumes.plugin_client import PluginTimes
from tare.volumes.plugins import Plugins
from tare.volumes.s3 import S3Driver
from tare.volumes.snapshots import SnapshotStore, check_removable

SECONDS_PER_DAY = 86400.0


async def build_engine(settings: Settings) -> Engine:
    """Open the data root and wire an engine; call ``Engine.start`` next.

    Raises Conflict when another engine has the data root, Unavailable when the host lacks a part.
    """
    paths = EnginePaths(Path(settings.data_root), settings.run_directory)
    facts = await asyncio.to_thread(probe_host)
    await asyncio.to_thread(_make_directories, paths)
    runtimes = await choose_runtimes(
        facts,
        paths.run_root,
        default=settings.runtime,
        configured=settings.runtimes,
        cache=paths.cache / "runtime.json",
        cgroup_parent=paths.cgroup_parent,
    )
    store = await Store.open(paths.data_root)
    try:
        engine = _wire(settings, paths, store, runtimes, facts)
        for container in await ContainerRecords(store.db).list():
            with contextlib.suppress(InvalidArgument):  # it is not there any more: the default has to do
                await runtimes.check(container.host_config.runtime)
            runtimes.assign(container.id, container.host_config.runtime)
    except BaseException:
        await store.close()
        raise
    return engine


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """The rooms' objects, and what the engine's services share."""

    settings: Settings
    paths: EnginePaths
    facts: HostFacts
    runtime: OciRuntime
    runtimes: RuntimeChoice
    store: Store
    supervisor: Supervisor
    network: NetworkService
    local_volumes: VolumeCatalogue
    records: ContainerRecords
    sandboxes: Sandboxes
    resting: RestingRoots
    bundles: BundleWriter
    remover: Remover
    events: Events
    health: HealthMonitors
    locks: KeyedLocks
    live: LiveContainers
    failures: Failures
    logs: LogKeeping
    links: Links
    registries: RegistryClient


def _wire(settings: Settings, paths: EnginePaths, store: Store, runtimes: RuntimeChoice, facts: HostFacts) -> Engine:
    events = Events()
    records = ContainerRecords(store.db)
    network = NetworkService(store.db, paths.run_root, paths.instance, _network_settings(settings))
    isolation = Isolation(paths, records)
    local_volumes = _volume_catalogue(settings, paths, store)
    mounts = ContainerMounts(volumes=local_volumes, store=store, paths=paths)
    supervisor = Supervisor(runtimes.default, paths.run_root)
    logs = LogKeeping(LogKeeper(), supervisor, paths)
    links = Links(store.db, network, paths)
    bundles = BundleWriter(paths=paths, facts=facts, isolation=isolation, links=links)
    sandboxes = Sandboxes(
        store=store,
        network=network,
        paths=paths,
        isolation=isolation,
        mounts=mounts,
        links=links,
        visitors=Visitors(),
    )
    probes = HealthProbes(bundles=bundles, supervisor=supervisor, network=network, events=events)
    parts = _Parts(
        settings=settings,
        paths=paths,
        facts=facts,
        runtime=runtimes.default,
        runtimes=runtimes,
        store=store,
        supervisor=supervisor,
        network=network,
        local_volumes=local_volumes,
        records=records,
        sandboxes=sandboxes,
        resting=RestingRoots(sandboxes),
        bundles=bundles,
        remover=Remover(records=records, store=store, volumes=local_volumes, events=events, paths=paths),
        events=events,
        health=HealthMonitors(records=HealthRecords(store.db, records), probes=probes, events=events),
        locks=KeyedLocks(),
        live=LiveContainers(),
        failures=Failures(store=store, paths=paths, facts=facts, logs=logs),
        logs=logs,
        links=links,
        registries=RegistryClient(_registries(settings), paths.cache / "downloads"),
    )
    return _engine(parts)


def _registries(settings: Settings) -> Registries:
    directories = settings.registry.certificates
    return Registries(settings.registries, certificate_directories=directories, environment=os.environ)


def _engine(parts: _Parts) -> Engine:
    lifecycle = _lifecycle(parts)
    containers = _containers(parts, lifecycle)
    executor = StepExecutor(
        store=parts.store, network=parts.network, runtime=parts.runtime, facts=parts.facts, paths=parts.paths
    )
    images = _images(parts, executor, lifecycle)
    builder = _builder(parts, executor, images)
    volumes = _volumes(parts)
    build_cache = BuildCacheService(builder.cache, parts.events, parts.settings.build.cache_limits)
    return Engine(
        paths=parts.paths,
        containers=containers,
        container_logs=_container_logs(parts, containers, lifecycle),
        container_files=_container_files(parts, lifecycle),
        commits=Commits(records=parts.records, store=parts.store, lifecycle=lifecycle, events=parts.events),
        stats=Stats(records=parts.records, cgroups=parts.facts.cgroups, paths=parts.paths),
        updates=_updates(parts, lifecycle),
        execs=_execs(parts),
        images=images,
        image_loader=ImageLoader(parts.store, parts.events, parts.settings.images.layer_limits),
        image_saver=ImageSaver(parts.store, parts.events),
        audits=Audits(store=parts.store, records=parts.records),
        builds=_builds(parts, builder, images, build_cache),
        build_cache=build_cache,
        catalogue=Catalogue(parts.store),
        serving=Serving(parts.store, images, parts.paths.cache / "served"),
        debugging=_debugging(parts, builder, executor, images),
        networks=_networks(parts),
        registry_logins=RegistryLogins(parts.registries),
        reachability=Reachability(network=parts.network, records=parts.records, pids_of=containers.pids),
        volumes=volumes,
        events=parts.events,
        fsck=Fsck(parts.store, SnapshotStore(parts.store.db, parts.paths.volumes)),
        system=System(
            containers=containers,
            images=images,
            volumes=volumes,
            build_cache=build_cache,
            runtime=parts.runtime,
            runtimes=parts.runtimes,
            facts=parts.facts,
            paths=parts.paths,
            driver=parts.store.snapshots.name,
            log_driver=parts.settings.logs.driver,
        ),
        lifecycle=lifecycle,
        health=parts.health,
        recovery=_recovery(parts, lifecycle),
        store=parts.store,
        network=parts.network,
        links=parts.links,
        supervisor=parts.supervisor,
        local_volumes=parts.local_volumes,
        cgroups=parts.facts.cgroups,
        unpersisted=UnpersistedService(records=parts.records, store=parts.store),
        logs=parts.logs,
    )


def _execs(parts: _Parts) -> Execs:
    return Execs(
        records=parts.records,
        bundles=parts.bundles,
        supervisor=parts.supervisor,
        events=parts.events,
        failures=parts.failures,
    )


def _debugging(parts: _Parts, builder: Builder, executor: StepExecutor, images: Images) -> Debugging:
    targets = Targets(
        records=parts.records,
        store=parts.store,
        sandboxes=parts.sandboxes,
        resting=parts.resting,
        locks=parts.locks,
        paths=parts.paths,
        builder=builder,
    )
    tools = Tools(
        store=parts.store,
        images=images,
        network=parts.network,
        targets=targets,
        facts=parts.facts,
        paths=parts.paths,
        image=parts.settings.debug.image,
    )
    return Debugging(builder=builder, executor=executor, shells=Shells(parts.supervisor), targets=targets, tools=tools)


def _networks(parts: _Parts) -> Networks:
    return Networks(
        network=parts.network,
        records=parts.records,
        sandboxes=parts.sandboxes,
        events=parts.events,
        locks=parts.locks,
    )


def _volumes(parts: _Parts) -> Volumes:
    quiescer = Quiescer(parts.store.db, parts.records, parts.locks, parts.facts.cgroups, parts.paths)
    snapshots = SnapshotStore(parts.store.db, parts.paths.volumes)
    files = VolumeFiles(parts.local_volumes, parts.events)
    copies = VolumeCopies(parts.local_volumes, snapshots, quiescer, files, parts.events)
    return Volumes(parts.store.db, parts.local_volumes, copies, files, parts.events)


def _lifecycle(parts: _Parts) -> Lifecycle:
    launcher = Launcher(
        sandboxes=parts.sandboxes,
        bundles=parts.bundles,
        supervisor=parts.supervisor,
        filters=CompiledFilters(parts.runtime, parts.paths.cache / "seccomp"),
        paths=parts.paths,
        failures=parts.failures,
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
        use_events=UseEvents(parts.events, parts.network),
        locks=parts.locks,
        failures=parts.failures,
        logs=parts.logs,
        oom=OomWatch(parts.facts.cgroups, parts.paths),
    )


def _containers(parts: _Parts, lifecycle: Lifecycle) -> Containers:
    maker = ContainerMaker(
        mounts=parts.sandboxes.mounts,
        records=parts.records,
        store=parts.store,
        volumes=parts.local_volumes,
        network=parts.network,
        paths=parts.paths,
        runtimes=parts.runtimes,
        cgroupns="private" if parts.facts.cgroups.kind == "v2" else "host",
        support=parts.facts.limits,
        ids=IdRanges(parts.records, first=parts.settings.userns.first, count=parts.settings.userns.count),
        logs=parts.settings.logs.defaults,
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
        visitors=parts.sandboxes.visitors,
    )


def _container_logs(parts: _Parts, containers: Containers, lifecycle: Lifecycle) -> ContainerLogs:
    return ContainerLogs(
        records=parts.records,
        live=parts.live,
        supervisor=parts.supervisor,
        keeping=parts.logs,
        locks=parts.locks,
        wait=containers.wait,
        emit=lifecycle.emit,
    )


def _updates(parts: _Parts, lifecycle: Lifecycle) -> Updates:
    return Updates(
        records=parts.records,
        runtime=parts.runtime,
        lifecycle=lifecycle,
        locks=parts.locks,
        cgroups=parts.facts.cgroups,
    )


def _container_files(parts: _Parts, lifecycle: Lifecycle) -> ContainerFiles:
    roots = ContainerRoots(
        records=parts.records,
        sandboxes=parts.sandboxes,
        resting=parts.resting,
        locks=parts.locks,
        paths=parts.paths,
    )
    return ContainerFiles(records=parts.records, roots=roots, store=parts.store, lifecycle=lifecycle)


def _images(parts: _Parts, executor: StepExecutor, lifecycle: Lifecycle) -> Images:
    catalogue = DebianCatalogue(parts.store, executor, _archive_settings(parts.settings), parts.paths.cache)
    weigher = Weigher(parts.store, parts.paths.cache / "weights")
    registries = parts.registries
    limits = parts.settings.images.layer_limits
    return Images(
        store=parts.store,
        records=parts.records,
        catalogue=catalogue,
        weigher=weigher,
        boms=BillsOfMaterials(parts.store),
        pulls=Pulls(store=parts.store, registries=registries, events=parts.events, limits=limits),
        pushes=Pushes(store=parts.store, registries=registries, events=parts.events),
        look_ups=LookUps(registries),
        registries=registries,
        events=parts.events,
        settle=lifecycle.settle,
        imports=ImageImports(
            store=parts.store,
            events=parts.events,
            scratch=parts.paths.data_root / "staging",
            limits=_source_limits(parts.settings),
        ),
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


def _volume_catalogue(settings: Settings, paths: EnginePaths, store: Store) -> VolumeCatalogue:
    section = settings.volumes
    times = PluginTimes(
        connect=section.plugin_connect_seconds, work=section.plugin_work_seconds, ask=section.plugin_ask_seconds
    )
    plugins = Plugins(
        sockets=Path(section.plugin_sockets), specs=[Path(path) for path in section.plugin_specs], times=times
    )
    buckets = S3Driver(paths.volumes, paths.run_root / "s3", seconds=section.s3_mount_seconds)
    volumes = VolumeCatalogue(store.db, paths.volumes, (buckets,), plugins)
    volumes.add_guard(check_removable)
    return volumes


def _make_directories(paths: EnginePaths) -> None:
    paths.data_root.mkdir(parents=True, exist_ok=True, mode=0o711)
    paths.run_root.mkdir(parents=True, exist_ok=True, mode=0o711)
    (paths.data_root / "containers").mkdir(exist_ok=True, mode=0o711)
    for name in ("volumes", "cache"):  # what containers write: no user of the host may start a setuid program of theirs
        (paths.data_root / name).mkdir(exist_ok=True)
        (paths.data_root / name).chmod(0o700)


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
    configured = section.default_address_pools
    own = default.default_address_pools
    return NetworkSettings(
        default_address_pools=configured if any(":" not in pool.base for pool in configured) else own + configured,
        default_subnet=section.default_subnet,
        ipv6=section.ipv6,
        default_subnet6=section.default_subnet6,
        mtu=section.mtu or default.mtu,
        respect_host_firewall=section.publish == "respect-host-firewall",
    )
