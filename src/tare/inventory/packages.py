"""Packages, and which file is whose."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from enum import StrEnum

from tare.inventory.paths import printable

_COMPILED = re.compile(r"(.*/|)__pycache__/([^/.]+)\.[^/]+\.pyc")  # PEP 3147


class PackageKind(StrEnum):
    """Where a package comes from, as package URLs call it (purl-spec, "types")."""

    DEB = "deb"
    APK = "apk"
    PYPI = "pypi"
    NPM = "npm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A package as its own record describes it; texts are empty where the record does not say.

    ``licence`` is the declared one as it stands there, ``record`` the path of the record, ``depends`` the names that it
    needs (of alternatives all), ``provides`` the names that it answers to besides its own.
    """

    kind: PackageKind
    name: str
    version: str
    architecture: str = ""
    source: str = ""
    source_version: str = ""
    maintainer: str = ""
    homepage: str = ""
    summary: str = ""
    licence: str = ""
    record: str = ""
    depends: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Records may hold what is no Unicode."""
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, str) and not value.isascii():
                object.__setattr__(self, item.name, printable(value) if item.name != "record" else value)

    @property
    def label(self) -> str:
        """Kind, name, version and architecture: what tells packages of one image apart, but for copies."""
        return f"{self.kind}:{self.name}@{self.version}" + (f":{self.architecture}" if self.architecture else "")


NOBODY = Package(kind=PackageKind.DEB, name="", version="")
"""Stands for no package."""


class Registry:
    """The packages of a tree, sorted, and the owner of each path (canonical, without leading slash)."""

    def __init__(self) -> None:
        self.packages: list[Package] = []
        self._known: set[Package] = set()
        self._files: dict[str, Package] = {}
        self._directories: dict[str, Package] = {}

    def __len__(self) -> int:
        return len(self.packages)

    def add(self, package: Package) -> None:
        """Note a package; a second record that says the same is passed over."""
        if package not in self._known:
            self._known.add(package)
            self.packages.append(package)

    def claim(self, path: str, package: Package) -> None:
        """Let ``package`` own a file, unless another package does already."""
        self._files.setdefault(path, package)

    def claim_directory(self, path: str, package: Package) -> None:
        """Let ``package`` own what is below a directory and has no owner of its own."""
        self._directories.setdefault(path, package)

    def owner(self, path: str) -> Package:
        """Whose the file is; NOBODY's where no package has it. Compiled Python is the owner's of its source."""
        found = self._files.get(path)
        if found is None and (match := _COMPILED.fullmatch(path)):
            found = self._files.get(f"{match[1]}{match[2]}.py")
        if found is not None or not self._directories:
            return found or NOBODY
        while path:
            path = path.rpartition("/")[0]
            if (found := self._directories.get(path)) is not None:
                return found
        return NOBODY

    def sort(self) -> None:
        """Put the packages into their order: kind, name, version, architecture, place."""
        self.packages.sort(key=lambda one: (one.kind, one.name, one.version, one.architecture, one.record))
