"""Builds the objects of an engine and hands them to each other; the only place that knows all of them."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tare.base.locks import KeyedLocks
from tare.build.builder import Builder
from tare.daemon.config import Settings
from tare.distroless.catalogue import DebianCatalogue
from tare.distroless.settings import DEBIAN_KEYRING, ArchiveSettings
from tare.engine.builds import Builds, ImageSources
from tare.engine.bundle import BundleWriter
from tare.engine.container_maker import ContainerMaker
from tare.engine.containers import Containers
from tare.engine.engine import Engine
from tare.engine.events import Events
from tare.engine.execs import Execs
from tare.engine.executor import StepExecutor
from tare.engine.images import Images
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


def _wire(settings: Settings, paths: EnginePaths, store: Store, runtime: OciRuntime, facts: HostFacts) -> Engine:
    events = Events()
    locks = KeyedLocks()
    live = LiveContainers()
    records = ContainerRecords(store.db)
    supervisor = Supervisor(runtime, paths.run_root)
    network = NetworkService(store.db, paths.run_root, paths.instance, _network_settings(settings))
    local_volumes = LocalVolumes(store.db, paths.volumes)
    executor = StepExecutor(store=store, network=network, runtime=runtime, facts=facts, paths=paths)
    catalogue = DebianCatalogue(store, executor, _archive_settings(settings), paths.cache)
    weigher = Weigher(store, paths.cache / "weigh", paths.run_root / "scratch")
    sandboxes = Sandboxes(store, network, paths)
    bundles = BundleWriter(paths=paths, facts=facts, records=records)
    remover = Remover(records=records, store=store, volumes=local_volumes, events=events, paths=paths)
    lifecycle = Lifecycle(
        records=records,
        live=live,
        sandboxes=sandboxes,
        bundles=bundles,
        supervisor=supervisor,
        remover=remover,
        events=events,
        paths=paths,
        locks=locks,
    )
    maker = ContainerMaker(
        records=records,
        store=store,
        volumes=local_volumes,
        network=network,
        paths=paths,
        runtime=runtime.name,
        cgroupns="private" if facts.cgroups.kind == "v2" else "host",
    )
    containers = Containers(
        records=records,
        live=live,
        lifecycle=lifecycle,
        maker=maker,
        remover=remover,
        view=NetworkView(network),
        supervisor=supervisor,
        store=store,
        paths=paths,
        locks=locks,
        cgroups=facts.cgroups,
    )
    images = Images(store=store, records=records, catalogue=catalogue, weigher=weigher, events=events)
    builder = Builder(store, executor, ImageSources(images), paths.cache)
    volumes = Volumes(local_volumes, events)
    return Engine(
        paths=paths,
        containers=containers,
        execs=Execs(records=records, bundles=bundles, supervisor=supervisor, events=events),
        images=images,
        builds=Builds(
            builder=builder,
            images=images,
            events=events,
            scratch=paths.data_root / "staging",
            host_ca=settings.build.host_ca,
        ),
        networks=Networks(network=network, records=records, sandboxes=sandboxes, events=events, locks=locks),
        volumes=volumes,
        events=events,
        system=System(
            containers=containers,
            images=images,
            volumes=volumes,
            runtime=runtime,
            facts=facts,
            paths=paths,
            driver=store.snapshots.name,
        ),
        lifecycle=lifecycle,
        recovery=Recovery(
            records=records,
            live=live,
            lifecycle=lifecycle,
            remover=remover,
            sandboxes=sandboxes,
            supervisor=supervisor,
            runtime=runtime,
            store=store,
            paths=paths,
        ),
        store=store,
        network=network,
        supervisor=supervisor,
        local_volumes=local_volumes,
        cgroups=facts.cgroups,
    )


def _make_directories(paths: EnginePaths) -> None:
    paths.data_root.mkdir(parents=True, exist_ok=True, mode=0o711)
    paths.run_root.mkdir(parents=True, exist_ok=True, mode=0o711)
    for name in ("containers", "volumes", "cache"):
        (paths.data_root / name).mkdir(exist_ok=True, mode=0o711)


def _archive_settings(settings: Settings) -> ArchiveSettings:
    section = settings.archive
    return ArchiveSettings(
        mirrors=tuple(section.mirrors),
        suites=tuple(section.suites),
        components=tuple(section.components),
        keyring=Path(section.keyring) if section.keyring else DEBIAN_KEYRING,
    )


def _network_settings(settings: Settings) -> NetworkSettings:
    section = settings.network
    default = NetworkSettings()
    return NetworkSettings(default_subnet=section.default_subnet, mtu=section.mtu or default.mtu)
