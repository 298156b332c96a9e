"""What engines make in the kernel, listed, so that a run of the tests can prove that it left nothing behind."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

LINK = re.compile(r"tare0|tr[0-9a-f]*-[0-9a-f]+|tv[0-9a-f]{6,}")
PROGRAMS = frozenset({"tared", "tare-dns", "conmon", "runc", "crun", "s3fs"})
MODULES = ("tare.daemon.main", "tare.network.dns.main")
MOUNT_WORDS = ("tare", "/rootfs/", "/netns/")


@dataclass(frozen=True, order=True)
class Leftover:
    """One kernel object: its kind, its name, and what helps to find who made it."""

    kind: str
    name: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}" + (f"  ({self.detail})" if self.detail else "")


def survey() -> frozenset[Leftover]:
    """Everything there is now that an engine could have made."""
    return frozenset((*mounts(), *links(), *tables(), *cgroups(), *processes()))


def difference(before: Iterable[Leftover], after: Iterable[Leftover]) -> list[Leftover]:
    """What is new, except what belongs to engines of others that are running at this moment."""
    known = {(item.kind, item.name) for item in before}
    foreign = _foreign_marks(before)
    return sorted(
        item
        for item in after
        if (item.kind, item.name) not in known and not any(mark in f"{item.name} {item.detail}" for mark in foreign)
    )


def report(leftovers: list[Leftover]) -> str:
    """A readable list."""
    return "\n".join(f"  {item}" for item in leftovers)


def mounts() -> list[Leftover]:
    """Mounts with a mark of Tare in mount point or source; network namespaces are mounts of type nsfs."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        point = fields.split()[4]
        kind, source, *_ = rest.split()
        if any(word in f"{point} {source}" for word in MOUNT_WORDS):
            found.append(Leftover("network namespace" if kind == "nsfs" else "mount", point, f"{kind} of {source}"))
    return found


def links() -> list[Leftover]:
    """Bridges and veths; the detail is the bridge that a veth hangs on."""
    found = []
    for path in Path("/sys/class/net").iterdir():
        if LINK.fullmatch(path.name):
            master = path / "master"
            detail = f"on {master.resolve().name}" if master.exists() else ""
            found.append(Leftover("bridge" if (path / "bridge").exists() else "link", path.name, detail))
    return found


def tables() -> list[Leftover]:
    """nftables tables."""
    program = shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if program is None:
        return []
    text = subprocess.run([program, "list", "tables"], capture_output=True, text=True, check=False).stdout
    return [
        Leftover("nftables table", line.removeprefix("table "))
        for line in text.splitlines()
        if line.split()[-1].startswith("tare")
    ]


def cgroups() -> list[Leftover]:
    """Cgroups that hold containers, in every hierarchy; the engine's empty parent counts too."""
    base = Path("/sys/fs/cgroup")
    hierarchies = [base, *(path for path in base.iterdir() if path.is_dir())] if base.exists() else []
    found = []
    for hierarchy in hierarchies:
        for path in hierarchy.glob("tare*"):
            found.append(Leftover("cgroup", str(path)))
            with contextlib.suppress(FileNotFoundError):  # another engine's, removed at this moment
                found.extend(Leftover("cgroup", str(inner)) for inner in path.iterdir() if inner.is_dir())
    return found


def processes() -> list[Leftover]:
    """Engines, name servers, monitors and runtimes; the name is the process id."""
    found = []
    for path in Path("/proc").iterdir():
        if not path.name.isdecimal():
            continue
        try:
            words = (path / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if Path(words[0]).name in PROGRAMS or any(module in words for module in MODULES):
            found.append(Leftover("process", path.name, " ".join(words)[:400].strip()))
    return found


def _foreign_marks(before: Iterable[Leftover]) -> set[str]:
    """Data roots, and the instances made from them, of running engines that this run has not started."""
    marks: set[str] = set()
    ours = {item.name for item in before if item.kind == "process"}
    for item in processes():
        if "--data-root" in item.detail and "tare.daemon.main" in item.detail and _parent_is_foreign(item.name, ours):
            words = item.detail.split()
            root = words[words.index("--data-root") + 1]
            instance = hashlib.sha256(root.encode()).hexdigest()[:6]
            marks |= {root, str(Path(root).parent) + "/", f"tr{instance}-", f"tare-{instance}"}
    return marks - {"/", "/tmp/"}


def _parent_is_foreign(pid: str, before: set[str]) -> bool:
    """Whether the process is not ours: there before this run, or a child of another program's.

    An orphan that came during this run counts as ours.
    """
    chain = list(_ancestors(pid))
    return pid in before or (str(os.getpid()) not in chain and chain[:1] != ["1"])


def _ancestors(pid: str) -> Iterator[str]:
    while pid not in ("0", "1"):
        try:
            pid = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            return
        yield pid
