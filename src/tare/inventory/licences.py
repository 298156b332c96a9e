"""Declared licences as SPDX expressions (SPDX 2.3, annex D), as far as the records can be read by machines.

Debian's names come from machine-readable copyright files (copyright-format 1.0); what is no licence of SPDX's list is
kept by its own text under a ``LicenseRef-``.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tare.inventory.dpkg import paragraphs, text_of
from tare.inventory.packages import Package, PackageKind
from tare.inventory.paths import printable
from tare.inventory.tree import Node

UNKNOWN = "NOASSERTION"
_COPYRIGHT = re.compile(r"usr/share/doc/[^/]+/copyright")
_FORMAT = re.compile(r"https?://(?:www\.debian\.org/doc/packaging-manuals|dep\.debian\.net|anonscm\.debian\.org)", re.I)
_GNU = re.compile(r"(?P<family>a?gpl|lgpl|gfdl|fdl)-?v?(?P<version>[123](?:\.[0-9])?)(?:\.0)?(?P<later>\+)?")
_NAMES: Mapping[str, str] = {
    "expat": "MIT",
    "mit/x11": "MIT",
    "apache-2": "Apache-2.0",
    "asl-2.0": "Apache-2.0",
    "bsd-2": "BSD-2-Clause",
    "bsd-3": "BSD-3-Clause",
    "bsd-4": "BSD-4-Clause",
    "boost-1.0": "BSL-1.0",
    "bsl-1": "BSL-1.0",
    "cc0": "CC0-1.0",
    "mpl-2": "MPL-2.0",
    "psf-2": "PSF-2.0",
    "sil-1.1": "OFL-1.1",
    "ofl": "OFL-1.1",
    "unicode": "Unicode-DFS-2016",
    "zlib/libpng": "Zlib",
    "gfdl-niv-1.2+": "GFDL-1.2-no-invariants-or-later",
    "gfdl-niv-1.3+": "GFDL-1.3-no-invariants-or-later",
    "gfdl-niv-1.2": "GFDL-1.2-no-invariants-only",
    "gfdl-niv-1.3": "GFDL-1.3-no-invariants-only",
}
"""Debian's short names, in lower case, that are licences of SPDX's list under another name."""

_CLASSIFIERS: Mapping[str, str] = {
    "GNU Affero General Public License v3": "AGPL-3.0-only",
    "GNU Affero General Public License v3 or later (AGPLv3+)": "AGPL-3.0-or-later",
    "GNU General Public License v2 (GPLv2)": "GPL-2.0-only",
    "GNU General Public License v2 or later (GPLv2+)": "GPL-2.0-or-later",
    "GNU General Public License v3 (GPLv3)": "GPL-3.0-only",
    "GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later",
    "GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL-2.0-or-later",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
    "zlib/libpng License": "Zlib",
}
"""Classifiers of Python projects that mean one licence; "BSD License" may be any of several, and stays a name."""


def is_copyright(path: str) -> bool:
    """Whether a file is a Debian package's copyright file."""
    return _COPYRIGHT.fullmatch(path) is not None


@dataclass(frozen=True, slots=True)
class ExtractedLicence:
    """A licence that SPDX's list has not: ``identifier`` begins with ``LicenseRef-``."""

    identifier: str
    name: str
    text: str


class Licences:
    """Licences of one image's packages; collects those that have to be told in full."""

    def __init__(self, root: Node) -> None:
        self._root = root
        self.extracted: dict[str, ExtractedLicence] = {}

    def declared(self, package: Package) -> str:
        """The package's declared licence as an expression; NOASSERTION where nothing can be read."""
        if package.kind is PackageKind.DEB:
            return self._debian(package)
        if not package.licence:
            return UNKNOWN
        if package.kind is PackageKind.PYPI and package.licence in _CLASSIFIERS:
            return _CLASSIFIERS[package.licence]
        return _normalised(package.licence) or self._reference(package.licence, "", f"/{package.record}")

    def _debian(self, package: Package) -> str:
        path = f"usr/share/doc/{package.name}/copyright"
        text = text_of(self._root, path)
        if text is None:
            return UNKNOWN
        found = [*paragraphs(text)]
        if not found or not _FORMAT.search(found[0].get("format", "")):
            return UNKNOWN
        texts = {
            synopsis.lower(): body
            for synopsis, body in (_split(one["license"]) for one in found if "license" in one)
            if body
        }
        expressions: dict[str, None] = {}
        for one in found:
            if "files" in one and "license" in one:
                synopsis, _ = _split(one["license"])
                if synopsis:
                    expressions[self._expression(synopsis, texts, f"/{path}")] = None
        return _joined("AND", sorted(expressions)) or UNKNOWN

    def _expression(self, synopsis: str, texts: Mapping[str, str], path: str) -> str:
        """An expression of copyright-format ("License specification"): ``and`` binds tighter than ``or``.

        Either binds looser after a comma.
        """
        first, *rest = re.split(r",\s*(and|or)\s+", synopsis, flags=re.I)
        found = self._alternatives(first, texts, path)
        for word, group in zip(rest[::2], rest[1::2], strict=True):
            found = _joined(word.upper(), [found, self._alternatives(group, texts, path)])
        return found

    def _alternatives(self, text: str, texts: Mapping[str, str], path: str) -> str:
        alternatives = []
        for alternative in re.split(r"\s+or\s+|\s*\|\s*", text, flags=re.I):
            parts = [one.strip(" ,") for one in re.split(r"\s+and(?:/or)?\s+|,\s+", alternative, flags=re.I)]
            alternatives.append(_joined("AND", [self._licence(one, texts, path) for one in parts if one]))
        return _joined("OR", alternatives)

    def _licence(self, name: str, texts: Mapping[str, str], path: str) -> str:
        known = _NAMES.get(name.lower()) or _gnu(name.lower()) or _identifiers().get(name.lower())
        return known or self._reference(name, texts.get(name.lower(), ""), path)

    def _reference(self, name: str, text: str, path: str) -> str:
        name = printable(name)
        text = printable(text) or f"The text is not given; {path} calls the licence {name!r}."
        word = re.sub(r"[^A-Za-z0-9.-]+", "-", name).strip("-.")[:60] or "licence"
        digest = hashlib.sha256(f"{name}\0{text}".encode()).hexdigest()
        identifier = f"LicenseRef-{word}-{digest[:8]}"
        self.extracted[identifier] = ExtractedLicence(identifier, name, text)
        return identifier


def _joined(operator: str, expressions: Sequence[str]) -> str:
    """Different expressions joined, with parentheses around those that another operator joins."""
    found = [one for one in dict.fromkeys(expressions) if one]
    other = " OR " if operator == "AND" else " AND "
    return f" {operator} ".join(f"({one})" if other in one and len(found) > 1 else one for one in found)


def _split(value: str) -> tuple[str, str]:
    """The synopsis of a License field and its text, unfolded."""
    synopsis, _, body = value.partition("\n")
    lines = [line[1:] if line[:1] in (" ", "\t") else line for line in body.split("\n")]
    return " ".join(synopsis.split()), "\n".join("" if line.strip() == "." else line for line in lines).strip()


def _gnu(name: str) -> str:
    match = _GNU.fullmatch(name)
    if match is None:
        return ""
    family = "GFDL" if match["family"] in ("gfdl", "fdl") else match["family"].upper()
    version = match["version"] if "." in match["version"] else f"{match['version']}.0"
    return _identifiers().get(f"{family}-{version}-{'or-later' if match['later'] else 'only'}".lower(), "")


@functools.cache
def _licensing() -> Any:
    from license_expression import get_spdx_licensing

    return get_spdx_licensing()


@functools.cache
def _identifiers() -> dict[str, str]:
    """SPDX's licences by their names in lower case."""
    return {
        key.lower(): key
        for key, symbol in _licensing().known_symbols.items()
        if not key.startswith("LicenseRef-") and not symbol.is_exception
    }


def _normalised(text: str) -> str:
    """``text`` as an expression, if it is one of SPDX's licences only; else empty."""
    if len(text) > 1000 or not text.isascii():
        return ""
    found = _licensing().validate(re.sub(r"\s*[;/]\s*", " OR ", text) if "/" in text else text)
    expression = found.normalized_expression or ""
    return "" if found.errors or "LicenseRef-" in expression else str(expression)
