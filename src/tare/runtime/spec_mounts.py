"""The mounts of a container's spec."""

from __future__ import annotations

import posixpath
from typing import Any

from tare.runtime.host import HostFacts
from tare.runtime.spec_request import INIT_PATH, SpecMount, SpecRequest

Mount = dict[str, Any]

_WRITABLE_WITH_READONLY_ROOT = frozenset({"/proc", "/dev/pts", "/dev/shm", "/dev/mqueue", "/dev"})


def make_mounts(request: SpecRequest, facts: HostFacts) -> list[Mount]:
    """Docker's default mounts less those that the request replaces, then the request's, parents before children."""
    own = {posixpath.normpath(mount.destination) for mount in request.mounts}
    mounts: list[Mount] = []
    for mount in _defaults(request, facts):
        if mount["destination"] in own:
            continue
        writable = request.privileged or (request.writable_cgroups and mount["type"] == "cgroup")
        if writable and mount["type"] in ("sysfs", "cgroup"):
            mount["options"] = [option if option != "ro" else "rw" for option in mount["options"]]
        if request.readonly_rootfs and mount["destination"] not in _WRITABLE_WITH_READONLY_ROOT:
            mount["options"] = list(dict.fromkeys([*(o for o in mount["options"] if o != "rw"), "ro"]))
        mounts.append(mount)
    if request.init and facts.init is not None:
        mounts.append(_mount(INIT_PATH, "bind", str(facts.init), "bind", "ro"))
    ordered = sorted(request.mounts, key=lambda mount: posixpath.normpath(mount.destination).count("/"))
    return mounts + [_requested(mount) for mount in ordered]


def _mount(destination: str, kind: str, source: str, *options: str) -> Mount:
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}


def _defaults(request: SpecRequest, facts: HostFacts) -> list[Mount]:
    mounts = [
        _mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount(
            "/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"
        ),
        _mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro"),
    ]
    if facts.cgroups.kind != "none":
        mounts.append(_mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro", "nosuid", "noexec", "nodev"))
    mounts.append(_mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"))
    if request.ipc_mode == "host":
        mounts.append(_mount("/dev/shm", "bind", "/dev/shm", "rbind", "nosuid", "noexec", "nodev"))
    else:
        size = f"size={request.shm_size}"
        if request.shared_memory is not None:
            shared = str(request.shared_memory)
            mounts.append(_mount("/dev/shm", "bind", shared, "rbind", "nosuid", "noexec", "nodev", "rprivate"))
        elif not request.no_shared_memory:
            mounts.append(_mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", size))
    if request.network_namespace is None and request.pid_mode == "host" and facts.userns:
        # sysfs cannot be mounted where the network namespace is not ours to see
        mounts[3] = _mount("/sys", "bind", "/sys", "rbind", "nosuid", "noexec", "nodev", "ro")
    return mounts


def _requested(mount: SpecMount) -> Mount:
    options = list(mount.options)
    if mount.type == "bind":
        if not {"bind", "rbind"} & set(options):
            options.insert(0, "rbind")
        if not {"private", "rprivate", "shared", "rshared", "slave", "rslave"} & set(options):
            options.append("rprivate")
        return _mount(mount.destination, "bind", mount.source, *options)
    if not options:
        options = ["noexec", "nosuid", "nodev"]
    return _mount(mount.destination, "tmpfs", mount.source or "tmpfs", *options)
