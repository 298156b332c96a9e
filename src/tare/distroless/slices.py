"""Slices: named parts of packages, by patterns of paths.

The names of the general ones are those that Canonical's chisel has made common (``libs``, ``bins``, ``config``,
``data``, …); unlike there, they fit every package, as they go by where hier(7) puts things.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tare.archive.entry import Kind
from tare.archive.filetree import FileTree, Node
from tare.distroless.deb import Deb
from tare.distroless.debian import USRMERGE
from tare.distroless.filters import is_unneeded
from tare.errors import InvalidArgument, NotFound

OwnSlices = Mapping[str, Mapping[str, tuple[str, ...]]]
"""Package → name of a slice → patterns."""

_MERGED = (*USRMERGE, "lib32", "lib64", "libx32")
_DEEP_WILDCARDS = 3
_DOCUMENTS = (
    "/usr/share/doc",
    "/usr/share/doc-base",
    "/usr/share/man",
    "/usr/share/info",
    "/usr/share/locale",
    "/usr/share/lintian",
)
_DATA = ("/etc/", "/usr/share/", "/usr/include/", "/usr/lib/locale/", "/srv/", "/var/")
"""Where nothing lies that would need the package's dependencies to work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A part of a package: what fits one of ``patterns`` and none of ``without``.

    ``*`` and ``?`` stay within a directory, ``**`` does not; a directory stands for all below it. ``kept`` is whether
    files stay that distroless images otherwise leave out. ``works`` is whether what the package's scripts do is done.
    """

    name: str
    about: str
    patterns: tuple[str, ...]
    without: tuple[str, ...] = ()
    kept: bool = False
    works: bool = False

    @property
    def needs_dependencies(self) -> bool:
        """Whether the package's dependencies come along: not for data and configuration."""
        return not all(f"{_usr(pattern)}/".startswith(_DATA) for pattern in self.patterns)


def _general() -> tuple[Slice, ...]:
    return (
        Slice(name="bins", about="programs", patterns=("/usr/bin", "/usr/sbin", "/usr/games", "/usr/libexec")),
        Slice(
            name="libs",
            about="shared libraries with their links, and modules",
            patterns=("/usr/lib*/**/*.so", "/usr/lib*/**/*.so.*"),
        ),
        Slice(name="config", about="what is in /etc", patterns=("/etc",)),
        Slice(
            name="data",
            about="/usr/share without documentation and translations",
            patterns=("/usr/share",),
            without=_DOCUMENTS,
        ),
        Slice(
            name="headers",
            about="what compilers and linkers need",
            patterns=("/usr/include", "/usr/lib/**/*.a", "/usr/lib/**/pkgconfig", "/usr/share/pkgconfig"),
        ),
        Slice(
            name="docs",
            about="documentation and manuals",
            patterns=("/usr/share/doc", "/usr/share/man", "/usr/share/info"),
            kept=True,
        ),
        Slice(name="locales", about="translations of messages", patterns=("/usr/share/locale",), kept=True),
        Slice(name="no-docs", about="all but documentation and translations", patterns=("/**",), without=_DOCUMENTS),
        Slice(name="copyright", about="the licences alone", patterns=("/usr/share/doc/*/copyright",)),
    )


GENERAL: dict[str, Slice] = {one.name: one for one in _general()}
"""Slices that every package may have."""

_NO_CONVERSIONS = ("/usr/lib/*/gconv",)
OF_PACKAGES: dict[str, dict[str, Slice]] = {
    package: {one.name: one for one in slices}
    for package, slices in {
        "libc6": (
            replace(GENERAL["libs"], about="loader and libraries, no character sets", without=_NO_CONVERSIONS),
            Slice(name="gconv", about="character sets for iconv(3)", patterns=_NO_CONVERSIONS),
        ),
        "libc-bin": (Slice(name="c-utf8", about="the locale C.UTF-8", patterns=("/usr/lib/locale/C.utf8",)),),
        "libpython3.11-stdlib": (
            Slice(
                name="core",
                about="the standard library without tests, texts of help(), and what installs packages",
                patterns=("/usr/lib/python3.11",),
                without=tuple(f"/usr/lib/python3.11/{name}" for name in ("test", "pydoc_data", "distutils", "venv")),
            ),
        ),
        "mariadb-server-core": (
            Slice(
                name="server",
                about="the server alone, without what makes and upgrades data directories",
                patterns=("/usr/sbin/mariadbd", "/usr/sbin/mysqld", "/usr/share/mysql"),
                without=("/usr/share/mysql/*.sql",),
            ),
        ),
        "postgresql-15": (
            Slice(
                name="server",
                about="server and initdb with their libraries, without other tools and the compiler of queries",
                patterns=(
                    "/usr/lib/postgresql/*/bin/postgres",
                    "/usr/lib/postgresql/*/bin/initdb",
                    "/usr/lib/postgresql/*/lib",
                    "/usr/share/postgresql",
                ),
                without=(
                    "/usr/lib/postgresql/*/lib/bitcode",
                    "/usr/lib/postgresql/*/lib/llvmjit*",
                    "/usr/lib/postgresql/*/lib/pgxs",
                    "/usr/share/postgresql/*/man",
                ),
            ),
        ),
        "tzdata": (
            Slice(
                name="zoneinfo",
                about="time zones, without those that count leap seconds and without second copies",
                patterns=("/usr/share/zoneinfo",),
                without=("/usr/share/zoneinfo/right", "/usr/share/zoneinfo/posix"),
                works=True,
            ),
        ),
    }.items()
}
"""Slices that only these packages have, or that are cut otherwise there."""


def find_slices(package: str, wanted: Sequence[str], own: OwnSlices) -> tuple[Slice, ...]:
    """The slices of ``package`` that are wanted by name, or as patterns (what contains a slash).

    Own definitions go before those that are known here. Raises NotFound naming what there is, InvalidArgument for a
    pattern that names no path.
    """
    of_package = own.get(package, {})
    known = {**GENERAL, **OF_PACKAGES.get(package, {})}
    found = []
    for name in wanted:
        if "/" in name:
            found.append(_own(package, name, (name,)))
        elif name in of_package:
            found.append(_own(package, name, of_package[name]))
        elif name in known:
            found.append(known[name])
        else:
            names = sorted({*of_package, *known})
            close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
            meant = f"did you mean {close[0]}? " if close else ""
            raise NotFound(
                f"package {package} has no slice {name}",
                hint=f"{meant}there are {', '.join(names)}",
                code="slice-unknown",
            )
    return tuple(found)


def _own(package: str, name: str, patterns: tuple[str, ...]) -> Slice:
    problem = "" if patterns else "it has no patterns"
    for pattern in patterns:
        if ".." in pattern.split("/") or not pattern.strip("/"):
            problem = f"{pattern!r} is no pattern of paths"
        elif pattern.count("**") > _DEEP_WILDCARDS:  # each multiplies the time that a comparison may take
            problem = f"{pattern!r} has more than {_DEEP_WILDCARDS} times **"
    if problem:
        raise InvalidArgument(
            f"slice {name} of {package}: {problem}",
            hint="patterns are absolute paths in which *, ? and ** may stand",
            code="slice-pattern",
        )
    return Slice(name=name, about="", patterns=patterns, kept=True)


def cut(deb: Deb, slices: Sequence[Slice]) -> tuple[Deb, frozenset[str]]:
    """The package with only what ``slices`` take, and the paths that stay although images leave such files out.

    The copyright file is always part of it, so is what a link of a slice points to. Raises NotFound for a slice that
    takes nothing.
    """
    taken: set[str] = set()
    kept: set[str] = set()
    for one in slices:
        paths = {node.entry.path for node in deb.tree if _takes(one, node)}
        if not any(_ships(one, node) for node in deb.tree if node.entry.path in paths):
            raise NotFound(
                f"slice {one.name} of {deb.fields['Package']} {deb.fields['Version']} is empty",
                hint=f"not empty are {', '.join(filled(deb)) or 'none of the general ones'}",
                code="slice-empty",
            )
        taken |= paths
        if one.kept:
            kept |= paths
    taken |= {path for path in map(deb.tree.resolve, tuple(taken)) if path in deb.tree}
    taken |= {node.entry.path for node in deb.tree if _is_copyright(deb, node.entry.path)}
    tree = FileTree()
    for node in deb.tree:
        if node.entry.kind is not Kind.HARDLINK:
            tree.add(node.entry, node.content, owner=node.owner)
    for node in deb.tree:
        if node.entry.kind is Kind.HARDLINK:
            tree.add(node.entry, node.content, owner=node.owner)
    with_parents = {*taken, *(parent for path in taken for parent in _parents(path))}
    tree.discard([node.entry.path for node in tree if node.entry.path not in with_parents])
    return replace(deb, tree=tree), frozenset(kept)


def filled(deb: Deb) -> list[str]:
    """The names of the slices known here that take something of this package."""
    known = {**GENERAL, **OF_PACKAGES.get(deb.name, {})}
    return [
        name for name, one in sorted(known.items()) if any(_takes(one, node) and _ships(one, node) for node in deb.tree)
    ]


def _ships(one: Slice, node: Node) -> bool:
    """Whether something that a slice takes gets into an image: no mere directory, and nothing that all leave out."""
    return node.entry.kind is not Kind.DIRECTORY and (one.kept or not is_unneeded(node.entry))


def _takes(one: Slice, node: Node) -> bool:
    path = _usr(node.entry.path)
    return bool(_expression(one.patterns).match(path)) and not (one.without and _expression(one.without).match(path))


def _is_copyright(deb: Deb, path: str) -> bool:
    return path in (f"usr/share/doc/{deb.name}/copyright", f"usr/share/doc/{deb.name}")


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def _usr(path: str) -> str:
    """The absolute path in a merged /usr: ``/lib/x`` is ``/usr/lib/x``."""
    parts = path.strip("/").split("/")
    return "/" + "/".join(("usr", *parts) if parts[0] in _MERGED else parts)


@functools.lru_cache(maxsize=256)
def _expression(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{_translated(_usr(pattern))}(?:/.*)?\\Z)" for pattern in patterns), re.DOTALL)


def _translated(pattern: str) -> str:
    words = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    return "".join(words.get(part, re.escape(part)) for part in parts)
