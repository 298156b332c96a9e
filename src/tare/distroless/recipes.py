"""What each distroless image is made of, as data: packages, slices of packages, exclusions with their reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

from tare.distroless.deb import Deb
from tare.distroless.resolver import Exclusions, Wish
from tare.distroless.services import MARIADB, NGINX, NONROOT, POSTGRESQL, Service
from tare.distroless.slices import OwnSlices, find_slices
from tare.errors import NotFound
from tare.model.assembly import SystemUser
from tare.oci.image import ExecutionConfig

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
    patterns of paths.

    ``left_out`` are packages and ``without`` files that it does without, each with the reason: patterns of paths
    (fnmatch(3) without FNM_PATHNAME: ``*`` matches slashes, too); what ``kept`` matches stays all the same.
    ``tools`` and ``tool_slices`` are packages, and parts of such, with programs of administration, which images with
    ``debug`` have, with nothing left out by ``without`` and with a ``/bin/sh`` (busybox), as these programs call it.
    ``java_version_of`` names the package whose upstream version becomes ``JAVA_VERSION``. ``content`` and
    ``size`` (bytes of the layer, about: it changes with the archive) are for people, ``path`` is a directory that joins
    ``PATH``. ``versions`` are wanted exactly; what is in ``must_be_needed`` and no package needs is left out by
    mistake. Of packages that were ``asked`` for by name, beyond the recipe, ``without`` takes nothing away.
    """

    packages: tuple[str, ...]
    content: str = ""
    size: int = 0
    slices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    without: Mapping[str, str] = field(default_factory=dict)
    kept: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    tool_slices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    path: str = ""
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    service: Service | None = None
    java_version_of: str = ""
    variant: Variant = Variant()
    versions: Mapping[str, str] = field(default_factory=dict)
    own_slices: OwnSlices = field(default_factory=dict)
    must_be_needed: frozenset[str] = frozenset()
    asked: frozenset[str] = frozenset()
    users: tuple[SystemUser, ...] = ()
    accepted_scripts: frozenset[str] = frozenset()

    @property
    def only_slices(self) -> dict[str, tuple[str, ...]]:
        """The slices of packages that were not asked for as a whole."""
        slices = {**self.slices, **self.tool_slices} if self.has_tools else self.slices
        return {name: paths for name, paths in slices.items() if name not in self.packages}

    @property
    def has_tools(self) -> bool:
        """Whether this image has its ``tools``."""
        return self.variant.debug and bool(self.tools)

    def leaves_out(self, path: str, package: str) -> bool:
        """Whether this image does without the file at ``path``, which is ``package``'s."""
        if self.has_tools or package in self.asked:
            return False
        return any(fnmatchcase(path, pattern) for pattern in self.without) and not any(
            fnmatchcase(path, pattern) for pattern in self.kept
        )


COMMON = ("base-files", "netbase", "tzdata", "ca-certificates")
"""In every image: release and licence files, service names, time zones, certificates."""

_LOCALE = {"libc-bin": ("c-utf8",)}
_BASE_NOSSL = (*COMMON, "libc6")
_BASE = (*_BASE_NOSSL, "libssl3")
_CC = (*_BASE, "libgcc-s1", "libgomp1", "libstdc++6")
_UTF8 = ("LANG=C.UTF-8",)

RECIPES: dict[str, Recipe] = {
    "static": Recipe(packages=COMMON, content="licences, service names, time zones, CA certificates", size=2_900_000),
    "base-nossl": Recipe(packages=_BASE_NOSSL, content="static, glibc", size=16_000_000),
    "base": Recipe(packages=_BASE, content="static, glibc, OpenSSL's libraries", size=21_600_000),
    "cc": Recipe(packages=_CC, content="base, libgcc, libgomp, libstdc++", size=24_300_000),
    "python3": Recipe(
        packages=(*_CC, "python3"),
        content="cc, Python 3.11 with its standard library",
        size=53_600_000,
        slices=_LOCALE,
        env=_UTF8,
        entrypoint=("/usr/bin/python3",),
    ),
    "java17": Recipe(
        packages=(*_BASE_NOSSL, "openjdk-17-jre-headless"),
        content="base-nossl, OpenJDK 17 without graphics",
        size=225_800_000,
        slices=_LOCALE,
        left_out={
            "libasound2": "sound",
            "libcups2": "printing",
            "libnss3": "PKCS #11 through NSS, not configured by default",
            "libpcsclite1": "smart cards",
        },
        env=_UTF8,
        entrypoint=("/usr/bin/java", "-jar"),
        java_version_of="openjdk-17-jre-headless",
    ),
    "nodejs": Recipe(
        packages=(*_CC, "nodejs"),
        content="cc, Node.js 18",
        size=113_000_000,
        without={
            "usr/share/nodejs/@types/*": "for a compiler that is not there",
            "usr/share/nodejs/*.d.ts": "for a compiler that is not there",
            "usr/share/nodejs/*.d.mts": "for a compiler that is not there",
            "usr/share/nodejs/acorn/bin/*": "a command for people; the library stays",
        },
        entrypoint=("/usr/bin/node",),
    ),
    "nginx": Recipe(
        packages=(*_BASE, "nginx"),
        content="base, nginx 1.22",
        size=24_000_000,
        without={"usr/share/vim/*": "for an editor that is not there"},
        entrypoint=("/usr/sbin/nginx",),
        cmd=("-g", "daemon off;"),
        service=NGINX,
    ),
    "postgresql": Recipe(
        packages=(*_BASE, "postgresql-15"),
        content="base, PostgreSQL 15, the server alone",
        size=95_300_000,
        slices=_LOCALE,
        left_out={
            "libjson-perl": "for scripts of an interpreter that is not there",
            "libllvm14": "compiles long queries (jit), 133 MB with what it needs; without it they are interpreted",
            "locales": "sources of locales; C.UTF-8 and ICU's collations are there",
            "postgresql-client-15": "for people, who have it on their side of the connection",
            "postgresql-client-common": "for people, who have it on their side of the connection",
            "postgresql-common": "scripts that manage several servers on one machine",
            "ssl-cert": "makes a certificate in its maintainer script",
        },
        without={
            "usr/lib/postgresql/*/bin/*": "administration; all but the server",
            "usr/lib/postgresql/*/lib/bitcode/*": "for the compiler of queries",
            "usr/lib/postgresql/*/lib/llvmjit*": "for the compiler of queries",
            "usr/lib/postgresql/*/lib/pgxs/*": "builds extensions",
            "usr/share/postgresql/*/man/*": "manual pages",
            "usr/share/postgresql/*.sample": "read by initdb",
            "usr/share/postgresql/*/postgres.bki": "read by initdb",
            "usr/share/postgresql/*/*_schema.sql": "read by initdb",
            "usr/share/postgresql/*/snowball_create.sql": "read by initdb",
            "usr/share/postgresql/*/sql_features.txt": "read by initdb",
            "usr/share/postgresql/*/system_*.sql": "read by initdb",
            "usr/share/libgcrypt20/*": "a script for upgrades",
        },
        kept=("usr/lib/postgresql/*/bin/postgres",),
        tools=("postgresql-client-15",),
        path="/usr/lib/postgresql/15/bin",
        env=(*_UTF8, "PGDATA=/var/lib/postgresql/data"),
        entrypoint=("/usr/lib/postgresql/15/bin/postgres",),
        service=POSTGRESQL,
    ),
    "mariadb": Recipe(
        packages=(*_BASE, "mariadb-server-core"),
        content="base, MariaDB 10.11, the server alone",
        size=55_600_000,
        slices=_LOCALE,
        without={
            "usr/bin/innochecksum": "looks for damage in files of a server that is down",
            "usr/bin/mariadb-*": "administration: makes and upgrades data directories",
            "usr/bin/mysql*": "administration: makes and upgrades data directories",
            "usr/bin/resolveip": "looks up names for a script",
            "usr/share/mysql/*.sql": "read by mariadb-install-db and by people",
            "usr/share/mysql/*/errmsg.sys": "translations of messages",
            "usr/share/mysql-common/configure-symlinks": "a script for the choice of configuration",
            "usr/share/libgcrypt20/*": "a script for upgrades",
        },
        kept=("usr/share/mysql/english/errmsg.sys",),
        left_out={"libconfig-inifiles-perl": "for scripts of an interpreter that is not there"},
        tools=("mariadb-client-core",),
        tool_slices={"mariadb-client": ("/usr/bin/mariadb-admin", "/usr/bin/mariadb-dump")},
        env=_UTF8,
        entrypoint=("/usr/sbin/mariadbd",),
        service=MARIADB,
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
    debug = ["busybox-static", *recipe.tools] if recipe.variant.debug else []
    wishes = [Wish(name, recipe.versions.get(name, "")) for name in (*recipe.packages, *debug)]
    for name, parts in recipe.only_slices.items():
        slices = find_slices(name, parts, recipe.own_slices)
        follow = any(one.needs_dependencies for one in slices)
        wishes.append(Wish(name, recipe.versions.get(name, ""), follow=follow))
    return wishes


def exclusions(recipe: Recipe) -> Exclusions:
    """What the resolver may leave out for this image."""
    asked = {*recipe.slices, *(wish.name for wish in wanted(recipe))}
    packages = {**EXCLUDED, **recipe.left_out}
    return Exclusions(
        packages={name: reason for name, reason in packages.items() if name not in asked},
        edges=EXCLUDED_EDGES,
        must_be_needed=recipe.must_be_needed,
    )


def execution(recipe: Recipe, debs: Sequence[Deb]) -> ExecutionConfig:
    """The image's defaults, by the conventions of distroless images."""
    variant = recipe.variant
    path = ":".join((PATH, *([recipe.path] if recipe.path else []), *(["/busybox"] if variant.debug else [])))
    env = [path]
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
    service = recipe.service
    ports = service.exposed(nonroot=variant.nonroot) if service else ()
    user = NONROOT if variant.nonroot else 0
    return ExecutionConfig(
        user=str(service.runs_as(nonroot=variant.nonroot) if service else user),
        exposed_ports={port: {} for port in ports} or None,
        env=env,
        entrypoint=entrypoint,
        cmd=list(recipe.cmd) or None,
        volumes={path: {} for path in service.volumes} or None if service else None,
        working_dir="/home/nonroot" if variant.nonroot else "/",
        stop_signal=service.stop_signal if service else "",
    )
