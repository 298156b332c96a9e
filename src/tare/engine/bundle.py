"""The OCI bundle of a container: what was asked for becomes a runtime configuration on disk."""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from tare.archive.confined import resolve_in_root
from tare.base.atomic import write_atomic
from tare.engine.isolation import Isolation, check_ids
from tare.engine.links import Links
from tare.engine.paths import EnginePaths
from tare.engine.requests import ExecConfig
from tare.engine.security_options import check_labels, read_security
from tare.errors import InternalError, InvalidArgument
from tare.kernel.mounts import mount_table, restrictions, unmount_below
from tare.model.container import Container, HostConfig, MountPoint
from tare.runtime.host import HostFacts, SpecDevice, host_device
from tare.runtime.spec import make_process, make_spec
from tare.runtime.spec_request import Resources, SpecMount, SpecRequest, SpecUlimit
from tare.runtime.users import resolve_user

RECURSIVE_BIND = "rbind"
_THROTTLES = {
    "throttleReadBpsDevice": "blkio_device_read_bps",
    "throttleWriteBpsDevice": "blkio_device_write_bps",
    "throttleReadIOPSDevice": "blkio_device_read_iops",
    "throttleWriteIOPSDevice": "blkio_device_write_iops",
}


class BundleWriter:
    """Makes runtime configurations for containers and execs."""

    def __init__(self, *, paths: EnginePaths, facts: HostFacts, isolation: Isolation, links: Links) -> None:
        self._paths = paths
        self._facts = facts
        self._isolation = isolation
        self._links = links

    async def spec(
        self, container: Container, root: Path, namespace: Path | None, files: dict[str, Path]
    ) -> dict[str, Any]:
        """The runtime configuration of a container whose root is mounted at ``root``."""
        container = await self._links.with_environment(container)
        config, host = container.config, container.host_config
        user = await asyncio.to_thread(resolve_user, root, config.user, host.group_add or [])
        check_ids(container.ids, user)
        owner = container.ids.first if container.ids is not None else 0
        await asyncio.to_thread(_make_working_directory, root, config.working_dir, owner)
        devices = await asyncio.to_thread(_devices, host)
        resources = await asyncio.to_thread(_resources, host)
        security = read_security(host)
        check_labels(security, self._facts.security_modules)
        mounts = (*_file_mounts(container, files), *(_mount(point) for point in container.mounts))
        request = SpecRequest(
            rootfs=root,
            args=(container.path, *container.args),
            env=tuple(config.env or ()),
            cwd=config.working_dir or "/",
            uid=user.uid,
            gid=user.gid,
            groups=tuple(user.groups),
            home=user.home,
            terminal=config.tty,
            hostname=config.hostname,
            domainname=config.domainname,
            mounts=await asyncio.to_thread(_resolved, root, await self._isolation.map_mounts(container, mounts)),
            ids=None if container.ids is None else (container.ids.first, container.ids.size),
            user_namespace=self._isolation.user_namespace(container),
            network_namespace=namespace,
            network_shared=host.network_mode.startswith("container:"),
            cgroup_path=f"{host.cgroup_parent or self._paths.cgroup_parent}/{container.id}",
            cap_add=tuple(host.cap_add or ()),
            cap_drop=tuple(host.cap_drop or ()),
            privileged=host.privileged,
            readonly_rootfs=host.readonly_rootfs,
            no_new_privileges=security.no_new_privileges,
            seccomp=security.seccomp,
            apparmor=security.apparmor,
            writable_cgroups=security.writable_cgroups,
            resources=resources,
            ulimits=tuple(SpecUlimit(name=item.name, soft=item.soft, hard=item.hard) for item in host.ulimits or ()),
            sysctls=dict(host.sysctls or {}),
            devices=devices,
            device_cgroup_rules=tuple(host.device_cgroup_rules or ()),
            shm_size=host.shm_size,
            masked_paths=None if host.masked_paths is None else tuple(host.masked_paths),
            readonly_paths=None if host.readonly_paths is None else tuple(host.readonly_paths),
            pid_mode=await self._isolation.namespace(host.pid_mode, "pid"),
            ipc_mode=await self._isolation.namespace(host.ipc_mode, "ipc"),
            shared_memory=await self._isolation.shared_memory(container),
            no_shared_memory=host.ipc_mode == "none",
            uts_mode=host.uts_mode,
            cgroupns_mode=host.cgroupns_mode,
            init=bool(host.init),
            oom_score_adj=host.oom_score_adj,
            annotations=dict(host.annotations or {}),
        )
        return make_spec(request, self._facts)

    async def exec_process(self, container: Container, asked: ExecConfig, *, terminal: bool) -> dict[str, Any]:
        """The runtime-spec ``process`` of an exec: the container's own, changed as asked."""
        container = await self._links.with_environment(container)
        host = container.host_config
        root = self._paths.rootfs(container.id)
        groups = (host.group_add or []) if not asked.user else []
        user = await asyncio.to_thread(resolve_user, root, asked.user or container.config.user, groups)
        check_ids(container.ids, user)
        request = SpecRequest(
            rootfs=root,
            args=asked.cmd,
            env=(*(container.config.env or ()), *asked.env),
            cwd=asked.working_dir or container.config.working_dir or "/",
            uid=user.uid,
            gid=user.gid,
            groups=tuple(user.groups),
            home=user.home,
            terminal=terminal,
            hostname=container.config.hostname,
            console_size=asked.console_size,
            cap_add=tuple(host.cap_add or ()),
            cap_drop=tuple(host.cap_drop or ()),
            privileged=asked.privileged or host.privileged,
            no_new_privileges=read_security(host).no_new_privileges,
            apparmor=read_security(host).apparmor,
            oom_score_adj=host.oom_score_adj,
        )
        return make_process(request, self._facts)


def write_spec(directory: Path, spec: dict[str, Any]) -> None:
    """Put ``config.json`` into a bundle directory."""
    write_atomic(directory / "config.json", msgspec.json.encode(spec), durable=False)


def clear_bundle(bundle: Path) -> None:
    """Undo the mounts in a bundle directory and delete it; quiet when it is not there.

    Raises InternalError when something stays mounted in it: what is mounted is somebody else's and must not be deleted.
    """
    if not bundle.exists():
        return
    unmount_below(bundle)
    top = os.path.realpath(bundle)
    if any(entry.target.startswith(f"{top}/") for entry in mount_table()):
        raise InternalError(f"{bundle}: something is still mounted in it", hint=f"umount --recursive {bundle}")
    shutil.rmtree(bundle)


def _resources(host: HostConfig) -> Resources:
    return Resources(
        memory=host.memory,
        memory_swap=host.memory_swap or (host.memory * 2 if host.memory > 0 else 0),
        memory_reservation=host.memory_reservation,
        memory_swappiness=host.memory_swappiness,
        cpu_shares=host.cpu_shares,
        nano_cpus=host.nano_cpus,
        cpu_period=host.cpu_period,
        cpu_quota=host.cpu_quota,
        cpuset_cpus=host.cpuset_cpus,
        cpuset_mems=host.cpuset_mems,
        pids_limit=host.pids_limit,
        blkio_weight=host.blkio_weight,
        blkio_weight_device=tuple(
            (*_device_numbers(item.path), item.weight) for item in host.blkio_weight_device or ()
        ),
        blkio_throttle={
            kind: tuple((*_device_numbers(item.path), item.rate) for item in getattr(host, member) or ())
            for kind, member in _THROTTLES.items()
        },
        cpu_realtime_period=host.cpu_realtime_period,
        cpu_realtime_runtime=host.cpu_realtime_runtime,
        oom_kill_disable=bool(host.oom_kill_disable),
    )


def _device_numbers(path: str) -> tuple[int, int]:
    try:
        status = Path(path).stat()
    except OSError as error:
        raise InvalidArgument(
            f"stat {path}: {(error.strerror or str(error)).lower()}", code="no-such-device"
        ) from error
    return os.major(status.st_rdev), os.minor(status.st_rdev)


def _devices(host: HostConfig) -> tuple[SpecDevice, ...]:
    found: list[SpecDevice] = []
    for mapping in host.devices or ():
        found.extend(host_device(mapping.path_on_host, mapping.path_in_container, mapping.cgroup_permissions or "rwm"))
    return tuple(found)


def _file_mounts(container: Container, files: dict[str, Path]) -> list[SpecMount]:
    taken = {point.destination for point in container.mounts}
    access = "ro" if container.host_config.readonly_rootfs else "rw"
    return [
        SpecMount(
            type="bind", source=str(source), destination=destination, options=(RECURSIVE_BIND, "rprivate", access)
        )
        for destination, source in files.items()
        if destination not in taken
    ]


_TMPFS_DEFAULTS = {"noexec": "exec", "nosuid": "suid", "nodev": "dev"}


def _merged_tmpfs(wanted: list[str]) -> tuple[str, ...]:
    """Docker's options for a tmpfs, less those whose opposite is asked for: runtimes differ in which of two counts."""
    kept = [word for word, opposite in _TMPFS_DEFAULTS.items() if opposite not in wanted]
    return tuple(dict.fromkeys([*kept, "rprivate", *wanted]))


def _mount(point: MountPoint) -> SpecMount:
    if point.type == "tmpfs":
        options = _merged_tmpfs([word for word in point.mode.split(",") if word])
        return SpecMount(type="tmpfs", source="tmpfs", destination=point.destination, options=options)
    propagation = point.propagation or "rprivate"
    access = "rw" if point.rw else "ro"
    return SpecMount(
        type="bind", source=point.source, destination=point.destination, options=(RECURSIVE_BIND, propagation, access)
    )


def _resolved(root: Path, mounts: tuple[SpecMount, ...]) -> tuple[SpecMount, ...]:
    """Destinations without the image's links: where one leads to nothing, runtimes differ in what they make of it.

    What a source's file system forbids stays forbidden in the container.
    """

    def resolve(mount: SpecMount) -> SpecMount:
        destination = f"/{resolve_in_root(root, mount.destination).relative_to(root)}"
        if mount.type != "bind":
            return replace(mount, destination=destination)
        kept = restrictions(Path(mount.source))
        options = [word for word in mount.options if word != "rw" or "ro" not in kept]
        return replace(mount, destination=destination, options=tuple(dict.fromkeys([*options, *kept])))

    return tuple(resolve(mount) for mount in mounts)


def _make_working_directory(root: Path, directory: str, owner: int) -> None:
    """Make a missing working directory, owned by the container's root (``owner`` on the host), as Docker does."""
    if not directory or directory == "/":
        return
    if not directory.startswith("/"):
        raise InvalidArgument(f"the working directory '{directory}' is invalid, it needs to be an absolute path")
    place = resolve_in_root(root, directory)
    if place.exists() and not place.is_dir():
        raise InvalidArgument(f"Cannot mkdir: {directory} is not a directory", code="workdir-not-a-directory")
    missing = [path for path in (place, *place.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode=0o755)
        os.chown(path, owner, owner)
