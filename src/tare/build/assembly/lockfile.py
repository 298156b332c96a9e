"""The lock file beside a declarative file: the packages of an image to the byte, one per line.

It is YAML: what was asked for, then for each architecture the packages, sorted by name, as
``name version architecture sha256:digest size``. A build with a lock file uses exactly these packages, however the
archive has changed; ``--update-lock`` resolves anew.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tare.build.assembly.document import Document, DocumentFile
from tare.build.assembly.yaml_nodes import YamlFile, read_yaml
from tare.build.assembly.yaml_types import convert
from tare.errors import TareError
from tare.model.assembly import PackageWish, Pin

UPDATE_HINT = "build with --update-lock, which resolves anew and writes it"
_EXAMPLE = "version: 1"
_HEAD = (
    "# Written by `tare build --update-lock`: builds use exactly these packages. Keep it beside the declarative file.\n"
)
_LINE = re.compile(r"([a-z0-9][a-z0-9+.-]+) (\S+) ([a-z0-9-]+) sha256:([0-9a-f]{64}) ([0-9]{1,15})")


class _Request(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    base: str
    release: str
    debug: bool = False
    packages: list[str] = []
    exclude: list[str] = []


class _Lock(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    version: Annotated[Literal["1"], Meta(description="Version of this format.")]
    request: _Request
    packages: dict[str, list[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LockFile:
    """A lock file that was read: ``pins`` by architecture (Go's names)."""

    file: YamlFile
    request: _Request
    pins: Mapping[str, tuple[Pin, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LockChange:
    """A package that came (``before`` is empty), went (``after`` is empty), or changed; both are versions."""

    architecture: str
    name: str
    before: str = ""
    after: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LockUpdate:
    """A lock file to be written: ``context`` is the named context that ``file`` lies in, empty for the build's own.

    ``beside`` tells that the file belongs beside the one that the build was started with. ``pins`` by architecture are
    what ``text`` says.
    """

    context: str
    file: str
    text: str
    beside: bool
    changes: tuple[LockChange, ...]
    pins: Mapping[str, tuple[Pin, ...]] = field(repr=False)


def lock_name(name: str) -> str:
    """What the lock file of the declarative file ``name`` is called: its stem with ``.lock``."""
    return f"{posixpath.splitext(name)[0]}.lock"


def read_lock(text: str, name: str) -> LockFile:
    """Read a lock file. Raises DocumentError with the place of what is wrong."""
    try:
        return _read(text, name)
    except TareError as error:
        error.code = "lock-invalid"
        error.hint = error.hint or UPDATE_HINT
        raise


def _read(text: str, name: str) -> LockFile:
    file = read_yaml(text, name, example=_EXAMPLE)
    lock = convert(file, _Lock)
    pins: dict[str, tuple[Pin, ...]] = {}
    for architecture, lines in lock.packages.items():
        found: dict[str, Pin] = {}
        for index, line in enumerate(lines):
            match = _LINE.fullmatch(line)
            if match is None:
                raise file.error(
                    "this is no package: expected name version architecture sha256:digest size",
                    "packages",
                    architecture,
                    index,
                )
            if match[1] in found:
                raise file.error(f"package {match[1]} is there twice", "packages", architecture, index)
            found[match[1]] = Pin(
                name=match[1], version=match[2], architecture=match[3], sha256=match[4], size=int(match[5])
            )
        pins[architecture] = tuple(found.values())
    return LockFile(file=file, request=lock.request, pins=pins)


def pins_for(lock: LockFile, read: DocumentFile, architecture: str) -> tuple[Pin, ...]:
    """The packages for an architecture. Raises DocumentError where the lock was not made for this file."""
    now, then = _request(read.document), lock.request
    for key in ("base", "release", "debug"):
        if getattr(now, key) != getattr(then, key):
            raise _stale(lock, read, f"{key} was {_shown(getattr(then, key))}", key)
    for key in ("packages", "exclude"):
        before, after = set(getattr(then, key)), set(getattr(now, key))
        if added := sorted(after - before):
            raise _stale(lock, read, f"{', '.join(added)} came to {key} later", key)
        if gone := sorted(before - after):
            raise _stale(lock, read, f"{', '.join(gone)} went from {key} since", key)
    if architecture not in lock.pins:
        there = ", ".join(lock.pins) or "none"
        raise lock.file.error(
            f"no packages are locked for {architecture}, only for {there}",
            "packages",
            on_key=True,
            hint=f"{UPDATE_HINT}; list all in architectures to have them locked together",
            code="lock-architecture",
        )
    return lock.pins[architecture]


def _stale(lock: LockFile, read: DocumentFile, reason: str, key: str) -> TareError:
    message = f"{lock.file.source.name} was made for another {read.source.name}: {reason}"
    place = (key,) if key in read.file.data else ()
    return read.file.error(message, *place, on_key=True, hint=UPDATE_HINT, code="lock-stale")


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _request(document: Document) -> _Request:
    return _Request(
        base=document.base,
        release=document.release,
        debug=document.debug,
        packages=[_wish(wish) for wish in document.wishes()],
        exclude=sorted(document.exclude),
    )


def _wish(wish: PackageWish) -> str:
    version = f"={wish.version}" if wish.version else ""
    return f"{wish.name}{version}{' ' if wish.slices else ''}{','.join(sorted(wish.slices))}"


def write_lock(document: Document, pins: Mapping[str, Sequence[Pin]]) -> str:
    """The text of the lock file."""
    request = _request(document)
    lines = [
        _HEAD + "version: 1",
        "request:",
        f"  base: {json.dumps(request.base)}",
        f"  release: {json.dumps(request.release)}",
        *(["  debug: true"] if request.debug else []),
        *_list("  ", "packages", request.packages),
        *_list("  ", "exclude", request.exclude),
        "packages:",
    ]
    for architecture, found in sorted(pins.items()):
        ordered = sorted(found, key=lambda pin: pin.name)
        rows = [f"{pin.name} {pin.version} {pin.architecture} sha256:{pin.sha256} {pin.size}" for pin in ordered]
        lines += _list("  ", json.dumps(architecture) if architecture.isdecimal() else architecture, rows)
    return "\n".join(lines) + "\n"


def _list(indent: str, name: str, items: Iterable[str]) -> list[str]:
    rows = [f"{indent}- {item}" for item in items]
    return [f"{indent}{name}:", *rows] if rows else [f"{indent}{name}: []"]


def changes_between(before: Mapping[str, Sequence[Pin]], after: Mapping[str, Sequence[Pin]]) -> tuple[LockChange, ...]:
    """What is different, by architecture and name; a package that was built anew under its version has changed."""
    found = []
    for architecture in sorted({*before, *after}):
        old = {pin.name: pin for pin in before.get(architecture, ())}
        new = {pin.name: pin for pin in after.get(architecture, ())}
        for name in sorted({*old, *new}):
            one, other = old.get(name), new.get(name)
            if one != other:
                found.append(
                    LockChange(
                        architecture=architecture,
                        name=name,
                        before=one.version if one else "",
                        after=other.version if other else "",
                    )
                )
    return tuple(found)
