"""Compare the resolver with apt: ``python parity.py COUNT [SEED]``; prints the packages for which they differ.

Both start from nothing installed and see the same indexes, those of the host's own apt sources. Dependencies on virtual
names, where policy leaves the choice of the provider open, may be met by another provider than apt's; such differences
are told apart from those of the packages that the dependency rules themselves decide.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from tare.distroless.fetch import Downloader
from tare.distroless.index import Archive
from tare.distroless.packages import PackageIndex
from tare.distroless.resolver import Exclusions, resolve
from tare.distroless.settings import RELEASES, ArchiveSettings
from tare.errors import Conflict, NotFound

Chosen = frozenset[tuple[str, str]]


@dataclass
class Outcome:
    """How many packages were tried, and those for which the two chose differently: ours alone, apt's alone."""

    tried: int = 0
    different: dict[str, tuple[Chosen, Chosen]] = field(default_factory=dict)


class Apt:
    """apt-get with a state of its own, in which nothing is installed."""

    def __init__(self, root: Path) -> None:
        for directory in ("lists/partial", "cache/archives/partial", "state"):
            (root / directory).mkdir(parents=True)
        (root / "status").touch()
        self._options = [
            f"-oDir::State={root}/state",
            f"-oDir::State::lists={root}/lists",
            f"-oDir::State::status={root}/status",
            f"-oDir::Cache={root}/cache",
            "-oDir::Cache::pkgcache=pkgcache.bin",  # images for containers switch both off, for the sake of size
            "-oDir::Cache::srcpkgcache=srcpkgcache.bin",
            "-oAPT::Get::AutomaticRemove=false",
            "-oDebug::NoLocking=1",
        ]
        self._run("update", "-q")

    def chosen(self, package: str) -> Chosen | None:
        """Names and versions that an installation brings; None when it cannot be done."""
        done = self._run("install", "--simulate", "--no-install-recommends", "-y", "-qq", package, check=False)
        if done.returncode:
            return None
        lines = (line.split() for line in done.stdout.splitlines() if line.startswith("Inst "))
        return frozenset((words[1].partition(":")[0], words[2].lstrip("(")) for words in lines)

    def _run(self, command: str, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "LC_ALL": "C"}
        argv = ["apt-get", *self._options, command, *words]
        return subprocess.run(argv, capture_output=True, text=True, check=check, env=environment)


def ours(index: PackageIndex, package: str) -> Chosen | None:
    """What the resolver chooses; None when it refuses."""
    try:
        return frozenset((item.name, item.version) for item in resolve(index, [package], Exclusions()))
    except (Conflict, NotFound):
        return None


async def read_index(cache: Path) -> PackageIndex:
    """The same indexes, read by Tare."""
    archive = Archive(ArchiveSettings(), cache, RELEASES[0])
    async with Downloader() as downloader:
        return await archive.index(downloader, await archive.suites(downloader), "amd64")


def compare(count: int, seed: int, root: Path) -> Outcome:
    """Compare for ``count`` packages chosen at random."""
    index, apt, outcome = asyncio.run(read_index(root / "cache")), Apt(root / "apt"), Outcome()
    for package in random.Random(seed).sample(sorted(index.names()), count):
        outcome.tried += 1
        mine, theirs = ours(index, package), apt.chosen(package)
        if mine != theirs:
            nothing: Chosen = frozenset()
            outcome.different[package] = (
                (mine or nothing) - (theirs or nothing),
                (theirs or nothing) - (mine or nothing),
            )
    return outcome


def main() -> None:
    """Print what differs."""
    count, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
    with tempfile.TemporaryDirectory(prefix="tare-apt-") as directory:
        outcome = compare(count, seed, Path(directory))
    for package, (mine, theirs) in outcome.different.items():
        print(f"{package}: only here {sorted(mine)}, only apt {sorted(theirs)}")
    print(f"{outcome.tried} packages, {outcome.tried - len(outcome.different)} the same")


if __name__ == "__main__":
    main()
