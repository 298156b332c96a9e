"""Relations between packages (Debian Policy 7.1): ``a (>= 1) | b:any, c``."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from tare.distroless.packages import Package
from tare.distroless.versions import satisfies
from tare.errors import DataCorrupt

_RELATION = re.compile(
    r"(?P<name>[a-z0-9][a-z0-9+.\-]*)(?::(?P<arch>[a-z0-9-]+))?"
    r"(?:\s*\(\s*(?P<operator><<|<=|=|>=|>>|<|>)\s*(?P<version>[0-9A-Za-z][^\s)]*)\s*\))?"
    r"(?:\s*\[[^\]]*\])?(?:\s*<[^>]*>)*"
)


@dataclass(frozen=True, slots=True)
class Relation:
    """One alternative; without operator any version will do.

    ``architecture`` is that of a foreign package (dpkg's name of it), empty for the system's own.
    """

    name: str
    operator: str = ""
    version: str = ""
    architecture: str = ""

    def __str__(self) -> str:
        name = f"{self.name}:{self.architecture}" if self.architecture else self.name
        return f"{name} ({self.operator} {self.version})" if self.operator else name

    def accepts(self, version: str) -> bool:
        """Whether that version of the named package is meant."""
        return not self.operator or satisfies(version, self.operator, self.version)

    def accepted_by(self, package: Package) -> bool:
        """Whether ``package`` is meant: by its own name, or by a virtual name that it provides.

        A versioned relation is met by a versioned ``Provides`` only (Policy 7.5).
        """
        if self.architecture not in ("", package.architecture):
            return False
        if package.name == self.name and self.accepts(package.version):
            return True
        for provided in parse_relations(package.provides):
            for item in provided:
                if item.name == self.name and (
                    not self.operator or (item.operator == "=" and self.accepts(item.version))
                ):
                    return True
        return False


@functools.lru_cache(maxsize=2048)
def parse_relations(text: str) -> tuple[tuple[Relation, ...], ...]:
    """All of them must hold; of each the first alternative that can. Raises DataCorrupt."""
    return tuple(
        tuple(_relation(part.strip()) for part in group.split("|")) for group in text.split(",") if group.strip()
    )


def _relation(text: str) -> Relation:
    match = _RELATION.fullmatch(text)
    if match is None:
        raise DataCorrupt(f"not a package relation: {text!r}")
    architecture = match["arch"] or ""
    if architecture in ("any", "native"):
        architecture = ""  # no other architecture is ever there
    return Relation(match["name"], match["operator"] or "", match["version"] or "", architecture)
