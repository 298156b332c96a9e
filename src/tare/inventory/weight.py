"""What an image weighs, by layer, stage, instruction, package and directory.

The bytes are those of the files in all layers, as they are shipped: also those that a later layer hides. Each belongs
to one row of each listing. With the headers and padding of the tars they are the image's size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from tare.archive.entry import Kind
from tare.inventory.packages import NOBODY
from tare.inventory.paths import printable
from tare.inventory.savings import Suggestion, suggest
from tare.inventory.scan import Inventory
from tare.inventory.tree import Content, Fate, walk
from tare.store.origins import ImageOrigin, LayerOrigin

SHELLS = frozenset(["sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "csh", "tcsh", "fish", "rbash", "busybox"])
PACKAGE_MANAGERS = frozenset(
    (
        *("apt", "apt-get", "aptitude", "dpkg", "rpm", "yum", "dnf", "microdnf", "apk", "pacman", "zypper"),
        *("pip", "pip3", "npm", "yarn", "pnpm", "gem", "cargo", "mvn", "conda"),
    )
)
PARTS = 2000
"""What is less than this part of all is not worth a row among the largest files, nor a place in a drawing."""

_SPECIAL_BITS = 0o6000  # set-user-ID and set-group-ID
_NO_PACKAGE = "(no package)"
_UNKNOWN = "(unknown)"


class Row(msgspec.Struct, kw_only=True):
    """A share of the image: ``bytes`` of ``files`` files (contents, not names), ``hidden`` of the bytes are unseen."""

    bytes: int = 0
    files: int = 0
    hidden: int = 0

    def count(self, content: Content) -> None:
        """Add a content."""
        self.bytes += content.size
        self.files += 1
        if content.fate is not Fate.VISIBLE:
            self.hidden += content.size


class LayerRow(Row, kw_only=True):
    """A layer: ``size`` of its tar, the instruction that wrote it; ``base`` for layers of the base image."""

    layer: int
    diff_id: str
    size: int
    instruction: str
    stage: str = ""
    source: str = ""
    file: str = ""
    line: int = 0
    base: bool = False


class StageRow(Row, kw_only=True):
    """A stage: ``left`` are bytes that it made and that the image does not have."""

    stage: str
    left: int = 0


class InstructionRow(Row, kw_only=True):
    """An instruction with the layers that it wrote."""

    instruction: str
    stage: str = ""
    layers: list[int] = []


class PackageRow(Row, kw_only=True):
    """A package; the one without kind stands for files that no package has."""

    package: str
    kind: str = ""
    version: str = ""


class DirectoryRow(Row, kw_only=True):
    """A directory's own files, without those of directories in it."""

    path: str


class FileRow(msgspec.Struct, kw_only=True):
    """A large file; ``hidden`` is its size where no container sees it, else 0."""

    path: str
    bytes: int
    hidden: int
    layer: int


class Weight(msgspec.Struct, kw_only=True):
    """The whole weighing; sizes in bytes.

    ``size`` is that of the layer tars: ``shipped`` (files) and ``headers`` (headers and padding of the tars). Of what
    is shipped, ``visible`` is what a container sees, ``replaced`` is written again later, ``deleted`` deleted later.
    ``files`` and ``directories`` count visible names, ``duplicates`` the bytes of visible files whose content another
    file has, too, ``installed`` the packages of the final tree. Lists of names are absolute paths.
    """

    size: int = 0
    shipped: int = 0
    headers: int = 0
    visible: int = 0
    replaced: int = 0
    deleted: int = 0
    duplicates: int = 0
    files: int = 0
    directories: int = 0
    installed: int = 0
    shells: list[str] = []
    package_managers: list[str] = []
    setuid: list[str] = []
    layers: list[LayerRow] = []
    stages: list[StageRow] = []
    instructions: list[InstructionRow] = []
    packages: list[PackageRow] = []
    contents: list[DirectoryRow] = []
    largest: list[FileRow] = []
    suggestions: list[Suggestion] = []


def weigh(
    inventory: Inventory, diff_ids: Sequence[str], instructions: Sequence[str], origin: ImageOrigin | None
) -> Weight:
    """The weight of an image; ``instructions`` are those of its history that wrote a layer, bottom first. Blocking."""
    found = Weight(size=sum(layer.size for layer in inventory.layers))
    origins = layer_origins(len(diff_ids), instructions, origin)
    for content in inventory.contents():
        found.shipped += content.size
        if content.fate is Fate.REPLACED:
            found.replaced += content.size
        elif content.fate is Fate.DELETED:
            found.deleted += content.size
        else:
            found.visible += content.size
    found.headers = found.size - found.shipped
    found.installed = len(inventory.packages)
    _survey(inventory, found)
    found.layers = _by_layer(inventory, diff_ids, origins, origin.below if origin else 0)
    found.stages = _by_stage(found.layers, origin)
    found.instructions = _by_instruction(found.layers)
    found.packages = _by_package(inventory)
    found.contents = _by_directory(inventory)
    found.largest = _largest(inventory, found.shipped // PARTS)
    found.suggestions, found.duplicates = suggest(inventory, [row.instruction for row in found.layers])
    return found


def layer_origins(count: int, instructions: Sequence[str], origin: ImageOrigin | None) -> list[LayerOrigin]:
    """The origin of each layer. A history that does not fit the layers says nothing, as it may be anybody's."""
    texts = list(instructions) if len(instructions) == count else [""] * count
    known = [LayerOrigin(text=text) for text in texts]
    if origin is None or origin.below + len(origin.layers) != count:
        return known
    below = [LayerOrigin(stage=origin.base, text=one.text) for one in known[: origin.below]]
    return below + origin.layers


def _survey(inventory: Inventory, found: Weight) -> None:
    """What a container sees: counts, and names worth a note."""
    for path, node in walk(inventory.root):
        if node.is_directory:
            found.directories += 1
            continue
        found.files += 1
        shown = printable(f"/{path}")
        place, _, name = shown.rpartition("/")
        if (node.kind is Kind.SYMLINK or node.mode & 0o111) and place.rpartition("/")[2] in ("bin", "sbin", "busybox"):
            if name in SHELLS:
                found.shells.append(shown)
            if name in PACKAGE_MANAGERS:
                found.package_managers.append(shown)
        if node.kind is Kind.FILE and node.mode & _SPECIAL_BITS:
            found.setuid.append(shown)
    for names in (found.shells, found.package_managers, found.setuid):
        names.sort()


def _by_layer(
    inventory: Inventory, diff_ids: Sequence[str], origins: Sequence[LayerOrigin], below: int
) -> list[LayerRow]:
    rows = []
    for number, (scan, diff_id, origin) in enumerate(zip(inventory.layers, diff_ids, origins, strict=True)):
        row = LayerRow(
            layer=number,
            diff_id=diff_id,
            size=scan.size,
            instruction=origin.text or _UNKNOWN,
            stage=origin.stage,
            source=origin.source,
            file=origin.file,
            line=origin.line,
            base=number < below,
        )
        for content in scan.contents:
            row.count(content)
        rows.append(row)
    return rows


def _add(row: Row, other: Row) -> None:
    row.bytes += other.bytes
    row.files += other.files
    row.hidden += other.hidden


def _by_stage(layers: Iterable[LayerRow], origin: ImageOrigin | None) -> list[StageRow]:
    rows: dict[str, StageRow] = {}
    for layer in layers:
        name = layer.stage or _UNKNOWN
        _add(rows.setdefault(name, StageRow(stage=name)), layer)
    for stage in origin.stages if origin else ():
        rows.setdefault(stage.name, StageRow(stage=stage.name)).left += stage.left
    return list(rows.values())


def _by_instruction(layers: Iterable[LayerRow]) -> list[InstructionRow]:
    rows: dict[tuple[str, str, int], InstructionRow] = {}
    for layer in layers:
        fresh = InstructionRow(instruction=layer.instruction, stage=layer.stage, layers=[])
        row = rows.setdefault((layer.stage, layer.instruction, layer.line), fresh)
        row.layers.append(layer.layer)
        _add(row, layer)
    return list(rows.values())


def _by_package(inventory: Inventory) -> list[PackageRow]:
    rows: dict[str, PackageRow] = {}
    for content in inventory.contents():
        owner = inventory.owners.get(content, NOBODY)
        if owner is NOBODY:
            row = rows.setdefault("", PackageRow(package=_NO_PACKAGE))
        else:
            fresh = PackageRow(package=owner.name, kind=str(owner.kind), version=owner.version)
            row = rows.setdefault(owner.label, fresh)
        row.count(content)
    return sorted(rows.values(), key=lambda row: (-row.bytes, row.package, row.version))


def _by_directory(inventory: Inventory) -> list[DirectoryRow]:
    rows: dict[str, DirectoryRow] = {}
    for content in inventory.contents():
        path = "/" + content.path.rpartition("/")[0]
        row = rows.get(path)
        if row is None:
            row = rows[path] = DirectoryRow(path=printable(path))
        row.count(content)
    return [rows[path] for path in sorted(rows)]


def _largest(inventory: Inventory, smallest: int) -> list[FileRow]:
    rows = [
        FileRow(
            path=printable(f"/{content.path}"),
            bytes=content.size,
            hidden=content.size if content.fate is not Fate.VISIBLE else 0,
            layer=content.layer,
        )
        for content in inventory.contents()
        if content.size > smallest
    ]
    return sorted(rows, key=lambda row: (-row.bytes, row.path, row.layer))
