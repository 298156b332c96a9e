"""Checks of what a container is asked to be, by Docker's rules and in its words. Pure."""

from __future__ import annotations

import re

from tare.engine.links import read_link
from tare.errors import InvalidArgument, Unsupported
from tare.model.container import ContainerConfig, HostConfig
from tare.model.signals import parse_signal
from tare.runtime import capabilities

_TMPFS_FLAGS = frozenset(
    {"async", "atime", "bind", "defaults", "dev", "diratime", "dirsync", "exec", "iversion", "lazytime", "loud", "mand",
     "noatime", "nodev", "nodiratime", "noexec", "noiversion", "nolazytime", "nomand", "norelatime", "nostrictatime",
     "nosuid", "private", "rbind", "relatime", "remount", "ro", "rprivate", "rshared", "rslave", "runbindable", "rw",
     "shared", "silent", "slave", "strictatime", "suid", "sync", "unbindable"}
)  # fmt: skip
_TMPFS_VALUES = frozenset({"gid", "mode", "nr_blocks", "nr_inodes", "size", "uid"})
_AUTO = re.compile(r"auto(?::size=(\d{1,10}))?", re.ASCII)


def check_process(config: ContainerConfig) -> None:
    """Refuse what could only fail later, when the container is started or stopped. Raises InvalidArgument."""
    if config.working_dir and not config.working_dir.startswith("/"):
        raise InvalidArgument(
            f"the working directory '{config.working_dir}' is invalid, it needs to be an absolute path"
        )
    if config.stop_signal:
        parse_signal(config.stop_signal)
    for entry in config.env or []:
        if not entry or entry.startswith("="):
            raise InvalidArgument(f"invalid environment variable: {entry}")


def check_modes(config: ContainerConfig, host: HostConfig, warnings: list[str], *, cgroup_namespaces: bool) -> None:
    """Check the namespace options; a cgroup namespace that the kernel lacks is dropped with a warning."""
    for kind, mode, words in (
        ("IPC", host.ipc_mode, ("", "none", "private", "host", "shareable")),
        ("PID", host.pid_mode, ("", "host")),
        ("UTS", host.uts_mode, ("", "host")),
    ):
        joins = kind != "UTS" and re.fullmatch(r"container:.+", mode) is not None
        if mode not in words and not joins:
            raise InvalidArgument(f"invalid {kind} mode: {mode}")
    if host.cgroupns_mode not in ("", "private", "host"):
        raise InvalidArgument(f"invalid cgroup namespace mode: {host.cgroupns_mode}")
    if host.cgroupns_mode == "private" and not cgroup_namespaces:
        warnings.append("Your kernel does not support cgroup namespaces.  Cgroup namespace setting discarded.")
        host.cgroupns_mode = "host"
    if host.uts_mode == "host" and config.hostname:
        raise InvalidArgument("conflicting options: hostname and the UTS mode")
    if host.network_mode.startswith("container:") and config.hostname:
        raise InvalidArgument("conflicting options: hostname and the network mode")
    check_userns(host)


def check_userns(host: HostConfig) -> None:
    """Check ``--userns`` and what cannot go with ids of one's own. Raises InvalidArgument."""
    if host.userns_mode in ("", "host"):
        return
    userns_size(host.userns_mode)
    conflicts = {
        "--privileged": host.privileged,
        "--pid": host.pid_mode == "host" or host.pid_mode.startswith("container:"),
        "--ipc": host.ipc_mode == "host" or host.ipc_mode.startswith("container:"),
        "--uts": host.uts_mode == "host",
        "--network": host.network_mode == "host" or host.network_mode.startswith("container:"),
    }
    for option, given in conflicts.items():
        if given:
            raise InvalidArgument(
                f"conflicting options: {option} cannot share with a user namespace of the container's own",
                hint="use --userns=host",
                code="userns-conflict",
            )


def userns_size(mode: str) -> int:
    """How many ids ``auto[:size=N]`` asks for. Raises InvalidArgument."""
    match = _AUTO.fullmatch(mode)
    if match is None:
        raise InvalidArgument(f"invalid USER mode: {mode}", hint="use host, auto, or auto:size=N")
    size = int(match[1] or DEFAULT_USERNS_SIZE)
    if not MIN_USERNS_SIZE <= size <= MAX_USERNS_SIZE:
        raise InvalidArgument(
            f"invalid USER mode: {mode}: a size is {MIN_USERNS_SIZE} to {MAX_USERNS_SIZE}", code="userns-size"
        )
    return size


DEFAULT_USERNS_SIZE = 65536
MIN_USERNS_SIZE = 1024
"""Below lie the ids that systems use themselves, such as the group 5 of terminals."""
MAX_USERNS_SIZE = 1 << 24


def check_tmpfs(host: HostConfig) -> None:
    """Check the places and options of ``--tmpfs``. Raises InvalidArgument."""
    for destination, options in (host.tmpfs or {}).items():
        if not destination.startswith("/"):
            raise InvalidArgument(f"invalid mount path: '{destination}' mount path must be absolute")
        for option in options.split(",") if options else ():
            name, equals, value = option.partition("=")
            if option not in _TMPFS_FLAGS and not (equals and value and name in _TMPFS_VALUES):
                raise InvalidArgument(f'invalid tmpfs option "{option}"')


def check_capabilities(host: HostConfig) -> None:
    """Bring capabilities into their full names. Raises InvalidArgument."""
    for member, label in (("cap_add", "CapAdd"), ("cap_drop", "CapDrop")):
        names = getattr(host, member)
        try:
            normal = capabilities.normalise(names or ())
        except InvalidArgument as error:
            raise InvalidArgument(f"invalid {label}: {error.message}", hint=error.hint) from error
        if names:
            setattr(host, member, sorted(set(normal)))


def check_available(host: HostConfig) -> None:
    """Refuse what this engine or host does not have."""
    if host.isolation not in ("", "default"):
        raise InvalidArgument(f"invalid isolation ({host.isolation}): linux only supports 'default'")
    for request in host.device_requests or []:
        wanted = " ".join(f"[{' '.join(names)}]" for names in request.get("Capabilities") or [])
        raise InvalidArgument(
            f'could not select device driver "{request.get("Driver", "")}" with capabilities: [{wanted}]',
            hint="add the device's nodes with --device",
            code="no-device-driver",
        )
    for name in host.storage_opt or {}:
        if name != "size":
            raise InvalidArgument(f"Unknown option {name}")
        raise Unsupported(
            "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
            hint="limit a volume or tmpfs instead",
            code="no-quota",
        )
    for text in host.links or []:
        read_link(text)
