"""Make containers: image, configuration, volumes, writable layer, and last the row that makes it exist."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path

from tare.engine.clock import now
from tare.engine.creation import command_of, complete_host_config, merge_config, wanted_ports
from tare.engine.endpoint_checks import check_endpoint, check_shared_namespace
from tare.engine.health_checks import settle_health
from tare.engine.id_ranges import IdRanges
from tare.engine.image_platforms import find
from tare.engine.links import wanted_links
from tare.engine.mount_plan import PlannedMount, plan_mounts
from tare.engine.mounts import ContainerMounts, check_propagation
from tare.engine.names import NAME, random_name
from tare.engine.option_checks import check_process
from tare.engine.paths import EnginePaths
from tare.engine.records import ContainerRecords, name_taken
from tare.engine.sandbox import remove_tree
from tare.errors import Conflict, InvalidArgument, NotFound
from tare.kernel.cgroups import LimitSupport
from tare.model import Platform, new_id
from tare.model.container import (
    Container,
    ContainerConfig,
    EndpointSettings,
    HostConfig,
    MountDetail,
    MountPoint,
    NetworkingConfig,
)
from tare.network.service import NetworkService
from tare.runtime.choice import RuntimeChoice
from tare.runtime.log_options import LogDefaults
from tare.store.images import Image
from tare.store.snapshotter import Lower
from tare.store.store import Store
from tare.volumes.catalogue import VolumeCatalogue
from tare.volumes.copy_up import copy_up
from tare.volumes.local import own

NAME_TRIES = 6


class ContainerMaker:
    """Turns a request into a container, or into an error with nothing left behind."""

    def __init__(
        self,
        *,
        records: ContainerRecords,
        store: Store,
        volumes: VolumeCatalogue,
        network: NetworkService,
        mounts: ContainerMounts,
        paths: EnginePaths,
        runtimes: RuntimeChoice,
        cgroupns: str,
        support: LimitSupport,
        ids: IdRanges,
        logs: LogDefaults,
    ) -> None:
        self._records = records
        self._store = store
        self._volumes = volumes
        self._network = network
        self._mounts = mounts
        self._paths = paths
        self._runtimes = runtimes
        self._cgroupns = cgroupns
        self._support = support
        self._ids = ids
        self._logs = logs

    async def make(
        self, name: str, config: ContainerConfig, host: HostConfig, networking: NetworkingConfig | None, platform: str
    ) -> tuple[Container, list[str]]:
        """See ``Containers.create``; returns the container and warnings."""
        image = await find(self._store.images, config.image, Platform.parse(platform) if platform else None)
        check_shared_namespace(config, host)  # what the image exposes is no conflict
        health_warnings = settle_health(config, image.config.config)  # before labels of both are one
        merge_config(config, image.config.config)
        check_process(config)
        command = command_of(config)
        warnings = health_warnings + complete_host_config(
            host,
            config,
            runtime=self._runtimes.default.name,
            cgroupns=self._cgroupns,
            support=self._support,
            logs=self._logs,
        )
        await self._runtimes.check(host.runtime)
        wanted_ports(config, host)  # refuses malformed ports before anything is made
        container_id = new_id()
        chosen_name = await self._choose_name(name)
        networks = await self._networks(host, networking, container_id)
        for member in ("pid_mode", "ipc_mode"):
            if (mode := getattr(host, member)).startswith("container:"):
                setattr(host, member, f"container:{(await self._records.get(mode.removeprefix('container:'))).id}")
        config.hostname = config.hostname or _hostname(host, container_id)
        links = await self._linked(host)
        others = {
            ref.partition(":")[0]: await self._records.get(ref.partition(":")[0]) for ref in host.volumes_from or []
        }
        plan = plan_mounts(host, config.volumes or {}, (), others)
        async with AsyncExitStack() as claims, AsyncExitStack() as undo:
            await self._store.snapshots.prepare(container_id, await self._lowers(image))
            undo.push_async_callback(self._store.snapshots.remove, container_id)
            directory = self._paths.container(container_id)
            await asyncio.to_thread(directory.mkdir, parents=True, mode=0o710)
            undo.push_async_callback(asyncio.to_thread, remove_tree, directory)
            mounts = await self._make_mounts(plan, container_id, claims, undo)
            container = Container(
                id=container_id,
                name=chosen_name,
                created=now(),
                image_id=str(image.id),
                image_name=config.image,
                path=command.path,
                args=list(command.args),
                config=config,
                host_config=host,
                networking=networks,
                mounts=mounts,
                mount_details=await self._details(plan),
            )
            await self._fill_volumes(container_id, plan, mounts)
            async with self._ids.reserve(host) as container.ids:
                await self._insert(container, links, generated=not name)
            self._runtimes.assign(container_id, host.runtime)
            undo.pop_all()
        return container, warnings

    async def _linked(self, host: HostConfig) -> list[tuple[str, Container]]:
        """The containers that the new one is linked to, with its names for them. Raises InvalidArgument, NotFound."""
        linked = []
        for target, alias in wanted_links(host):
            if not target:
                raise InvalidArgument('could not get container for : invalid name or ID supplied: ""', code="bad-link")
            try:
                linked.append((alias, await self._records.get(target)))
            except NotFound as error:
                message = f"could not get container for {target}: {error.message}"
                raise InvalidArgument(message, hint="make and start it first", code=error.code) from error
        return linked

    async def _insert(self, container: Container, links: Sequence[tuple[str, Container]], *, generated: bool) -> None:
        volumes = [(point.name, point.destination) for point in container.mounts if point.type == "volume"]
        for attempt in range(NAME_TRIES):
            try:
                await self._records.insert(container, volumes, links)
                return
            except Conflict as error:
                if not generated or error.code != "name-in-use":
                    raise
                container.name = random_name(retry=attempt + 1)
        raise Conflict("no free name was found", hint="give the container a name with --name")

    async def _choose_name(self, name: str) -> str:
        wanted = name.removeprefix("/")
        if not wanted:
            return random_name()
        if not NAME.fullmatch(wanted):
            raise InvalidArgument(
                f"Invalid container name ({wanted}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", code="invalid-name"
            )
        try:
            owner = await self._records.get(wanted)
        except (NotFound, InvalidArgument):
            return wanted
        if owner.name == wanted:
            raise name_taken(wanted, owner.id)
        return wanted

    async def _lowers(self, image: Image) -> list[Lower]:
        return [await self._store.snapshots.ensure_layer(diff_id) for diff_id in image.diff_ids]

    async def _networks(
        self, host: HostConfig, networking: NetworkingConfig | None, container_id: str
    ) -> dict[str, EndpointSettings]:
        mode = host.network_mode
        asked = {
            name: settings or EndpointSettings()
            for name, settings in ((networking.endpoints_config if networking else None) or {}).items()
        }
        if mode.startswith("container:"):
            for settings in asked.values():
                check_endpoint(settings, None, network_name=mode, creating=True)
            try:
                target = await self._records.get(mode.removeprefix("container:"))
            except NotFound as error:
                message = f"joining network namespace of container: {error.message}"
                raise NotFound(message, code=error.code) from error
            host.network_mode = f"container:{target.id}"
            return {}
        networks: dict[str, EndpointSettings] = {}
        first = asked.pop(mode, None) or asked.pop("default", None) or EndpointSettings()
        others = {} if mode in ("host", "none") else asked
        for name, settings in [(mode, first), *others.items()]:
            network = await self._network.get_network(name)
            if network.name == "bridge" and settings.aliases:
                raise InvalidArgument("network-scoped alias is supported only for containers in user defined networks")
            check_endpoint(settings, network, network_name=network.name, creating=True)
            networks[network.name] = settings
        return networks

    async def _make_mounts(
        self, plan: list[PlannedMount], container_id: str, claims: AsyncExitStack, undo: AsyncExitStack
    ) -> list[MountPoint]:
        points: list[MountPoint] = []
        for mount in plan:
            if not mount.listed:
                continue
            if mount.type == "bind":
                await asyncio.to_thread(_check_bind_source, mount)
                points.append(_point(mount, mount.source))
            elif mount.type == "volume":
                name = mount.source or new_id()
                claims.enter_context(self._volumes.claim(name, container_id))
                points.append(await self._make_volume(mount, name, container_id, undo))
            else:
                points.append(_point(mount, mount.source if mount.type == "image" else ""))
                points[-1].name = mount.source if mount.type == "image" else ""
        return points

    async def _make_volume(self, mount: PlannedMount, name: str, container_id: str, undo: AsyncExitStack) -> MountPoint:
        is_new = not mount.source or not await self._volumes.exists(name)
        volume = await self._volumes.create(
            name, mount.driver, dict(mount.driver_options), dict(mount.labels), anonymous=not mount.source
        )
        if is_new:
            undo.push_async_callback(self._drop_volume, name, container_id)
        point = _point(mount, volume.mountpoint)
        point.name = volume.name
        point.driver = volume.driver
        return point

    async def _drop_volume(self, name: str, container_id: str) -> None:
        """Remove a volume that was made for a container that is not; another one may have it by now."""
        with suppress(Conflict, NotFound):
            await self._volumes.remove(name, force=True, claimant=container_id)

    async def _details(self, plan: list[PlannedMount]) -> dict[str, MountDetail]:
        details = {}
        for mount in plan:
            image = str((await self._store.images.resolve(mount.source)).id) if mount.type == "image" else ""
            detail = MountDetail(
                subpath=mount.subpath,
                image=image,
                recursive=mount.recursive,
                read_only_below=mount.read_only_below,
                idmap=mount.idmap,
                tmpfs=",".join(mount.options) if mount.listed else "",
            )
            if detail != MountDetail():
                details[mount.destination] = detail
        return details

    async def _fill_volumes(self, container_id: str, plan: list[PlannedMount], points: list[MountPoint]) -> None:
        """Copy what the image has at a volume's place into the volume, if that is empty.

        Volumes that are mounted only while in use are mounted here too: a container whose volume cannot be is not made.
        """
        listed = [mount for mount in plan if mount.listed]
        pairs = [(mount, point) for mount, point in zip(listed, points, strict=True) if mount.type == "volume"]
        if not any(mount.copy_up or mount.subpath for mount, _ in pairs):
            return
        target = self._paths.rootfs(container_id)
        await asyncio.to_thread(target.mkdir, parents=True, exist_ok=True)
        await self._store.snapshots.mount(container_id, target)
        try:
            for number, (mount, point) in enumerate(pairs):
                place = await self._mounts.volume(point.name, mount.subpath, container_id, number)
                if mount.copy_up:
                    in_place = bool(mount.subpath) or place != self._volumes.path_if_plain(point.name, point.driver)
                    copied = await asyncio.to_thread(copy_up, target, point.destination, place, in_place=in_place)
                    if copied and not mount.subpath:
                        await asyncio.to_thread(own, place, await self._volumes.ownership(point.name))
        finally:
            await self._mounts.release(container_id)
            await self._store.snapshots.unmount(target)
            await asyncio.to_thread(target.rmdir)


def _point(mount: PlannedMount, source: str) -> MountPoint:
    return MountPoint(
        type=mount.type,
        source=source,
        destination=mount.destination,
        mode=mount.mode,
        rw=not mount.read_only,
        propagation=mount.propagation,
    )


def _check_bind_source(mount: PlannedMount) -> None:
    source = Path(mount.source)
    if source.exists():
        check_propagation(mount.source, mount.propagation)
        return
    if not mount.create_source:
        raise InvalidArgument(
            f'invalid mount config for type "bind": bind source path does not exist: {mount.source}',
            hint="create it first, or use -v, which makes a directory",
            code="bind-source-missing",
        )
    try:
        source.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidArgument(
            f"error while creating mount source path '{source}': mkdir {error.filename}:"
            f" {(error.strerror or str(error)).lower()}",
            code="bind-source-missing",
        ) from error
    check_propagation(mount.source, mount.propagation)


def _hostname(host: HostConfig, container_id: str) -> str:
    import socket

    if host.network_mode == "host" or host.uts_mode == "host":
        return socket.gethostname()
    return container_id[:12]
