"""Packages indexes: one stanza for each package, parsed once and kept in a compact form."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from tare.base.atomic import write_atomic
from tare.distroless.versions import version_key
from tare.errors import DataCorrupt

FORMAT = 2  # of the compact form; a change makes the cached files of the old one be written anew


class Package(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One package of one suite. ``base`` is the archive root that ``filename`` is relative to; sizes in bytes."""

    name: str
    version: str
    architecture: str
    filename: str
    size: int
    sha256: str
    base: str = ""
    pre_depends: str = ""
    depends: str = ""
    provides: str = ""
    conflicts: str = ""
    breaks: str = ""
    replaces: str = ""
    multi_arch: str = ""
    priority: str = ""
    essential: bool = False

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    @property
    def url(self) -> str:
        """Where the archive has the .deb."""
        return f"{self.base}/{self.filename}"


_FIELDS = {
    b"Package": "name",
    b"Version": "version",
    b"Architecture": "architecture",
    b"Filename": "filename",
    b"Size": "size",
    b"SHA256": "sha256",
    b"Pre-Depends": "pre_depends",
    b"Depends": "depends",
    b"Provides": "provides",
    b"Conflicts": "conflicts",
    b"Breaks": "breaks",
    b"Replaces": "replaces",
    b"Multi-Arch": "multi_arch",
    b"Priority": "priority",
    b"Essential": "essential",
}
_REQUIRED = ("name", "version", "architecture", "filename", "size", "sha256")


_MENTIONING = (
    b"Package",
    b"Pre-Depends",
    b"Depends",
    b"Conflicts",
    b"Breaks",
    b"Recommends",
    b"Suggests",
    b"Replaces",
    b"Enhances",
    b"Provides",
)
_PLACES = {name: place for place, name in enumerate(_MENTIONING)}
_NAME = re.compile(rb"(?:^|[,|]) *([a-z0-9][a-z0-9+.-]*)(?![a-z0-9+.:-])")  # a name with an architecture is another


def parse_packages(
    data: bytes, *, base: str, what: str, mentioned: dict[bytes, None] | None = None
) -> Iterator[Package]:
    """Packages of an uncompressed index; raises DataCorrupt naming the stanza that lacks a field.

    ``mentioned`` receives the names of all packages, in the order in which apt comes across them: fields in the order
    in which its parser reads them (deblistparser.cc), whatever their order in the stanza.
    """
    wanted = _FIELDS
    for stanza in data.split(b"\n\n"):
        found: dict[str, str] = {}
        mentioning = [b""] * len(_MENTIONING)
        for line in stanza.split(b"\n"):
            name, separator, value = line.partition(b": ")
            if separator:
                if name in wanted:
                    found[wanted[name]] = value.decode()
                if name in _PLACES:
                    mentioning[_PLACES[name]] = value
        if found:
            if mentioned is not None:
                mentioned.update(dict.fromkeys(_NAME.findall(b",".join(filter(None, mentioning)))))
            yield _package(found, base, what)


def _package(found: dict[str, str], base: str, what: str) -> Package:
    for name in _REQUIRED:
        if name not in found:
            raise DataCorrupt(f"{what}: package {found.get('name', '?')} has no {name}")
    filename = found["filename"]
    if filename.startswith("/") or ".." in filename.split("/"):
        raise DataCorrupt(f"{what}: package {found['name']} has the file name {filename!r}")
    try:
        size = int(found.pop("size"))
    except ValueError as error:
        raise DataCorrupt(f"{what}: package {found['name']} has no size") from error
    essential = found.pop("essential", "no") == "yes"
    return Package(**found, size=size, base=base, essential=essential)


def package_of_control(fields: Mapping[str, str], *, sha256: str, size: int) -> Package:
    """A package from its own control file (deb-control(5)), which has no place in an archive. Raises DataCorrupt."""
    known = {place: fields[name.decode()] for name, place in _FIELDS.items() if name.decode() in fields}
    found = {**known, "filename": f"{sha256}.deb", "size": str(size), "sha256": sha256}
    return _package(found, "", f"{sha256}.deb")


class Compact(msgspec.Struct, array_like=True, frozen=True):
    """What is cached of an index: packages by name, still encoded, and who provides which virtual name."""

    format: int
    packages: dict[str, list[msgspec.Raw]]
    providers: dict[str, list[str]]
    notable: list[str]
    """Names of packages that are essential or of priority ``required``."""
    mentioned: msgspec.Raw
    """A list of the names of all packages, in the order in which they are mentioned first."""


def encode_compact(packages: Iterator[Package], mentioned: Mapping[bytes, None] | None = None) -> bytes:
    """The compact form of ``packages``; ``mentioned`` is complete once they are read (see :func:`parse_packages`)."""
    by_name: dict[str, list[Package]] = {}
    providers: dict[str, list[str]] = {}
    notable: set[str] = set()
    for package in packages:
        by_name.setdefault(package.name, []).append(package)
        if package.essential or package.priority == "required":
            notable.add(package.name)
        for item in package.provides.split(","):
            if virtual := item.split("(")[0].strip():
                providers.setdefault(virtual, []).append(package.name)
    names = [name.decode() for name in mentioned or ()]
    return msgspec.msgpack.encode((FORMAT, by_name, providers, sorted(notable), names))


class PackageIndex:
    """Several indexes seen as one; packages are decoded when asked for. Not thread-safe."""

    def __init__(self, compacts: list[bytes]) -> None:
        self._indexes = [msgspec.msgpack.decode(data, type=Compact) for data in compacts]
        self._decoder = msgspec.msgpack.Decoder(Package)
        self._known: dict[str, list[Package]] = {}
        self._order: dict[str, int] = {}

    def versions(self, name: str) -> list[Package]:
        """All packages of that name, newest first; the first index wins between equal versions."""
        if name not in self._known:
            raws = [raw for index in self._indexes for raw in index.packages.get(name, ())]
            found = [self._decoder.decode(raw) for raw in raws]
            self._known[name] = sorted(found, key=lambda package: version_key(package.version), reverse=True)
        return self._known[name]

    def newest(self, name: str) -> Package | None:
        """The newest package of that name."""
        versions = self.versions(name)
        return versions[0] if versions else None

    def providers(self, virtual: str) -> list[Package]:
        """The newest version of each package that provides ``virtual`` now, by name."""
        names = {name for index in self._indexes for name in index.providers.get(virtual, ())}
        packages = [package for name in sorted(names) if (package := self.newest(name)) is not None]
        return [package for package in packages if virtual in provided_names(package)]

    def notable(self) -> list[Package]:
        """Packages that are essential or required, in their newest versions, by name."""
        names = sorted({name for index in self._indexes for name in index.notable})
        return [package for name in names if (package := self.newest(name)) is not None]

    def mention(self, name: str) -> int:
        """Where ``name`` is mentioned first in all indexes; -1 when it is not known."""
        if not self._order:
            lists = (msgspec.msgpack.decode(index.mentioned, type=list[str]) for index in self._indexes)
            names = dict.fromkeys(name for names in lists for name in names)
            self._order = {name: place for place, name in enumerate(names)}
        return self._order.get(name, -1)

    def names(self) -> set[str]:
        """The names of all packages."""
        return {name for index in self._indexes for name in index.packages}


def provided_names(package: Package) -> set[str]:
    """The virtual names that a package provides."""
    return {name for item in package.provides.split(",") if (name := item.split("(")[0].strip())}


def load_compact(path: Path) -> bytes | None:
    """The cached compact form, if it is there and of this format. Blocking."""
    try:
        data = path.read_bytes()
        decoded = msgspec.msgpack.decode(data, type=Compact)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
    return data if decoded.format == FORMAT else None


def store_compact(path: Path, data: bytes) -> None:
    """Keep a compact form. Blocking."""
    write_atomic(path, data, durable=False)
