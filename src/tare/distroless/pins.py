"""Packages as a lock file holds them, found again and checked against what is asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from tare.distroless.deb import read_control
from tare.distroless.packages import Package, PackageIndex, package_of_control, provided_names
from tare.distroless.recipes import Recipe, exclusions, wanted
from tare.distroless.resolver import check_conflicts, dependency_groups
from tare.errors import Conflict, InvalidArgument, NotFound
from tare.model.assembly import Pin

FIX = "--update-lock takes what the archive has now"
_SHA256 = re.compile(r"[0-9a-f]{64}")


def pin_of(package: Package) -> Pin:
    """What a lock file says about ``package``."""
    return Pin(
        name=package.name,
        version=package.version,
        architecture=package.architecture,
        sha256=package.sha256,
        size=package.size,
    )


def check_pins(pins: Sequence[Pin], architecture: str) -> None:
    """Raises InvalidArgument for pins that no lock file of this architecture may hold."""
    seen: set[str] = set()
    for pin in pins:
        if not _SHA256.fullmatch(pin.sha256):
            problem = f"its sha256 is {pin.sha256!r}"
        elif pin.architecture not in (architecture, "all"):
            problem = f"it is for {pin.architecture}, not for {architecture}"
        elif pin.name in seen:
            problem = "it is there twice"
        else:
            seen.add(pin.name)
            continue
        raise InvalidArgument(f"pinned package {pin.name} {pin.version}: {problem}", hint=FIX, code="pin-invalid")


def find_pinned(recipe: Recipe, pins: Mapping[Pin, Path | None], index: PackageIndex | None) -> list[Package]:
    """The pinned packages, sorted by name: from their verified files, else from ``index``. Blocking.

    Raises NotFound for one that is neither here nor there, Conflict for one that has changed and when they are not what
    ``recipe`` needs, DataCorrupt.
    """
    found = [
        _in_archive(pin, index) if path is None else _in_cache(pin, path)
        for pin, path in sorted(pins.items(), key=lambda item: item[0].name)
    ]
    _check_satisfied(recipe, found)
    return found


def _in_cache(pin: Pin, path: Path) -> Package:
    package = package_of_control(read_control(path), sha256=pin.sha256, size=path.stat().st_size)
    _check_same(pin, package, "the cached file")
    return package


def _in_archive(pin: Pin, index: PackageIndex | None) -> Package:
    versions = index.versions(pin.name) if index is not None else []
    for package in versions:
        if package.version == pin.version and package.architecture == pin.architecture:
            _check_same(pin, package, "the archive's file")
            return package
    known = ", ".join(dict.fromkeys(package.version for package in versions))
    has = f"which has {known}" if known else "which has no package of that name"
    raise NotFound(
        f"{pin.name} {pin.version} is pinned, but neither in the package cache nor in the archive, {has}",
        hint=FIX,
        code="pin-gone",
    )


def _check_same(pin: Pin, package: Package, what: str) -> None:
    found = (package.name, package.version, package.architecture, package.sha256, package.size)
    if found != (pin.name, pin.version, pin.architecture, pin.sha256, pin.size):
        raise Conflict(
            f"{pin.name} {pin.version} is pinned with sha256 {pin.sha256} and {pin.size} bytes,"
            f" but {what} is {package} with sha256 {package.sha256} and {package.size} bytes",
            hint=f"find out why they differ; {FIX}",
            code="pin-differs",
        )


def _check_satisfied(recipe: Recipe, packages: Sequence[Package]) -> None:
    """Raises Conflict naming what is missing or needless.

    Which of several packages meets a dependency is not decided again: every one that does counts as needed.
    """
    by_name: dict[str, list[Package]] = {}
    for package in packages:
        for name in (package.name, *provided_names(package)):
            by_name.setdefault(name, []).append(package)
    left_out = exclusions(recipe)
    needed: set[str] = set()
    pending: list[Package] = []
    for wish in wanted(recipe):
        found = next((one for one in by_name.get(wish.name, ()) if one.name == wish.name), None)
        if found is None:
            raise _stale(f"{wish.name} is wanted and not in it")
        if wish.version not in ("", found.version):
            raise _stale(f"{wish.name} is wanted in version {wish.version}, it has {found.version}")
        needed.add(found.name)
        if wish.follow:
            pending.append(found)
    while pending:
        package = pending.pop()
        for alternatives in dependency_groups(package):
            if left_out.among(package.name, alternatives):
                continue
            takers = [one for r in alternatives for one in by_name.get(r.name, ()) if r.accepted_by(one)]
            if not takers:
                raise _stale(f"{package} needs {' | '.join(map(str, alternatives))}, which is not in it")
            pending += [one for one in takers if one.name not in needed]
            needed |= {one.name for one in takers}
    if needless := sorted({package.name for package in packages} - needed):
        raise _stale(f"nothing needs {', '.join(needless)}")
    check_conflicts(packages)


def _stale(problem: str) -> Conflict:
    return Conflict(f"the lock does not fit: {problem}", hint=FIX, code="lock-stale")
