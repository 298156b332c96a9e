"""Debian packages: dpkg's database (dpkg(1), deb-control(5)) and the ``status.d`` of distroless images."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from tare.inventory.packages import Package, PackageKind, Registry
from tare.inventory.paths import Canonical
from tare.inventory.tree import Node, lookup

_ADMIN = "var/lib/dpkg"
_ABSENT = frozenset({"not-installed", "config-files"})  # states without files of the package
_SOURCE = re.compile(r"(\S+)(?:\s+\((.+)\))?")
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]*")


def read_dpkg(root: Node, registry: Registry) -> None:
    """Packages of ``/var/lib/dpkg/status`` with the files of ``info/*.list``, diversions applied.

    What dpkg keeps about a package in ``info`` is the package's, too.
    """
    status = text_of(root, f"{_ADMIN}/status")
    if status is None:
        return
    canonical, diverted, records = Canonical(root), _diversions(root), _information(root)
    for fields in paragraphs(status):
        if fields.get("status", "").split()[-1:] == [] or fields["status"].split()[-1] in _ABSENT:
            continue
        package = _package(fields, f"{_ADMIN}/status")
        if package is None:
            continue
        registry.add(package)
        qualified = f"{package.name}:{package.architecture}"
        if qualified not in records:
            qualified = package.name
        for name in records.get(qualified, ()):
            registry.claim(f"{_ADMIN}/info/{name}", package)
        for line in (text_of(root, f"{_ADMIN}/info/{qualified}.list") or "").split("\n"):
            by, place = diverted.get(line, ("", ""))
            if line := (place if by and by != package.name else line).strip("/"):
                registry.claim(canonical.path(line), package)


def read_status_directory(root: Node, registry: Registry) -> None:
    """Packages of ``/var/lib/dpkg/status.d``: a paragraph each, ``.md5sums`` beside it; and its Conffiles."""
    directory = lookup(root, f"{_ADMIN}/status.d")
    if directory is None:
        return
    canonical = Canonical(root)
    for name in sorted(directory.children):
        if name.endswith(".md5sums"):
            continue
        text = text_of(root, f"{_ADMIN}/status.d/{name}")
        fields = next(paragraphs(text or ""), None)
        package = _package(fields, f"{_ADMIN}/status.d/{name}") if fields else None
        if package is None or fields is None:
            continue
        registry.add(package)
        for record in (name, f"{name}.md5sums"):
            registry.claim(f"{_ADMIN}/status.d/{record}", package)
        for path in _listed(text_of(root, f"{_ADMIN}/status.d/{name}.md5sums") or ""):
            registry.claim(canonical.path(path), package)
        for line in fields.get("conffiles", "").split("\n"):
            if path := line.strip().partition(" ")[0].strip("/"):
                registry.claim(canonical.path(path), package)


def _information(root: Node) -> dict[str, list[str]]:
    """The files of dpkg's ``info``, by the (qualified) name of the package that each is about."""
    directory = lookup(root, f"{_ADMIN}/info")
    found: dict[str, list[str]] = {}
    for name in directory.children if directory is not None else ():
        found.setdefault(name.rpartition(".")[0], []).append(name)
    return found


def _listed(md5sums: str) -> Iterator[str]:
    for line in md5sums.split("\n"):
        digest, _, path = line.partition("  ")
        if len(digest) == 32 and (path := path.removeprefix("./").strip("/")):
            yield path


def _package(fields: Mapping[str, str], record: str) -> Package | None:
    name, version = fields.get("package", ""), fields.get("version", "")
    if not _NAME.fullmatch(name) or not version:
        return None
    source = _SOURCE.match(fields.get("source", ""))
    needed = ", ".join(fields.get(key, "") for key in ("pre-depends", "depends"))
    return Package(
        kind=PackageKind.DEB,
        name=name,
        version=version,
        architecture=fields.get("architecture", ""),
        source=source[1] if source else name,
        source_version=(source[2] if source else "") or version,
        maintainer=fields.get("maintainer", ""),
        homepage=fields.get("homepage", ""),
        summary=fields.get("description", "").split("\n", 1)[0],
        record=record,
        depends=_names(needed),
        provides=_names(fields.get("provides", "")),
    )


def _names(relation: str) -> tuple[str, ...]:
    """The package names of a relationship field, without versions and architectures (deb-control(5))."""
    names = (re.split(r"[\s:(\[<]", item.strip(), maxsplit=1)[0] for item in re.split(r"[,|]", relation))
    return tuple(dict.fromkeys(name for name in names if name))


def _diversions(root: Node) -> dict[str, tuple[str, str]]:
    """Who diverts which path to where (``/var/lib/dpkg/diversions``: three lines each)."""
    lines = (text_of(root, f"{_ADMIN}/diversions") or "").split("\n")
    return {
        lines[index]: (lines[index + 2], lines[index + 1])
        for index in range(0, len(lines) - 2, 3)
        if lines[index] and lines[index + 2] != ":"
    }


def paragraphs(text: str) -> Iterator[dict[str, str]]:
    """The paragraphs of a control file, names in lower case; what is no field is passed over."""
    for block in re.split(r"\n[ \t]*\n", text):
        fields: dict[str, list[str]] = {}
        lines: list[str] | None = None
        for line in block.split("\n"):
            if line[:1] in (" ", "\t"):
                if lines is not None:
                    lines.append(line)
                continue
            key, colon, value = line.partition(":")
            lines = None
            if colon and key and " " not in key:
                lines = fields[key.lower()] = [value.strip()]
        if fields:
            yield {name: "\n".join(parts) for name, parts in fields.items()}


def text_of(root: Node, path: str) -> str | None:
    """The text of a database file of the tree; None where there is none, or it was too long to be kept."""
    node = lookup(root, path)
    if node is None or node.content is None or node.content.text is None:
        return None
    return node.content.text.decode("utf-8", "surrogateescape")
