"""Find the packages of a tree in the databases that package managers leave in it."""

from __future__ import annotations

import re

from tare.inventory.apk import read_apk
from tare.inventory.dpkg import read_dpkg, read_status_directory
from tare.inventory.languages import read_languages
from tare.inventory.packages import Registry
from tare.inventory.tree import Node

_RECORDS = re.compile(
    r"var/lib/dpkg/(?:status|diversions|info/[^/]+\.list|status\.d/[^/]+)"
    r"|(?:usr/)?lib/apk/db/installed"
    r"|etc/os-release|usr/lib/os-release"
    r"|(?:.*/)?[^/]+\.dist-info/(?:METADATA|RECORD)"
    r"|(?:.*/)?[^/]+\.egg-info(?:/PKG-INFO|/installed-files\.txt)?"
    r"|(?:.*/)?node_modules/(?:@[^/]+/)?[^/@][^/]*/package\.json"
)


def is_record(path: str) -> bool:
    """Whether a file is one that packages are known from."""
    return _RECORDS.fullmatch(path) is not None


def find_packages(root: Node) -> Registry:
    """All packages that are recorded in the tree, with their files.

    Where several claim a file, a distribution's package wins over a language's. What cannot be read is no package.
    """
    registry = Registry()
    read_dpkg(root, registry)
    read_status_directory(root, registry)
    read_apk(root, registry)
    read_languages(root, registry)
    registry.sort()
    return registry
