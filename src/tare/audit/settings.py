"""How an image and a container are set to run: user, namespaces, mounts, rights, ports, limits."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from tare.audit.files import finding
from tare.audit.findings import Finding, Severity
from tare.model.container import Container, MountPoint

_ENGINE_SOCKETS = (
    "docker.sock", "tare.sock", "tared.sock", "containerd.sock", "crio.sock", "podman.sock", "buildkitd.sock",
    "containerd.sock.ttrpc",
)  # fmt: skip
_SOCKET_DIRECTORIES = ("/run", "/var/run", "/run/tare", "/run/docker", "/run/containerd", "/run/podman", "/run/crio")
_SYSTEM = (
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/root", "/run", "/sbin", "/sys", "/usr", "/var/lib",
    "/var/run", "/var/spool/cron",
)  # fmt: skip
_HARMLESS = ("/etc/localtime", "/etc/timezone", "/etc/ssl/certs", "/etc/ca-certificates", "/usr/share/zoneinfo")
_HARMLESS_CAPABILITIES = frozenset(("NET_BIND_SERVICE", "AUDIT_WRITE"))
_SEVERE_CAPABILITIES = frozenset(
    (
        *("ALL", "SYS_ADMIN", "SYS_MODULE", "SYS_PTRACE", "SYS_RAWIO", "SYS_BOOT", "DAC_READ_SEARCH", "BPF"),
        *("MAC_ADMIN", "MAC_OVERRIDE", "NET_ADMIN", "PERFMON", "SYSLOG", "SYS_TIME", "CHECKPOINT_RESTORE"),
    )
)
_EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104 - what is looked for
_ROOT_USERS = ("", "0", "root")


def is_root(user: str) -> bool:
    """Whether ``USER`` means root: empty, ``root`` or a number of 0, whatever the group."""
    name = user.partition(":")[0]
    return name in _ROOT_USERS or (name.isdecimal() and int(name) == 0)


def check_user(user: str, place: str, *, mapped: bool = False) -> Iterator[Finding]:
    """Whether it runs as root; with ids of its own root is nobody on the host."""
    if is_root(user):
        severity = Severity.LOW if mapped else None
        yield finding("root-user", place, f"user {user!r}" if user else "no user is set", severity=severity)


def check_container(container: Container) -> Iterator[Finding]:
    """What the container's settings open to it."""
    host = container.host_config
    if host.privileged:
        yield finding("privileged", "Privileged", "--privileged")
    if host.network_mode == "host":
        yield finding("host-network", "NetworkMode", "--network host")
    for name, mode in (("pid", host.pid_mode), ("ipc", host.ipc_mode), ("uts", host.uts_mode)):
        if mode == "host":
            yield finding("host-namespace", f"{name.capitalize()}Mode", f"--{name} host")
    for mount in container.mounts:
        yield from _check_mount(mount)
    yield from _check_rights(container)
    yield from _check_ports(container)
    if not host.readonly_rootfs:
        yield finding("writable-root", "ReadonlyRootfs", "no --read-only")
    lacking = [name for name, limit in (("memory", host.memory), ("processes", host.pids_limit)) if not limit]
    if lacking:
        yield finding("no-limits", "Memory, PidsLimit", f"no limit of {' and '.join(lacking)}")


def _check_rights(container: Container) -> Iterator[Finding]:
    host = container.host_config
    for name in host.cap_add or []:
        capability = name.upper().removeprefix("CAP_")
        if capability not in _HARMLESS_CAPABILITIES:
            severity = Severity.HIGH if capability in _SEVERE_CAPABILITIES else None
            yield finding("added-capability", f"CapAdd {capability}", f"--cap-add {capability}", severity=severity)
    options = [option.replace(":", "=", 1) for option in host.security_opt or []]
    for option in options:
        if option in ("seccomp=unconfined", "apparmor=unconfined", "systempaths=unconfined", "label=disable"):
            yield finding("unconfined", f"SecurityOpt {option}", f"--security-opt {option}")
    if not any(option in ("no-new-privileges", "no-new-privileges=true") for option in options):
        yield finding("new-privileges", "SecurityOpt", "no --security-opt no-new-privileges")
    for device in host.devices or []:
        yield finding("host-device", f"Devices {device.path_on_host}", f"--device {device.path_on_host}")
    for rule in host.device_cgroup_rules or []:
        yield finding("host-device", f"DeviceCgroupRules {rule}", f"--device-cgroup-rule {rule!r}")


def _check_mount(mount: MountPoint) -> Iterator[Finding]:
    if mount.type != "bind":
        return
    source = posixpath.normpath(mount.source)
    mode = "read and write" if mount.rw else "read-only"
    what = f"{source} at {mount.destination}, {mode}"
    if posixpath.basename(source) in _ENGINE_SOCKETS or source in _SOCKET_DIRECTORIES or source == "/":
        yield finding("engine-socket", mount.destination, what)
        return
    if any(source == place or source.startswith(f"{place}/") for place in _HARMLESS) and not mount.rw:
        return
    if any(source == place or source.startswith(f"{place}/") for place in _SYSTEM):
        severity = None if mount.rw else Severity.MEDIUM
        yield finding("system-mount", mount.destination, what, severity=severity)


def _check_ports(container: Container) -> Iterator[Finding]:
    for port, bindings in sorted((container.host_config.port_bindings or {}).items()):
        for binding in bindings or []:
            if binding.host_ip in _EVERYWHERE:
                number = binding.host_port or "any free port"
                yield finding("published-everywhere", f"PortBindings {port}", f"{port} at {number} of every address")
    if container.host_config.publish_all_ports:
        yield finding("published-everywhere", "PublishAllPorts", "--publish-all, on every address")
