"""Compare the resolver with apt: ``python parity.py [COUNT [SEED]]``; prints the packages for which they differ.

Both start from nothing installed and see the same indexes, those of Debian among the host's own apt sources. ``COUNT``
packages (200) are chosen at random, ``SEED`` (1) says which. Exit status 1 when the two differ.

Where several packages of one priority provide a virtual name, Debian Policy (7.5) leaves the choice open: apt takes the
one that its cache happened to hear of last, and so does the resolver, as long as both read the indexes in one order.
When apt, told to take the resolver's provider, wants nothing that the resolver has not, the difference is that choice
alone, and is counted as *open*.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tare.distroless.debian import render_sources
from tare.distroless.fetch import Downloader
from tare.distroless.index import Archive
from tare.distroless.packages import Package, PackageIndex
from tare.distroless.relations import Relation, parse_relations
from tare.distroless.resolver import Exclusions, resolve
from tare.distroless.settings import DEBIAN_KEYRING, RELEASES, ArchiveSettings, ArchiveSource
from tare.errors import Conflict, NotFound

Chosen = frozenset[tuple[str, str]]
"""Names and versions."""

NOTHING: Chosen = frozenset()
FIELDS = {
    "Package": "name",
    "Version": "version",
    "Architecture": "architecture",
    "Priority": "priority",
    "Multi-Arch": "multi_arch",
    "Pre-Depends": "pre_depends",
    "Depends": "depends",
    "Provides": "provides",
    "Conflicts": "conflicts",
    "Breaks": "breaks",
    "Replaces": "replaces",
    "Filename": "filename",
    "Size": "size",
    "SHA256": "sha256",
}
"""Fields of a Packages index, and where a package has them."""

ORDER = "Package: order-of-mention\nVersion: 1\nArchitecture: all\nFilename: none\nSize: 1\n" + f"SHA256: {'0' * 64}\n"
SHOWN = 12  # packages of a difference


@dataclass
class Outcome:
    """What came out for the packages that were tried; of those that differ, ours alone and apt's alone."""

    tried: int = 0
    refused: list[str] = field(default_factory=list)
    """Neither can install them."""
    open: dict[str, tuple[Chosen, Chosen]] = field(default_factory=dict)
    different: dict[str, tuple[Chosen, Chosen]] = field(default_factory=dict)

    @property
    def same(self) -> int:
        """For how many both chose the same packages in the same versions, or both refused."""
        return self.tried - len(self.open) - len(self.different)


class Apt:
    """apt-get with sources (sources.list(5), deb822) and a state of its own, in which nothing is installed."""

    def __init__(self, root: Path, sources: str) -> None:
        for directory in ("lists/partial", "cache/archives/partial", "state"):
            (root / directory).mkdir(parents=True)
        (root / "status").touch()
        (root / "debian.sources").write_text(sources)
        self._options = [
            f"-oDir::State={root}/state",
            f"-oDir::State::lists={root}/lists",
            f"-oDir::State::status={root}/status",
            f"-oDir::Cache={root}/cache",
            "-oDir::Cache::pkgcache=pkgcache.bin",  # images for containers switch both off, for the sake of size
            "-oDir::Cache::srcpkgcache=srcpkgcache.bin",
            "-oDir::Log::Planner=/dev/null",
            "-oDir::Etc::sourceparts=/dev/null",
            f"-oDir::Etc::sourcelist={root}/debian.sources",
            "-oDir::Etc::preferences=/dev/null",
            "-oDir::Etc::preferencesparts=/dev/null",
            "-oAPT::Get::AutomaticRemove=false",
            "-oAPT::Architecture=amd64",
            "-oDebug::NoLocking=1",
        ]
        self._run("update", "-q")

    def chosen(self, *packages: str) -> Chosen | None:
        """What an installation of ``packages`` brings; None when it cannot be done."""
        done = self._run("install", "--simulate", "--no-install-recommends", "-y", "-qq", *packages, check=False)
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


def open_choices(index: PackageIndex, chosen: Iterable[tuple[str, str]]) -> set[str]:
    """Packages among ``chosen`` that are there for a virtual name alone which others of the same priority provide."""
    names = {name for name, _ in chosen}
    providers: set[str] = set()
    named: set[str] = set()
    for name in names:
        package = index.newest(name)
        assert package is not None
        for text in (package.pre_depends, package.depends):
            for alternatives in parse_relations(text):
                for relation in alternatives:
                    named.add(relation.name)
                    providers |= names & _equal_providers(index, relation)
    return providers - named


def _equal_providers(index: PackageIndex, relation: Relation) -> set[str]:
    """Those that may stand for a virtual name and have a rival of their own priority."""
    if index.newest(relation.name) is not None:
        return set()
    providers = [package for package in index.providers(relation.name) if relation.accepted_by(package)]
    priorities = [package.priority for package in providers]
    return {package.name for package in providers if priorities.count(package.priority) > 1}


async def read_index(cache: Path) -> tuple[PackageIndex, list[ArchiveSource]]:
    """The indexes as Tare reads them, and where they are from."""
    archive = Archive(ArchiveSettings(), cache, RELEASES[0])
    async with Downloader() as downloader:
        suites = await archive.suites(downloader)
        return await archive.index(downloader, suites, "amd64"), [suite.source for suite in suites]


def reachable(index: PackageIndex, names: Iterable[str]) -> list[Package]:
    """All versions of all packages that any choice between alternatives and providers could bring."""
    found: dict[str, list[Package]] = {}
    pending = list(names)
    while pending:
        name = pending.pop()
        if name in found:
            continue
        found[name] = index.versions(name)
        for package in found[name]:
            for group in (*parse_relations(package.pre_depends), *parse_relations(package.depends)):
                for relation in group:
                    pending += [relation.name, *(provider.name for provider in index.providers(relation.name))]
    return [package for _, versions in sorted(found.items()) for package in versions]  # as the archive sorts them


def local_archive(root: Path, index: PackageIndex, packages: Sequence[Package]) -> str:
    """An archive below ``root`` that has these packages' entries, not their files; the sources that name it.

    An entry before all others mentions the names in the order in which the whole index does: it decides between equals.
    """
    root.mkdir(parents=True)
    names = sorted({package.name for package in packages}, key=index.mention)
    with (root / "Packages").open("w") as stream:
        stream.write(f"{ORDER}Suggests: {', '.join(names)}\n\n")
        for package in packages:
            fields = {name: getattr(package, attribute) for name, attribute in FIELDS.items()}
            fields |= {"Essential": "yes"} if package.essential else {}
            stream.write("".join(f"{name}: {value}\n" for name, value in fields.items() if value) + "\n")
    return f"Types: deb\nURIs: file:{root}\nSuites: ./\nTrusted: yes\n"


def compare(count: int, seed: int, root: Path, *, small: bool = False) -> Outcome:
    """Compare for ``count`` packages chosen at random; ``root`` is an empty directory.

    With ``small``, apt does not read the archive's indexes itself: it gets those entries of ours that these packages
    can lead to. That is faster, and our reading of the indexes is not compared.
    """
    index, archive = asyncio.run(read_index(root / "cache"))
    packages = random.Random(seed).sample(sorted(index.names()), count)
    if small:
        sources = local_archive(root / "archive", index, reachable(index, packages))
    else:
        sources = render_sources(archive, str(DEBIAN_KEYRING))
    apt, outcome = Apt(root / "apt", sources), Outcome()
    for package in packages:
        outcome.tried += 1
        mine, theirs = ours(index, package), apt.chosen(package)
        if mine is None and theirs is None:
            outcome.refused.append(package)
        elif mine != theirs:
            difference = ((mine or NOTHING) - (theirs or NOTHING), (theirs or NOTHING) - (mine or NOTHING))
            told = open_choices(index, mine or NOTHING)
            eased = apt.chosen(package, *sorted(told)) if told else None
            is_open = eased is not None and mine is not None and eased <= mine
            (outcome.open if is_open else outcome.different)[package] = difference
    return outcome


def main() -> None:
    """Print what differs."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    with tempfile.TemporaryDirectory(prefix="tare-apt-") as directory:
        outcome = compare(count, seed, Path(directory))
    for kind, found in (("open", outcome.open), ("different", outcome.different)):
        for package, sides in found.items():
            mine, theirs = (" ".join(sorted(name for name, _ in side)[:SHOWN]) or "nothing" for side in sides)
            print(f"{package}: {kind}: only here {mine}; only apt {theirs}")
    if outcome.refused:
        print(f"neither can install: {' '.join(outcome.refused)}")
    print(
        f"{outcome.tried} packages (seed {seed}): {outcome.same} the same, {len(outcome.open)} but for a provider that"
        f" is open, {len(outcome.different)} different"
    )
    sys.exit(1 if outcome.different else 0)


if __name__ == "__main__":
    main()
