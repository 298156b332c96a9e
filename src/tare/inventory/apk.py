"""Alpine packages: apk's database (apk-tools, "installed" database format)."""

from __future__ import annotations

import re

from tare.inventory.dpkg import text_of
from tare.inventory.packages import Package, PackageKind, Registry
from tare.inventory.paths import Canonical
from tare.inventory.tree import Node

_DATABASES = ("lib/apk/db/installed", "usr/lib/apk/db/installed")


def read_apk(root: Node, registry: Registry) -> None:
    """Packages of ``/lib/apk/db/installed`` with their files."""
    for database in _DATABASES:
        text = text_of(root, database)
        if text is not None:
            break
    else:
        return
    canonical = Canonical(root)
    for block in text.split("\n\n"):
        fields: dict[str, str] = {}
        paths: list[str] = []
        directory = ""
        for line in block.split("\n"):
            key, colon, value = line.partition(":")
            if not colon or len(key) != 1:
                continue
            if key == "F":
                directory = value
            elif key == "R":
                paths.append(f"{directory}/{value}" if directory else value)
            else:
                fields.setdefault(key, value)
        if not fields.get("P") or not fields.get("V"):
            continue
        package = Package(
            kind=PackageKind.APK,
            name=fields["P"],
            version=fields["V"],
            architecture=fields.get("A", ""),
            source=fields.get("o", ""),
            source_version=fields["V"] if fields.get("o") else "",
            maintainer=fields.get("m", ""),
            homepage=fields.get("U", ""),
            summary=fields.get("T", ""),
            licence=fields.get("L", ""),
            record=database,
            depends=_names(fields.get("D", "")),
            provides=_names(fields.get("p", "")),
        )
        registry.add(package)
        for path in paths:
            registry.claim(canonical.path(path), package)


def _names(text: str) -> tuple[str, ...]:
    names = (re.split(r"[<>=~]", item, maxsplit=1)[0] for item in text.split() if not item.startswith("!"))
    return tuple(dict.fromkeys(name for name in names if name))
