"""What is to be assembled: references of the virtual registry and assemblies, both understood as one kind of order."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace

from tare.distroless import recipes
from tare.distroless.recipes import Recipe, Variant
from tare.distroless.settings import RELEASES, DebianRelease
from tare.distroless.slices import find_slices
from tare.errors import Conflict, InvalidArgument, NotFound, Unsupported
from tare.model import Platform, Reference
from tare.model.assembly import Assembly, Pin

DEBIAN_ARCHITECTURES = {"amd64": "amd64", "arm64": "arm64", "arm": "armhf", "386": "i386"}
"""Debian's names of OCI architectures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One image to be assembled. ``title`` is what progress, history and errors call it.

    ``recipe`` is ``None`` for the whole Debian, ``reference`` ``None`` for an image without a name. ``pins`` are the
    packages that are used, ``None`` for the newest. ``epoch`` (seconds) goes before that of the settings.
    """

    title: str
    platform: Platform
    release: DebianRelease
    architecture: str
    recipe: Recipe | None
    reference: Reference | None = None
    pins: tuple[Pin, ...] | None = None
    epoch: int | None = None


def names() -> list[str]:
    """The repositories of the catalogue, without ``tare.local/deb/…``."""
    return ["debian", *(f"distroless/{name}" for name in recipes.RECIPES)]


def order_of_reference(reference: Reference, platform: Platform) -> Order:
    """Read a reference of the virtual registry; raises NotFound listing what is near, Unsupported."""
    title = reference.familiar()
    if reference.digest is not None:
        raise NotFound(f"{title}: assembled images have no digest to ask for", hint=f"use {reference.name}:12")
    architecture = _architecture(title, platform)
    if reference.path == "debian":
        release = _release(reference.tag, f"No such image: {title}")
        if platform.architecture != Platform.host().architecture:
            raise Unsupported(
                f"{title} for {platform} cannot be configured on {Platform.host()}",
                hint="distroless images can be assembled for any architecture",
            )
        recipe = None
    else:
        head, _, rest = reference.path.partition("/")
        version, variant = recipes.parse_tag(reference.tag)
        if head == "deb" and rest:
            recipe = recipes.for_packages(rest.split("/"))
        elif head == "distroless" and rest in recipes.RECIPES:
            recipe = recipes.RECIPES[rest]
        else:
            raise _unknown(reference)
        release = _release(version, f"No such image: {title}")
        recipe = replace(recipe, variant=variant)
    return Order(
        title=title,
        reference=reference,
        platform=platform,
        release=release,
        architecture=architecture,
        recipe=recipe,
    )


def order_of_assembly(assembly: Assembly, platform: Platform) -> Order:
    """What an assembly asks for. Raises NotFound for an unknown base or release, InvalidArgument for wishes that
    contradict each other, Unsupported."""
    title = " + ".join([assembly.base or "nothing", *dict.fromkeys(wish.name for wish in assembly.packages)])
    architecture = _architecture(title, platform)
    if assembly.base and assembly.base not in recipes.RECIPES:
        close = difflib.get_close_matches(assembly.base, recipes.RECIPES, n=1, cutoff=0.6)
        meant = f"did you mean {close[0]}? " if close else ""
        raise NotFound(
            f"there is no base {assembly.base}",
            hint=f"{meant}there are {', '.join(recipes.RECIPES)}",
            code="catalogue-unknown",
        )
    base = recipes.RECIPES[assembly.base] if assembly.base else Recipe(packages=())
    recipe = _extended(base, assembly)
    return Order(
        title=title,
        platform=platform,
        release=_release(assembly.release, f"there is no Debian {assembly.release}", "the releases"),
        architecture=architecture,
        recipe=replace(recipe, variant=Variant(nonroot=assembly.nonroot and bool(base.service), debug=assembly.debug)),
        pins=assembly.pins,
        epoch=assembly.epoch,
    )


def _extended(base: Recipe, assembly: Assembly) -> Recipe:
    """The base with what the assembly adds. A package that is wanted whole anywhere is taken whole."""
    versions: dict[str, str] = {}
    packages = list(base.packages)
    slices = dict(base.slices)
    for wish in assembly.packages:
        if wish.version and versions.setdefault(wish.name, wish.version) != wish.version:
            raise InvalidArgument(
                f"package {wish.name} is wanted in two versions, {versions[wish.name]} and {wish.version}",
                code="package-version",
            )
        if wish.name in assembly.excluded:
            raise InvalidArgument(f"package {wish.name} is wanted and excluded", code="package-excluded")
        if wish.slices:
            find_slices(wish.name, wish.slices, assembly.slices)  # one that the base has whole is not cut, but known
            slices[wish.name] = tuple(dict.fromkeys((*slices.get(wish.name, ()), *wish.slices)))
        elif wish.name not in packages:
            packages.append(wish.name)
    kept = set(packages)
    for name in assembly.excluded:
        if name in kept:
            raise Conflict(
                f"package {name} is excluded, and the base {assembly.base} is made of it",
                hint="use another base, or do not exclude it",
                code="package-excluded",
            )
    return replace(
        base,
        packages=tuple(packages),
        slices=slices,
        versions=versions,
        own_slices=assembly.slices,
        left_out={**base.left_out, **assembly.excluded},
        must_be_needed=frozenset(assembly.excluded),
        asked=frozenset(wish.name for wish in assembly.packages if not wish.slices),
        users=assembly.users,
        accepted_scripts=assembly.accepted_scripts,
    )


def _architecture(title: str, platform: Platform) -> str:
    architecture = DEBIAN_ARCHITECTURES.get(platform.architecture)
    if platform.os != "linux" or architecture is None:
        raise Unsupported(f"{title}: Debian has no packages for {platform}")
    return architecture


def _release(name: str, problem: str, what: str = "the tags") -> DebianRelease:
    if name == "latest":
        return RELEASES[0]
    for release in RELEASES:
        if name in (release.version, release.codename):
            return release
    known = ", ".join(name for release in RELEASES for name in (release.version, release.codename))
    raise NotFound(problem, hint=f"{what} are latest, {known}", code="catalogue-unknown")


def _unknown(reference: Reference) -> NotFound:
    known = [f"{reference.domain}/{name}" for name in names()]
    close = difflib.get_close_matches(reference.name, known, n=1, cutoff=0.6)
    meant = f"did you mean {close[0]}? " if close else ""
    return NotFound(
        f"No such image: {reference.familiar()}",
        hint=f"{meant}there are {', '.join(known)} and {reference.domain}/deb/<package>[/<package>…]",
        code="catalogue-unknown",
    )
