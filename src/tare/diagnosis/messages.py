"""What the words of the runtime and of the engine's own refusals stand for, apart from the command itself."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass

from tare.diagnosis.names import listed, nearest
from tare.diagnosis.tree import Outcome
from tare.diagnosis.view import View
from tare.errors import Diagnosis

_MAX_TABLE = 1 << 20
MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What was asked for. ``memory`` is bytes, ``pids`` a number, 0 for no limit; capabilities without ``CAP_``."""

    user: str = ""
    working_directory: str = ""
    memory: int = 0
    pids: int = 0
    read_only: bool = False
    capabilities: frozenset[str] | None = None


def diagnose_message(message: str, view: View, settings: Settings) -> Diagnosis | None:
    """The cause behind an error message of the start of a container; None for one that says nothing known."""
    for pattern, explain in _KNOWN:
        if found := re.search(pattern, message, re.IGNORECASE):
            diagnosis = explain(found, view, settings)
            if diagnosis is not None:
                return diagnosis
    return None


Explain = Callable[[re.Match[str], View, Settings], Diagnosis | None]


def _user(found: re.Match[str], view: View, _: Settings) -> Diagnosis:
    name = found["name"]
    near = nearest(name, _table(view, "/etc/passwd"))
    return Diagnosis(
        code="user-not-found", subject=name, cause=f"the image's /etc/passwd has no user {name}",
        fix=_names_fix(near, "make the user in the image (RUN useradd), or give its number"),
    )  # fmt: skip


def _group(found: re.Match[str], view: View, _: Settings) -> Diagnosis:
    name = found["name"]
    near = nearest(name, _table(view, "/etc/group"))
    return Diagnosis(
        code="group-not-found", subject=name, cause=f"the image's /etc/group has no group {name}",
        fix=_names_fix(near, "make the group in the image (RUN groupadd), or give its number"),
    )  # fmt: skip


def _names_fix(near: list[str], otherwise: str) -> str:
    return f"did you mean {listed(near)}? Else {otherwise}" if near else otherwise


def _table(view: View, path: str) -> list[str]:
    try:
        text = view.tree.read(path, _MAX_TABLE).decode(errors="replace")
    except OSError:
        return []
    return [line.partition(":")[0] for line in text.splitlines() if ":" in line]


def _working_directory(_: re.Match[str], view: View, settings: Settings) -> Diagnosis | None:
    wanted = settings.working_directory
    if not wanted:
        return None
    look = view.tree.look(wanted)
    identity = view.tree.identity
    if look.outcome is Outcome.NOT_DIRECTORY or (look.outcome is Outcome.FOUND and not look.is_directory):
        where = look.path if look.path != posixpath.normpath(wanted) else "it"
        return Diagnosis(
            code="workdir-not-directory", subject=wanted,
            cause=f"the working directory {wanted} cannot be used: {where} is a file", fix="choose a directory with -w",
        )  # fmt: skip
    if look.outcome is Outcome.FOUND and look.info is not None:
        blocked = look.blocked_at or ("" if identity.may(look.info, 1) else look.path)
        if blocked:
            return Diagnosis(
                code="workdir-not-accessible", subject=wanted,
                cause=f"user {identity.uid} may not enter {blocked}, the working directory being {wanted}",
                fix=f"RUN chmod a+x {blocked}, choose another directory with -w, or another user with -u",
            )  # fmt: skip
        return None
    if look.outcome is Outcome.LOOP or look.links:
        link = look.links[-1][0]
        return Diagnosis(
            code="workdir-missing", subject=wanted,
            cause=f"the working directory {wanted} leads to {link}, a symbolic link to what does not exist",
            fix="choose a directory with -w, or correct the link",
        )  # fmt: skip
    return Diagnosis(
        code="workdir-missing", subject=wanted, cause=f"the working directory {wanted} does not exist",
        fix="make it in the image (WORKDIR), or choose another with -w",
    )  # fmt: skip


def _mount_kinds(found: re.Match[str], view: View, _: Settings) -> Diagnosis | None:
    source, target = found["source"], found["target"]
    mount = next((item for item in view.tree.mounts if item.destination == target), None)
    if mount is None:
        return None
    inside = view.tree.without(mount).look(target)
    kinds = ("a directory", "a file") if inside.is_file else ("a file", "a directory")
    return Diagnosis(
        code="mount-kind-mismatch", subject=target,
        cause=f"{kinds[0]}, {source}, cannot be mounted over {kinds[1]}, {target} in the image",
        fix=f"mount {'a file' if inside.is_file else 'a directory'}, or at another place; -v makes a directory of a "
        "source that is missing",
    )  # fmt: skip


def _mount_source(found: re.Match[str], view: View, _: Settings) -> Diagnosis | None:
    mount = next((item for item in view.tree.mounts if str(item.source) == found["source"]), None)
    if mount is None or mount.source is None or mount.source.exists():
        return None
    return Diagnosis(
        code="bind-source-missing", subject=str(mount.source),
        cause=f"{mount.source}, to be mounted at {mount.destination}, does not exist any more", fix="make it again",
    )  # fmt: skip


def _read_only_root(found: re.Match[str], view: View, settings: Settings) -> Diagnosis | None:
    target = found["target"]
    if not target:
        return None
    above = next(
        (item for item in view.tree.mounts if item.destination != target
         and target.startswith(item.destination.rstrip("/") + "/")), None,
    )  # fmt: skip
    if above is None and not settings.read_only:
        return None
    where = f"{above.label}, mounted read-only," if above else "the read-only root file system"
    return Diagnosis(
        code="mount-point-missing", subject=target,
        cause=f"{where} has no {target} to mount on, and it cannot be made there",
        fix=f"make {target} {'in what is mounted' if above else 'in the image'}, or mount at another place",
    )  # fmt: skip


def _memory_at_start(_: re.Match[str], __: View, settings: Settings) -> Diagnosis | None:
    if not settings.memory:
        return None
    return Diagnosis(
        code="memory-limit-low", subject=str(settings.memory),
        cause=f"the memory limit of {size_text(settings.memory)} is too low for the container even to start",
        fix=f"set at least -m {_megabytes(max(settings.memory * 2, 16 * MEBIBYTE))}",
    )  # fmt: skip


def out_of_memory(settings: Settings) -> Diagnosis:
    """The kernel killed the process for want of memory."""
    if not settings.memory:
        return Diagnosis(
            code="out-of-memory", subject="host", cause="the kernel killed it because the host had no memory left",
            fix="free memory, or limit what other containers may take (-m)",
        )  # fmt: skip
    return Diagnosis(
        code="out-of-memory", subject=str(settings.memory),
        cause=f"it wanted more memory than its limit of {size_text(settings.memory)}, and the kernel killed it",
        fix=f"raise the limit (-m {_megabytes(settings.memory * 2)}), or let the program take less",
    )  # fmt: skip


def size_text(size: int) -> str:
    """``size`` bytes for people, as limits are written: ``64 MiB``."""
    for unit, name in ((1 << 30, "GiB"), (MEBIBYTE, "MiB"), (1 << 10, "KiB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size} bytes"


def _megabytes(size: int) -> str:
    return f"{-(-size // MEBIBYTE)}m"


def _no_space(found: re.Match[str], _: View, __: Settings) -> Diagnosis:
    return Diagnosis(
        code="no-space", subject=found.group(0), cause="a file system is full: the host's, or one in memory",
        fix="see df -h and df -i; tare system prune frees what nothing uses",
    )  # fmt: skip


def _device(found: re.Match[str], _: View, __: Settings) -> Diagnosis:
    name = found["name"]
    return Diagnosis(
        code="device-missing", subject=name, cause=f"the host has no device {name}",
        fix=f"see ls {posixpath.dirname(name)}; load the kernel module that makes it, or leave --device out",
    )  # fmt: skip


def _sysctl(found: re.Match[str], _: View, __: Settings) -> Diagnosis:
    name = found["name"].strip("/").replace("/", ".")
    return Diagnosis(
        code="sysctl-unknown", subject=name,
        cause=f"this kernel has no setting {name}, or not in a container's namespace",
        fix="correct the name, or leave --sysctl out",
    )  # fmt: skip


def _cpuset(found: re.Match[str], _: View, __: Settings) -> Diagnosis:
    what = "CPUs" if found["kind"] == "cpus" else "memory nodes"
    return Diagnosis(
        code="cpuset-unavailable", subject=found["value"], cause=f"this host does not have the {what} {found['value']}",
        fix=f"choose among those in /sys/devices/system/{'cpu' if what == 'CPUs' else 'node'}/online",
    )  # fmt: skip


def _descriptors(_: re.Match[str], __: View, ___: Settings) -> Diagnosis:
    return Diagnosis(
        code="limit-too-low", subject="nofile", cause="the limit on open files is too low for the container to start",
        fix="set a higher --ulimit nofile=",
    )  # fmt: skip


def _pids(_: re.Match[str], __: View, settings: Settings) -> Diagnosis | None:
    return too_many_processes(settings)


def too_many_processes(settings: Settings) -> Diagnosis | None:
    """The limit on processes was met; None when there is no limit."""
    if settings.pids <= 0:
        return None
    return Diagnosis(
        code="pids-limit", subject=str(settings.pids),
        cause=f"no more than {settings.pids} processes and threads may run in the container, and it wanted more",
        fix=f"raise the limit (--pids-limit {max(settings.pids * 2, 64)})",
    )  # fmt: skip


_MOUNTING = r'error mounting "(?P<source>[^"]*)" to rootfs at "(?P<target>[^"]*)"'
_KNOWN: tuple[tuple[str, Explain], ...] = (
    (r"unable to find user (?P<name>[^\s:]+)", _user),
    (r"unable to find group (?P<name>[^\s:]+)", _group),
    (rf"{_MOUNTING}.*not a directory", _mount_kinds),
    (rf"{_MOUNTING}.*no such file or directory", _mount_source),
    (r"bind source path does not exist: (?P<source>.+)", _mount_source),
    (rf"{_MOUNTING}.*read-only file system", _read_only_root),
    (r"OOM-killed|memory limit too low", _memory_at_start),
    (r"adding custom device \"(?P<name>[^\"]+)\"", _device),
    (r"open /proc/sys/(?P<name>\S+): no such file", _sysctl),
    (r"failed to write \"?(?P<value>[^\"]*?)\"?: write \S*/cpuset\.(?P<kind>cpus|mems)\S*: ", _cpuset),
    (r"too many open files", _descriptors),
    (r"no space left on device|disk quota exceeded", _no_space),
    (r"resource temporarily unavailable", _pids),
    (r"chdir to cwd|error during container init: mkdir |not a directory|working directory", _working_directory),
)
