"""What each distroless image is made of, as data: packages, slices of packages, exclusions with their reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tare.distroless.deb import Deb
from tare.distroless.resolver import Exclusions, Wish
from tare.distroless.slices import OwnSlices, find_slices
from tare.errors import NotFound
from tare.model.assembly import SystemUser
from tare.oci.image import ExecutionConfig

NONROOT = 65532
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """``nonroot`` runs as 65532, ``debug`` adds a shell in ``/busybox``."""

    nonroot: bool = False
    debug: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One image. ``slices`` maps further packages to the only parts that are taken from them: names of slices, or
    patterns of paths. ``left_out`` maps packages to the reason why they are not needed.

    ``java_version_of`` names the package whose upstream version becomes ``JAVA_VERSION``. ``versions`` are wanted
    exactly; what is in ``must_be_needed`` and no package needs is left out by mistake.
    """

    packages: tuple[str, ...]
    slices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    java_version_of: str = ""
    variant: Variant = Variant()
    versions: Mapping[str, str] = field(default_factory=dict)
    own_slices: OwnSlices = field(default_factory=dict)
    must_be_needed: frozenset[str] = frozenset()
    users: tuple[SystemUser, ...] = ()
    accepted_scripts: frozenset[str] = frozenset()

    @property
    def only_slices(self) -> dict[str, tuple[str, ...]]:
        """The slices of packages that were not asked for as a whole."""
        return {name: paths for name, paths in self.slices.items() if name not in self.packages}


COMMON = ("base-files", "netbase", "tzdata", "ca-certificates")
"""In every image: release and licence files, service names, time zones, certificates."""

_LOCALE = {"libc-bin": ("usr/lib/locale/C.utf8/",)}
_BASE = (*COMMON, "libc6", "libssl3")
_CC = (*_BASE, "libgcc-s1", "libgomp1", "libstdc++6")

RECIPES: dict[str, Recipe] = {
    "static": Recipe(packages=COMMON),
    "base": Recipe(packages=_BASE),
    "cc": Recipe(packages=_CC),
    "python3": Recipe(
        packages=(*_CC, "python3"), slices=_LOCALE, env=("LANG=C.UTF-8",), entrypoint=("/usr/bin/python3",)
    ),
    "java17": Recipe(
        packages=(*COMMON, "libc6", "openjdk-17-jre-headless"),
        slices=_LOCALE,
        left_out={
            "libasound2": "sound",
            "libcups2": "printing",
            "libnss3": "PKCS #11 through NSS, not configured by default",
            "libpcsclite1": "smart cards",
        },
        env=("LANG=C.UTF-8",),
        entrypoint=("/usr/bin/java", "-jar"),
        java_version_of="openjdk-17-jre-headless",
    ),
}

EXCLUDED: dict[str, str] = {
    "adduser": "users are made by the assembler",
    "apt": "no package manager",
    "bash": "no shell",
    "ca-certificates-java": "the trust store is written by the assembler",
    "cdebconf": "asks questions for maintainer scripts",
    "coreutils": "tools of scripts; there is no shell to run them",
    "dash": "no shell",
    "debconf": "asks questions for maintainer scripts",
    "debconf-2.0": "asks questions for maintainer scripts",
    "debianutils": "tools of maintainer scripts",
    "default-mysql-client": "administration",
    "dpkg": "no package manager",
    "gawk": "an interpreter that base-files wants for its maintainer script",
    "init-system-helpers": "tools of maintainer scripts",
    "install-info": "index of manuals",
    "java-common": "scripts that switch between Java versions",
    "login": "nobody logs in",
    "lsb-base": "functions of init scripts",
    "mawk": "an interpreter that base-files wants for its maintainer script",
    "awk": "an interpreter that base-files wants for its maintainer script",
    "mount": "the engine mounts",
    "passwd": "users are made by the assembler",
    "perl": "an interpreter for maintainer and administration scripts",
    "perl-base": "an interpreter for maintainer and administration scripts",
    "procps": "tools of init scripts",
    "psmisc": "tools of init scripts",
    "sed": "tools of maintainer scripts",
    "sensible-utils": "tools of interactive use",
    "shared-mime-info": "desktop data",
    "sysvinit-utils": "a container runs no init system",
    "tar": "no package manager",
    "ucf": "configuration files of maintainer scripts",
    "usrmerge": "the tree is made merged",
    "usr-is-merged": "the tree is made merged",
    "util-linux": "tools of scripts",
}
"""Left out of every distroless image although dependencies name them: they serve maintainer scripts, people at a
terminal, or an init system. A package that is asked for by name is never left out."""

EXCLUDED_EDGES: dict[tuple[str, str], str] = {
    ("ca-certificates", "openssl"): "hashes certificates in its maintainer script",
    ("nginx", "iproute2"): "looks for a free port in its maintainer script",
    ("nginx-common", "iproute2"): "looks for a free port in its maintainer script",
}


def parse_tag(tag: str) -> tuple[str, Variant]:
    """Release and variant of ``12``, ``latest``, ``nonroot``, ``12-debug``, ``debug-nonroot``, …"""
    parts = (tag or "latest").split("-")
    nonroot, debug = "nonroot" in parts, "debug" in parts
    rest = [part for part in parts if part not in ("nonroot", "debug")]
    return "-".join(rest) or "latest", Variant(nonroot=nonroot, debug=debug)


def for_packages(packages: Sequence[str]) -> Recipe:
    """The recipe of ``tare.local/deb/<package>/…``: these packages, and what every image has."""
    return Recipe(packages=(*COMMON, *packages), slices=_LOCALE, env=("LANG=C.UTF-8",))


def wanted(recipe: Recipe) -> list[Wish]:
    """The packages to resolve. Raises NotFound for an unknown slice, InvalidArgument for what cannot be one."""
    whole = [*recipe.packages, *(["busybox-static"] if recipe.variant.debug else [])]
    wishes = [Wish(name, recipe.versions.get(name, "")) for name in whole]
    for name, parts in recipe.only_slices.items():
        slices = find_slices(name, parts, recipe.own_slices)
        follow = any(one.needs_dependencies for one in slices)
        wishes.append(Wish(name, recipe.versions.get(name, ""), follow=follow))
    return wishes


def exclusions(recipe: Recipe) -> Exclusions:
    """What the resolver may leave out for this image."""
    asked = {*recipe.packages, *recipe.slices}
    packages = {**EXCLUDED, **recipe.left_out}
    return Exclusions(
        packages={name: reason for name, reason in packages.items() if name not in asked},
        edges=EXCLUDED_EDGES,
        must_be_needed=recipe.must_be_needed,
    )


def execution(recipe: Recipe, debs: Sequence[Deb]) -> ExecutionConfig:
    """The image's defaults, by the conventions of distroless images."""
    variant = recipe.variant
    env = [f"{PATH}:/busybox" if variant.debug else PATH]
    if any(deb.name == "ca-certificates" for deb in debs):
        env.append(f"SSL_CERT_FILE={CA_BUNDLE}")
    env += recipe.env
    if recipe.java_version_of:
        version = next((deb.fields["Version"] for deb in debs if deb.name == recipe.java_version_of), None)
        if version is None:
            raise NotFound(f"{recipe.java_version_of} is not among the packages")
        env.append(f"JAVA_VERSION={version.split('-')[0].split('+')[0]}")
    entrypoint: list[str] | Literal[None] = list(recipe.entrypoint) or None
    if entrypoint is None and variant.debug:
        entrypoint = ["/busybox/sh"]
    return ExecutionConfig(
        user=str(NONROOT if variant.nonroot else 0),
        env=env,
        entrypoint=entrypoint,
        working_dir="/home/nonroot" if variant.nonroot else "/",
    )
