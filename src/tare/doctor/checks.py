"""What a host must have, and what each part is for.

Every check is a function without arguments (or with the facts it needs) that returns findings; none of them changes
the host, apart from a probe of the OCI runtime in directories of its own.
"""

from __future__ import annotations

import ctypes.util
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tare.doctor.runtime_probe import why_not

Level = Literal["ok", "missing", "warning"]

MIN_KERNEL = (5, 10)
WANTED_SPACE = 5 << 30  # bytes under the data root: base images, build cache and a few applications
NEEDED_SPACE = 1 << 30

_NAMESPACES = ("mnt", "pid", "net", "uts", "ipc", "cgroup")
_CONTROLLERS = ("cpu", "memory", "pids")
_CA_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The outcome of one check. ``purpose`` is what the part is for, ``remedy`` how to get it (empty when it is there).

    A ``missing`` part is needed; a ``warning`` is about a part that only some jobs need.
    """

    name: str
    level: Level
    detail: str
    purpose: str
    remedy: str = ""


def finding(name: str, present: bool, detail: str, purpose: str, remedy: str, *, needed: bool = True) -> Finding:
    """A finding whose level follows from ``present`` and ``needed``."""
    level: Level = "ok" if present else "missing" if needed else "warning"
    return Finding(name=name, level=level, detail=detail, purpose=purpose, remedy="" if present else remedy)


def check_user() -> Iterable[Finding]:
    """Root."""
    root = os.geteuid() == 0
    yield finding("root", root, f"user {os.geteuid()}", "mounts, namespaces, bridges and firewall", "run as root")


def check_kernel() -> Iterable[Finding]:
    """Version and features of the kernel."""
    release = platform.release()
    match = re.match(r"(\d+)\.(\d+)", release)
    version = (int(match[1]), int(match[2])) if match else (0, 0)
    needed = ".".join(map(str, MIN_KERNEL))
    yield finding(
        "kernel", version >= MIN_KERNEL, release, "pidfd, openat2, overlayfs features", f"use Linux {needed} or newer"
    )
    yield _kernel_feature("overlayfs", _has_file_system("overlay"), "layers of images", "modprobe overlay")
    missing = [name for name in _NAMESPACES if not Path(f"/proc/self/ns/{name}").exists()]
    yield finding(
        "namespaces",
        not missing,
        f"without {', '.join(missing)}" if missing else ", ".join(_NAMESPACES),
        "isolation of containers",
        "use a kernel with these namespaces",
    )
    for module, purpose in (("bridge", "container networks"), ("veth", "a container's end of a network")):
        yield _kernel_feature(module, _has_module(module), purpose, f"modprobe {module}")
    yield _kernel_feature("nf_tables", _has_module("nf_tables"), "firewall, published ports", "modprobe nf_tables")


def _kernel_feature(name: str, present: bool, purpose: str, remedy: str) -> Finding:
    return finding(name, present, "available" if present else "not in this kernel", purpose, remedy)


def _has_file_system(name: str) -> bool:
    known = Path("/proc/filesystems").read_text().split()
    return name in known or _has_module(name)


def _has_module(name: str) -> bool:
    """Loaded, built in, or loadable."""
    if Path(f"/sys/module/{name}").exists():
        return True
    directory = Path("/lib/modules") / platform.release()
    pattern = re.compile(rf"/{re.escape(name).replace('_', '[-_]')}\.ko")
    for listing in ("modules.builtin", "modules.dep"):
        try:
            if pattern.search((directory / listing).read_text()):
                return True
        except OSError:
            continue
    return _kernel_config(name)


def _kernel_config(name: str) -> bool:
    """Whether the kernel's own configuration has it built in (a built-in part may show up nowhere else)."""
    options = {
        "overlay": "CONFIG_OVERLAY_FS",
        "bridge": "CONFIG_BRIDGE",
        "veth": "CONFIG_VETH",
        "nf_tables": "CONFIG_NF_TABLES",
    }
    try:
        import gzip

        with gzip.open("/proc/config.gz", "rt") as stream:
            return f"{options[name]}=y" in stream.read()
    except (OSError, KeyError):
        return False


def check_cgroups() -> Iterable[Finding]:
    """Which cgroup hierarchy, and the controllers for limits."""
    unified = Path("/sys/fs/cgroup/cgroup.controllers")
    hybrid = Path("/sys/fs/cgroup/unified/cgroup.controllers")
    if unified.exists():
        kind, controllers = "v2", set(unified.read_text().split())
    else:
        kind = "hybrid" if hybrid.exists() else "v1"
        controllers = {path.name for path in Path("/sys/fs/cgroup").glob("*") if (path / "cgroup.procs").exists()}
        controllers |= {part for name in controllers for part in name.split(",")}
    missing = [name for name in _CONTROLLERS if name not in controllers]
    yield finding(
        "cgroups",
        not missing,
        f"{kind}, without {', '.join(missing)}" if missing else f"{kind}: {', '.join(_CONTROLLERS)}",
        "limits of memory, processor time and processes",
        "mount /sys/fs/cgroup with these controllers (kernel command line: cgroup_enable=memory)",
    )


def check_programs() -> Iterable[Finding]:
    """The programs that the engine runs."""
    yield check_runtime(("crun", "runc"))
    for name, purpose in (
        ("conmon", "supervises each container: its output, log and exit code"),
        ("gpgv", "verifies the signatures of the Debian archive"),
    ):
        place = shutil.which(name)
        yield finding(name, place is not None, place or "not installed", purpose, f"apt-get install {name}")
    git = shutil.which("git")
    yield finding(
        "git",
        git is not None,
        git or "not installed",
        "optional: builds from git repositories, ADD of them",
        "apt-get install git openssh-client",
        needed=False,
    )
    library = ctypes.util.find_library("nftables")
    yield finding(
        "libnftables",
        library is not None,
        library or "not installed",
        "firewall rules and published ports",
        "apt-get install libnftables1",
    )
    docker = shutil.which("docker")
    yield finding(
        "docker",
        docker is not None,
        docker or "not installed",
        "optional: Docker's own command line can drive this engine",
        "apt-get install docker-cli (only if wanted)",
        needed=False,
    )


def check_runtime(names: Iterable[str], works: Callable[[str], str] | None = None) -> Finding:
    """The first OCI runtime that works; ``works`` returns why one does not (empty when it does)."""
    attempt = works or why_not
    refusals = []
    for name in names:
        place = shutil.which(name)
        if place is None:
            refusals.append(f"{name} is not installed")
            continue
        refusal = attempt(place)
        if not refusal:
            others = f" ({'; '.join(refusals)})" if refusals else ""
            return finding("OCI runtime", True, f"{place} works{others}", "starts containers", "")
        refusals.append(f"{place} does not work here: {refusal}")
    return finding("OCI runtime", False, "; ".join(refusals), "starts containers", "apt-get install runc")


def check_archive() -> Iterable[Finding]:
    """What images of tare.local need."""
    keyring = Path(_KEYRING)
    yield finding(
        "archive keyring",
        keyring.is_file(),
        _KEYRING if keyring.is_file() else f"{_KEYRING} is not there",
        "verifies the packages that images of tare.local are made of",
        "apt-get install debian-archive-keyring",
    )
    sources = apt_sources(Path("/etc/apt"))
    yield finding(
        "package sources",
        bool(sources),
        ", ".join(map(str, sources)) or "no Debian source in /etc/apt",
        "where the packages for images of tare.local come from",
        "add Debian to /etc/apt/sources.list, or set archive.mirrors in /etc/tare/tare.toml",
    )


def apt_sources(directory: Path) -> list[Path]:
    """The files below ``directory`` that name at least one package source."""
    places = [
        directory / "sources.list",
        *sorted((directory / "sources.list.d").glob("*.list")),
        *sorted((directory / "sources.list.d").glob("*.sources")),
    ]
    found = []
    for place in places:
        try:
            text = place.read_text(errors="replace")
        except OSError:
            continue
        pattern = r"^\s*URIs:\s*\S" if place.suffix == ".sources" else r"^\s*deb\s"
        if re.search(pattern, text, re.MULTILINE):
            found.append(place)
    return found


def check_space(data_root: Path) -> Iterable[Finding]:
    """Free space under the data root, or under its nearest parent that exists."""
    place = next(path for path in (data_root, *data_root.parents) if path.exists())
    free = shutil.disk_usage(place).free
    detail = f"{free / 1e9:.1f} GB free under {place}"
    remedy = f"free some space under {place}, or put the data root elsewhere (data_root in /etc/tare/tare.toml)"
    purpose = "images, containers and volumes"
    if free < NEEDED_SPACE:
        yield finding("disk space", False, detail, purpose, remedy)
    else:
        yield finding("disk space", free >= WANTED_SPACE, detail, purpose, remedy, needed=False)


def check_network() -> Iterable[Finding]:
    """Forwarding and certificates."""
    setting = Path("/proc/sys/net/ipv4/ip_forward")
    forwards = setting.exists() and setting.read_text().strip() == "1"
    writable = os.access(setting, os.W_OK)
    yield finding(
        "IP forwarding",
        forwards or writable,
        "on" if forwards else "off; the engine turns it on" if writable else "off",
        "containers reach the outside, published ports reach containers",
        "sysctl -w net.ipv4.ip_forward=1",
    )
    bundle = next((path for path in _CA_BUNDLES if Path(path).is_file()), None)
    yield finding(
        "CA certificates",
        bundle is not None,
        bundle or "no bundle found",
        "RUN steps of builds trust what the host trusts",
        "apt-get install ca-certificates",
        needed=False,
    )


def examine(data_root: Path) -> list[Finding]:
    """All checks, in the order in which they are shown."""
    groups = (check_user, check_kernel, check_cgroups, check_programs, check_archive, check_network)
    return [*(one for group in groups for one in group()), *check_space(data_root)]
