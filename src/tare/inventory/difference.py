"""How two images differ: files, packages, and fields of their configurations.

Files are compared as a container sees them. What counts: the kind, the content, mode, owner, the target of a link,
device numbers and extended attributes; what does not: times, and which of several names is the hard link.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

import msgspec

from tare.archive.entry import Kind
from tare.inventory.packages import NOBODY, Package
from tare.inventory.paths import printable
from tare.inventory.scan import Inventory
from tare.inventory.tree import Content, Node, walk
from tare.oci.image import ImageConfig

_IDENTITY = ("architecture", "os", "variant", "author", "created")  # fields beside ``config``
_ENV = "Env"


class Change(StrEnum):
    """What happened to a thing on the way from one image to the other."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


class FileChange(msgspec.Struct, kw_only=True):
    """A name: ``before`` and ``after`` are the bytes of the file, None where it is not there.

    ``kind`` is the newer one (``file``, ``directory``, ``symlink`` …), ``what`` says in which respects a changed one
    differs: ``kind``, ``content``, ``target``, ``mode``, ``owner``, ``device``, ``xattrs``.
    """

    path: str
    change: Change
    kind: str
    what: list[str] = []
    before: int | None = None
    after: int | None = None

    @property
    def weight(self) -> int:
        """Bytes that the change is about, for sorting."""
        return max(self.before or 0, self.after or 0) if "content" in self.what or not self.what else 0


class Count(msgspec.Struct, kw_only=True):
    """Changes of one sort: ``names`` of them, ``before`` and ``after`` bytes of files; linked names count once."""

    names: int = 0
    before: int = 0
    after: int = 0


class PackageChange(msgspec.Struct, kw_only=True):
    """A package: its versions in each image (several when it is there several times), and the bytes of its files."""

    kind: str
    package: str
    architecture: str
    change: Change
    versions_before: list[str] = []
    versions_after: list[str] = []
    before: int = 0
    after: int = 0


class FieldChange(msgspec.Struct, kw_only=True):
    """A field of the configuration, named as ``inspect`` names it; ``key`` is the entry's of a map (``Env`` is one).

    A value is None where the field is not there.
    """

    field: str
    change: Change
    key: str = ""
    before: Any = None
    after: Any = None


class Difference(msgspec.Struct, kw_only=True):
    """All that differs; files and packages with the most bytes first. ``totals`` counts each sort of change."""

    files: list[FileChange] = []
    totals: dict[str, Count] = {}
    packages: list[PackageChange] = []
    configuration: list[FieldChange] = []


def compare(before: Inventory, after: Inventory) -> Difference:
    """The files and packages that differ. Blocking."""
    found = Difference(totals={str(change): Count() for change in Change})
    counted: dict[str, set[int]] = {str(change): set() for change in Change}
    for path, old, new in _pairs(before.root, after.root):
        row = _file_change(path, old, new)
        if row is None:
            continue
        found.files.append(row)
        total, seen = found.totals[row.change], counted[row.change]
        total.names += 1
        total.before += _once(old, seen)
        total.after += _once(new, seen)
    found.files.sort(key=lambda row: (-row.weight, row.path))
    found.packages = _package_changes(before, after)
    return found


def _pairs(before: Node, after: Node) -> Iterable[tuple[str, Node | None, Node | None]]:
    """Every name of either tree with what it stands for in each; no whiteouts are left in trees."""
    olds = dict(walk(before))
    for path, new in walk(after):
        yield path, olds.pop(path, None), new
    for path, old in olds.items():
        yield path, old, None


def _file_change(path: str, old: Node | None, new: Node | None) -> FileChange | None:
    node = new or old
    if node is None or node.kind is None:
        return None
    what: list[str] = []
    change = Change.ADDED if old is None else Change.REMOVED
    if old is not None and new is not None:
        change, what = Change.CHANGED, _respects(old, new)
        if not what:
            return None
    return FileChange(
        path=printable(f"/{path}"),
        change=change,
        kind=str(node.kind),
        what=what,
        before=_size(old),
        after=_size(new),
    )


def _respects(old: Node, new: Node) -> list[str]:
    if old.kind is not new.kind:
        return ["kind", "content"] if old.content is not None or new.content is not None else ["kind"]
    found = []
    if (old.content.sha256 if old.content else b"") != (new.content.sha256 if new.content else b""):
        found.append("content")
    if old.kind is Kind.SYMLINK and old.target != new.target:
        found.append("target")
    if old.kind is not Kind.SYMLINK and old.mode != new.mode:  # that of a link means nothing, symlink(7)
        found.append("mode")
    if (old.uid, old.gid) != (new.uid, new.gid):
        found.append("owner")
    if old.kind in (Kind.CHARACTER, Kind.BLOCK) and old.device != new.device:
        found.append("device")
    if old.xattrs != new.xattrs:
        found.append("xattrs")
    return found


def _size(node: Node | None) -> int | None:
    return node.content.size if node is not None and node.content is not None else None


def _once(node: Node | None, seen: set[int]) -> int:
    """The bytes of a content that was not seen yet; the inventories keep all contents, so their addresses differ."""
    if node is None or node.content is None or id(node.content) in seen:
        return 0
    seen.add(id(node.content))
    return node.content.size


_PackageKey = tuple[str, str, str]


def _package_changes(before: Inventory, after: Inventory) -> list[PackageChange]:
    olds, news = _versions(before), _versions(after)
    old_bytes, new_bytes = _bytes(before), _bytes(after)
    rows = []
    for key in sorted(olds.keys() | news.keys()):
        old, new = olds.get(key, []), news.get(key, [])
        if old == new:
            continue
        kind, package, architecture = key
        change = Change.ADDED if not old else Change.REMOVED if not new else Change.CHANGED
        rows.append(
            PackageChange(
                kind=kind,
                package=package,
                architecture=architecture,
                change=change,
                versions_before=old,
                versions_after=new,
                before=old_bytes.get(key, 0),
                after=new_bytes.get(key, 0),
            )
        )
    return sorted(rows, key=lambda row: (-abs(row.after - row.before), row.package, row.architecture))


def _key(package: Package) -> _PackageKey:
    return str(package.kind), package.name, package.architecture


def _versions(inventory: Inventory) -> dict[_PackageKey, list[str]]:
    found: dict[_PackageKey, list[str]] = {}
    for package in inventory.packages.packages:
        found.setdefault(_key(package), []).append(package.version)
    return {key: sorted(versions) for key, versions in found.items()}


def _bytes(inventory: Inventory) -> dict[_PackageKey, int]:
    """Visible bytes by package."""
    found: dict[_PackageKey, int] = {}
    seen: set[Content] = set()
    for _, _, content in inventory.files():
        owner = inventory.owners.get(content, NOBODY)
        if owner is not NOBODY and content not in seen:
            seen.add(content)
            found[_key(owner)] = found.get(_key(owner), 0) + content.size
    return found


def compare_configurations(before: ImageConfig, after: ImageConfig) -> list[FieldChange]:
    """The fields that differ, in the order of their names; history and layers are left out."""
    olds, news = _fields(before), _fields(after)
    rows: list[FieldChange] = []
    for field in sorted(olds.keys() | news.keys()):
        old, new = olds.get(field), news.get(field)
        if old == new:
            continue
        if not (isinstance(old, dict | None) and isinstance(new, dict | None)) or field == "Healthcheck":
            rows.append(_field(field, "", old, new))
            continue
        one, other = old or {}, new or {}
        rows += [
            _field(field, key, one.get(key), other.get(key))
            for key in sorted(one.keys() | other.keys())
            if one.get(key) != other.get(key)
        ]
    return rows


def _field(field: str, key: str, old: Any, new: Any) -> FieldChange:
    change = Change.ADDED if old is None else Change.REMOVED if new is None else Change.CHANGED
    return FieldChange(field=field, key=key, change=change, before=old, after=new)


def _fields(config: ImageConfig) -> Mapping[str, Any]:
    """The fields that are set; of ``Env`` a map, as the order of variables means nothing."""
    found: dict[str, Any] = msgspec.to_builtins(config.config)
    if found.get(_ENV) is not None:
        found[_ENV] = {name: value for name, _, value in (text.partition("=") for text in found[_ENV])}
    identity = {name.capitalize(): getattr(config, name) for name in _IDENTITY}
    return {**found, **{name: value for name, value in identity.items() if value}}
