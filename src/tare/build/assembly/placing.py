"""Errors of the assembler, with the place in the declarative file that they are about."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tare.build.assembly.document import DocumentFile
from tare.build.assembly.lockfile import LockFile
from tare.build.assembly.yaml_nodes import DocumentError, Path
from tare.build.dockerfile.source import SourceRange
from tare.build.ops.operation import locate
from tare.errors import TareError

_FIELDS = ("slices", "packages", "exclude", "accept-scripts", "users", "base", "release")
"""Where to look for what an error names; in the first ones it is meant before it is meant in the later ones."""


def placed(error: TareError, read: DocumentFile, *path: str | int) -> TareError:
    """``error``, its class kept, with the line at ``path`` or the line that has what its message begins with."""
    if isinstance(error, DocumentError):
        return error
    file = read.file
    where = path if path else _find(error, read)
    range_ = file.range(*where) if where and where[0] in file.data else SourceRange(1, 1)
    first = SourceRange(range_.first_line, range_.first_line)
    mark = _mark(read, where)
    return locate(error, read.source, first, mark=mark)


def placed_in_lock(error: TareError, lock: LockFile) -> TareError:
    """``error`` about a locked package, with the line of the lock file that has it."""
    for architecture, pins in lock.pins.items():
        for index, pin in enumerate(pins):
            if _names(error.message, f"{pin.name} {pin.version}"):
                where = lock.file.range("packages", architecture, index)
                return locate(error, lock.file.source, where, mark=pin.name)
    return error


def _mark(read: DocumentFile, path: Path) -> str:
    key, value = read.file.node(path)
    node = value if isinstance(value.value, str) else key
    return str(node.value) if node is not None else ""


def _find(error: TareError, read: DocumentFile) -> Path:
    """The entry whose text the message names first, else the packages as a whole."""
    if error.code.startswith("slice-"):
        for path, text in _texts(read):
            if _is_slice(path, text, read, error.message):
                return path
    best: tuple[int, int] | None = None
    found: Path = ("packages",) if "packages" in read.file.data else ("base",)
    for path, text in _texts(read):
        name = re.split(r"[= ]", text)[0]
        match = _names(error.message, name) if name else None
        if match is not None and (best is None or (match.start(), -len(name)) < best):
            best, found = (match.start(), -len(name)), path
    return found


def _is_slice(path: Path, text: str, read: DocumentFile, message: str) -> bool:
    """Whether a slice is named at ``path`` which, as its package, is in ``message``."""
    if path[0] == "slices":
        return len(path) == 3 and bool(_names(message, str(path[1])) and _names(message, text))
    if len(path) < 4 or path[2] != "slices":
        return False
    package = read.file.data["packages"][path[1]]["name"]
    return bool(_names(message, package) and _names(message, text))


def _names(message: str, name: str) -> re.Match[str] | None:
    """Where ``message`` has ``name`` as a word."""
    return re.search(rf"(?<![\w.+-]){re.escape(name)}(?![\w+-])", message)


def _texts(read: DocumentFile) -> Iterator[tuple[Path, str]]:
    """All texts and keys of the fields that the assembler is given."""

    def walk(value: object, path: Path) -> Iterator[tuple[Path, str]]:
        if isinstance(value, dict):
            for key, item in value.items():
                if len(path) > 1 or path[0] not in ("packages", "users"):
                    yield (*path, key), key
                yield from walk(item, (*path, key))
        elif isinstance(value, list):
            for index, item in enumerate(value):
                yield from walk(item, (*path, index))
        elif isinstance(value, str):
            yield path, value

    for name in _FIELDS:
        if name in read.file.data:
            yield from walk(read.file.data[name], (name,))
