"""The OCI bundle of a container: what was asked for becomes a runtime configuration on disk."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from tare.archive.confined import resolve_in_root
from tare.base.atomic import write_atomic
from tare.engine.paths import EnginePaths
from tare.engine.records import ContainerRecords
from tare.engine.requests import ExecConfig
from tare.errors import Conflict, InvalidArgument
from tare.model.container import Container, HostConfig, MountPoint
from tare.runtime.host import HostFacts, SpecDevice, host_device
from tare.runtime.spec import make_process, make_spec
from tare.runtime.spec_request import Resources, SpecMount, SpecRequest, SpecUlimit
from tare.runtime.users import UserIds, resolve_user

RECURSIVE_BIND = "rbind"


class BundleWriter:
    """Makes runtime configurations for containers and execs."""

    def __init__(self, *, paths: EnginePaths, facts: HostFacts, records: ContainerRecords) -> None:
        self._paths = paths
        self._facts = facts
        self._records = records

    async def spec(
        self, container: Container, root: Path, namespace: Path | None, files: dict[str, Path]
    ) -> dict[str, Any]:
        """The runtime configuration of a container whose root is mounted at ``root``."""
        config, host = container.config, container.host_config
        user = await asyncio.to_thread(resolve_user, root, config.user, host.group_add or [])
        await asyncio.to_thread(_make_working_directory, root, config.working_dir, user)
        devices = await asyncio.to_thread(_devices, host)
        mounts = (*_file_mounts(container, files), *(_mount(point) for point in container.mounts))
        security = _security(host)
        request = SpecRequest(
            rootfs=root,
            args=(container.path, *container.args),
            env=tuple(config.env or ()),
            cwd=config.working_dir or "/",
            uid=user.uid,
            gid=user.gid,
            groups=tuple(user.groups),
            terminal=config.tty,
            hostname=config.hostname,
            domainname=config.domainname,
            mounts=await asyncio.to_thread(_resolved, root, mounts),
            network_namespace=namespace,
            network_shared=host.network_mode.startswith("container:"),
            cgroup_path=f"{host.cgroup_parent or self._paths.cgroup_parent}/{container.id}",
            cap_add=tuple(host.cap_add or ()),
            cap_drop=tuple(host.cap_drop or ()),
            privileged=host.privileged,
            readonly_rootfs=host.readonly_rootfs,
            no_new_privileges=security.no_new_privileges,
            seccomp=security.seccomp,
            resources=_resources(host),
            ulimits=tuple(SpecUlimit(name=item.name, soft=item.soft, hard=item.hard) for item in host.ulimits or ()),
            sysctls=dict(host.sysctls or {}),
            devices=devices,
            device_cgroup_rules=tuple(host.device_cgroup_rules or ()),
            shm_size=host.shm_size,
            masked_paths=None if host.masked_paths is None else tuple(host.masked_paths),
            readonly_paths=None if host.readonly_paths is None else tuple(host.readonly_paths),
            pid_mode=await self._namespace(host.pid_mode, "pid"),
            ipc_mode=await self._namespace("" if host.ipc_mode in ("private", "shareable") else host.ipc_mode, "ipc"),
            uts_mode=host.uts_mode,
            cgroupns_mode="" if host.cgroupns_mode == "private" else host.cgroupns_mode,
            init=bool(host.init),
            oom_score_adj=host.oom_score_adj,
            annotations=dict(host.annotations or {}),
        )
        return make_spec(request, self._facts)

    async def exec_process(self, container: Container, asked: ExecConfig, *, terminal: bool) -> dict[str, Any]:
        """The runtime-spec ``process`` of an exec: the container's own, changed as asked."""
        host = container.host_config
        root = self._paths.rootfs(container.id)
        groups = (host.group_add or []) if not asked.user else []
        user = await asyncio.to_thread(resolve_user, root, asked.user or container.config.user, groups)
        request = SpecRequest(
            rootfs=root,
            args=asked.cmd,
            env=(*(container.config.env or ()), *asked.env),
            cwd=asked.working_dir or container.config.working_dir or "/",
            uid=user.uid,
            gid=user.gid,
            groups=tuple(user.groups),
            terminal=terminal,
            hostname=container.config.hostname,
            console_size=asked.console_size,
            cap_add=tuple(host.cap_add or ()),
            cap_drop=tuple(host.cap_drop or ()),
            privileged=asked.privileged or host.privileged,
            no_new_privileges=_security(host).no_new_privileges,
            oom_score_adj=host.oom_score_adj,
        )
        return make_process(request, self._facts)

    async def _namespace(self, mode: str, kind: str) -> str:
        if not mode.startswith("container:"):
            return mode
        other = await self._records.get(mode.removeprefix("container:"))
        if not other.state.pid:
            raise Conflict(f"cannot join {kind} namespace of a non running container: {other.id}")
        return f"/proc/{other.state.pid}/ns/{kind}"


def write_spec(directory: Path, spec: dict[str, Any]) -> None:
    """Put ``config.json`` into a bundle directory."""
    write_atomic(directory / "config.json", msgspec.json.encode(spec), durable=False)


class _Security(msgspec.Struct, frozen=True):
    seccomp: str
    no_new_privileges: bool


def _security(host: HostConfig) -> _Security:
    seccomp, no_new_privileges = "unconfined" if host.privileged else "default", False
    for option in host.security_opt or []:
        name, separator, value = option.partition("=" if "=" in option else ":")
        if name == "no-new-privileges":
            no_new_privileges = value in ("", "true")
        elif name == "seccomp" and separator:
            seccomp = "default" if value == "builtin" else value
        elif name in ("label", "apparmor", "systempaths", "writable-cgroups"):
            continue  # the host has no such module, or the client has turned it into other fields
        else:
            raise InvalidArgument(f'invalid --security-opt: "{option}"')
    return _Security(seccomp, no_new_privileges)


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
        oom_kill_disable=bool(host.oom_kill_disable),
    )


def _devices(host: HostConfig) -> tuple[SpecDevice, ...]:
    found: list[SpecDevice] = []
    for mapping in host.devices or ():
        found.extend(host_device(mapping.path_on_host, mapping.path_in_container, mapping.cgroup_permissions or "rwm"))
    return tuple(found)


def _file_mounts(container: Container, files: dict[str, Path]) -> list[SpecMount]:
    taken = {point.destination for point in container.mounts}
    return [
        SpecMount(type="bind", source=str(source), destination=destination, options=(RECURSIVE_BIND, "rprivate"))
        for destination, source in files.items()
        if destination not in taken
    ]


def _mount(point: MountPoint) -> SpecMount:
    if point.type == "tmpfs":
        options = ("noexec", "nosuid", "nodev", "rprivate", *(word for word in point.mode.split(",") if word))
        return SpecMount(type="tmpfs", source="tmpfs", destination=point.destination, options=options)
    propagation = point.propagation or "rprivate"
    access = "rw" if point.rw else "ro"
    return SpecMount(
        type="bind", source=point.source, destination=point.destination, options=(RECURSIVE_BIND, propagation, access)
    )


def _resolved(root: Path, mounts: tuple[SpecMount, ...]) -> tuple[SpecMount, ...]:
    """Destinations without the image's links: where one leads to nothing, runtimes differ in what they make of it."""

    def destination(mount: SpecMount) -> str:
        return f"/{resolve_in_root(root, mount.destination).relative_to(root)}"

    return tuple(replace(mount, destination=destination(mount)) for mount in mounts)


def _make_working_directory(root: Path, directory: str, user: UserIds) -> None:
    """Make a missing working directory for the container's user, as Docker does."""
    if not directory or directory == "/":
        return
    if not directory.startswith("/"):
        raise InvalidArgument(f"the working directory '{directory}' is invalid, it needs to be an absolute path")
    place = resolve_in_root(root, directory)
    missing = [path for path in (place, *place.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode=0o755)
        os.chown(path, user.uid, user.gid)
