"""What a bill of materials says, in neither format: packages, files, what belongs to what, and stable names."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urlsplit

from tare.inventory.dpkg import text_of
from tare.inventory.licences import UNKNOWN, ExtractedLicence, Licences
from tare.inventory.packages import NOBODY, Package, PackageKind
from tare.inventory.paths import printable
from tare.inventory.scan import Inventory
from tare.inventory.tree import Content

_NAMESPACE = uuid.UUID("6f1c8f3e-0d58-5c0e-9f0b-5a2f6f6a7e55")  # of the documents' own identifiers
_PIECE = 1 << 18  # bytes of a document that are made at a time
_ADDRESS = re.compile(r"https?://[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One visible name of a regular file; ``path`` is absolute."""

    identifier: str
    path: str
    sha1: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A package as the bill lists it: ``licence`` is an expression, ``needs`` are the parts that it depends on."""

    identifier: str
    package: Package
    purl: str
    licence: str
    files: tuple[File, ...]
    needs: tuple[str, ...]
    holds: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """A whole image: ``image`` is its identifier, ``name`` what it was asked for by; ``files`` are in no package."""

    image: str
    name: str
    created: str
    architecture: str
    diff_ids: tuple[str, ...]
    parts: tuple[Part, ...]
    files: tuple[File, ...]
    licences: tuple[ExtractedLicence, ...] = ()

    @property
    def document(self) -> uuid.UUID:
        """The document's own identifier: the same for the same image under the same name."""
        return uuid.uuid5(_NAMESPACE, f"{self.image} {self.name}")


@dataclass(slots=True)
class _Shelf:
    """What is gathered of one package."""

    files: list[File] = field(default_factory=list)
    holds: list[str] = field(default_factory=list)


def make_bill(
    inventory: Inventory, *, image: str, name: str, created: str | None, architecture: str, diff_ids: tuple[str, ...]
) -> Bill:
    """The bill of an image whose inventory was taken with ``sha1`` and copyright files. Blocking.

    ``created`` is the configuration's (RFC 3339): builds with SOURCE_DATE_EPOCH have that.
    """
    licences = Licences(inventory.root)
    identifiers = {package: _identifier(package) for package in inventory.packages.packages}
    shelves: dict[Package, _Shelf] = defaultdict(_Shelf)
    loose: list[File] = []
    for path, _, content in inventory.files():
        owner = inventory.packages.owner(path)
        if owner is NOBODY:
            owner = inventory.owners.get(content, NOBODY)
        file = _file(path, content)
        (shelves[owner].files if owner in identifiers else loose).append(file)
    for package in inventory.packages.packages:
        keeper = inventory.packages.owner(package.record)
        if package.kind in (PackageKind.PYPI, PackageKind.NPM) and keeper in identifiers and keeper != package:
            shelves[keeper].holds.append(identifiers[package])
    known = _Names(inventory.packages.packages, identifiers)
    system = _system(inventory)
    parts = tuple(
        Part(
            identifier=identifiers[package],
            package=package,
            purl=package_url(package, system),
            licence=licences.declared(package),
            files=tuple(shelves[package].files),
            needs=known.needs(package),
            holds=tuple(shelves[package].holds),
        )
        for package in inventory.packages.packages
    )
    return Bill(
        image=image,
        name=printable(name),
        created=_moment(created),
        architecture=architecture,
        diff_ids=diff_ids,
        parts=parts,
        files=tuple(loose),
        licences=tuple(licences.extracted[key] for key in sorted(licences.extracted)),
    )


class _Names:
    """Finds the packages that dependencies mean."""

    def __init__(self, packages: list[Package], identifiers: dict[Package, str]) -> None:
        self._identifiers = identifiers
        self._by_name: dict[tuple[str, str], Package] = {}
        self._by_architecture: dict[tuple[str, str, str], Package] = {}
        self._provided: dict[tuple[str, str], Package] = {}
        self._modules: dict[str, Package] = {}
        for package in packages:
            self._by_name.setdefault((package.kind, package.name), package)
            self._by_architecture.setdefault((package.kind, package.name, package.architecture), package)
            for name in package.provides:
                self._provided.setdefault((package.kind, name), package)
            if package.kind is PackageKind.NPM:
                self._modules[package.record.rpartition("/")[0]] = package

    def needs(self, package: Package) -> tuple[str, ...]:
        """The packages that this one depends on, one for each name, as far as they are there."""
        found: dict[str, None] = {}
        for name in package.depends:
            one = self._module(package, name) if package.kind is PackageKind.NPM else self._installed(package, name)
            if one is not None and one != package:
                found[self._identifiers[one]] = None
        return tuple(found)

    def _installed(self, package: Package, name: str) -> Package | None:
        """The package of that name, of the same architecture if there is one; else the first that provides it."""
        first, same = self._by_name.get((package.kind, name)), None
        for architecture in (package.architecture, "all"):
            same = same or self._by_architecture.get((package.kind, name, architecture))
        return same or first or self._provided.get((package.kind, name))

    def _module(self, package: Package, name: str) -> Package | None:
        """The module that Node would load: the nearest ``node_modules`` on the way to the root has it."""
        directory = package.record.rpartition("/")[0]
        while directory:
            if (found := self._modules.get(f"{directory}/node_modules/{name}")) is not None:
                return found
            directory = directory.rpartition("/")[0]
        return self._modules.get(f"node_modules/{name}")


def _identifier(package: Package) -> str:
    word = re.sub(r"[^A-Za-z0-9.-]+", "-", f"{package.kind}-{package.name}-{package.version}")
    digest = hashlib.sha256(f"{package.label}\0{package.record}".encode("utf-8", "surrogateescape")).hexdigest()
    return f"Package-{word[:80]}-{digest[:12]}"


def _file(path: str, content: Content) -> File:
    digest = hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()
    return File(
        identifier=f"File-{digest[:24]}",
        path=printable(f"/{path}"),
        sha1=content.sha1.hex(),
        sha256=content.sha256.hex(),
    )


def _system(inventory: Inventory) -> dict[str, str]:
    """The fields of os-release(5)."""
    text = text_of(inventory.root, "etc/os-release") or text_of(inventory.root, "usr/lib/os-release") or ""
    pairs = (line.partition("=") for line in text.split("\n"))
    return {key.strip(): value.strip().strip("\"'") for key, sign, value in pairs if sign}


def package_url(package: Package, system: dict[str, str]) -> str:
    """The package's URL (purl-spec)."""
    from packageurl import PackageURL

    namespace, name, qualifiers = None, package.name, {}
    if package.kind in (PackageKind.DEB, PackageKind.APK):
        vendor = printable(system.get("ID", "")) or ("debian" if package.kind is PackageKind.DEB else "alpine")
        namespace = vendor
        qualifiers = {"arch": package.architecture, "distro": ""}
        if version := printable(system.get("VERSION_ID", "")):
            qualifiers["distro"] = f"{vendor}-{version}"
    elif package.kind is PackageKind.NPM and name.startswith("@"):
        namespace, _, name = name.partition("/")
    given = {key: value for key, value in qualifiers.items() if value}
    return str(PackageURL(str(package.kind), namespace, name, package.version, given).to_string())


def _moment(created: str | None) -> str:
    """A time as both formats want it: UTC, whole seconds."""
    try:
        moment = datetime.fromisoformat(re.sub(r"\.\d+", "", created or ""))
    except ValueError:
        moment = datetime.fromtimestamp(0, UTC)
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def address(text: str) -> str:
    """A homepage that both formats take; empty for what is none."""
    text = text.strip()
    try:
        host = urlsplit(text).hostname
    except ValueError:
        return ""
    return text if host and _ADDRESS.fullmatch(text) else ""


def licence_of(part: Part) -> str:
    """The declared licence; empty where nothing is known."""
    return "" if part.licence == UNKNOWN else part.licence


def listed(items: Iterator[bytes]) -> Iterator[bytes]:
    """The members of a JSON array, one per line, with commas between them; put together to pieces of some size."""
    waiting, size, first = [], 0, True
    for item in items:
        waiting.append((b"\n" if first else b",\n") + item)
        size += len(item)
        first = False
        if size > _PIECE:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)
