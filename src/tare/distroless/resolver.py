"""From wanted packages to the closed set: Pre-Depends and Depends, never Recommends."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from tare.distroless.packages import Package, PackageIndex
from tare.distroless.relations import Relation, parse_relations
from tare.errors import Conflict, NotFound

_RANKS = {"required": 0, "important": 1, "standard": 2, "optional": 3, "extra": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclusions:
    """What is left out although a dependency names it: package → reason, and (package, dependency) → reason.

    ``all_dependencies`` is the reason to take no dependency at all.
    """

    packages: Mapping[str, str] = field(default_factory=dict)
    edges: Mapping[tuple[str, str], str] = field(default_factory=dict)
    all_dependencies: str = ""

    def excludes(self, dependent: str, name: str) -> bool:
        """Whether ``dependent``'s dependency on ``name`` counts as satisfied by leaving it out."""
        return bool(self.all_dependencies) or name in self.packages or (dependent, name) in self.edges


def resolve(index: PackageIndex, wanted: Iterable[str], exclusions: Exclusions) -> list[Package]:
    """The wanted packages, each in its newest version, with all that they need; sorted by name.

    A package named in ``wanted`` is never excluded. Raises NotFound for an unknown package, Conflict with the chain of
    dependencies that fails, or when two of the packages conflict.
    """
    resolver = _Resolver(index, exclusions)
    for name in wanted:
        resolver.select(resolver.find(name))
    resolver.expand_all()
    packages = sorted(resolver.selected.values(), key=lambda package: package.name)
    _check_conflicts(packages)
    return packages


class _Resolver:
    def __init__(self, index: PackageIndex, exclusions: Exclusions) -> None:
        self._index = index
        self._exclusions = exclusions
        self.selected: dict[str, Package] = {}
        self.pending: list[Package] = []
        self._reason: dict[str, tuple[str, str]] = {}

    def find(self, name: str) -> Package:
        package = self._index.newest(name)
        if package is not None:
            return package
        providers = self._index.providers(name)
        if providers:
            raise NotFound(
                f"{name} is a virtual package",
                hint=f"name one of {', '.join(provider.name for provider in providers[:8])}",
                code="package-unknown",
            )
        close = difflib.get_close_matches(name, self._index.names(), n=3, cutoff=0.7)
        hint = f"did you mean {', '.join(close)}?" if close else ""
        raise NotFound(f"package {name} is not in the archive", hint=hint, code="package-unknown")

    def select(self, package: Package, *, because: tuple[str, str] | None = None) -> None:
        if package.name in self.selected:
            return
        self.selected[package.name] = package
        self.pending.append(package)
        if because is not None:
            self._reason[package.name] = because

    def expand_all(self) -> None:
        """Follow dependencies in depth first, as apt does: what an alternative finds selected depends on the order."""
        stack = [(package, self._groups(package)) for package in reversed(self.pending)]
        self.pending.clear()
        while stack:
            package, groups = stack[-1]
            alternatives = next(groups, None)
            if alternatives is None:
                stack.pop()
                continue
            choice = self._choose(alternatives)
            if choice is None:
                raise Conflict(self._explain(package, alternatives), code="dependency")
            self.select(choice, because=(package.name, " | ".join(map(str, alternatives))))
            stack += [(chosen, self._groups(chosen)) for chosen in self.pending]
            self.pending.clear()

    def _groups(self, package: Package) -> Iterator[tuple[Relation, ...]]:
        """The dependencies of a package that are not left out, each as its alternatives."""
        for relations in (package.pre_depends, package.depends):
            for alternatives in parse_relations(relations):
                if not any(self._exclusions.excludes(package.name, relation.name) for relation in alternatives):
                    yield alternatives

    def _choose(self, alternatives: tuple[Relation, ...]) -> Package | None:
        for relation in alternatives:
            for package in self.selected.values():
                if relation.accepted_by(package):
                    return package
        for relation in alternatives:
            own = self._index.newest(relation.name)
            if own is not None and relation.accepts(own.version) and own.name not in self.selected:
                return own
            providers = [
                package
                for package in self._index.providers(relation.name)
                if relation.accepted_by(package) and package.name not in self._exclusions.packages
            ]
            if providers:
                # of equal ones the last by name: apt takes the one that it heard of last, mostly the same
                return min(reversed(providers), key=lambda package: _RANKS.get(package.priority, 5))
        return None

    def _explain(self, package: Package, alternatives: tuple[Relation, ...]) -> str:
        chain = [str(package)]
        name = package.name
        while name in self._reason:
            name, _ = self._reason[name]
            chain.append(str(self.selected[name]))
        path = " → ".join(reversed(chain))
        details = []
        for relation in alternatives:
            candidate = self._index.newest(relation.name)
            details.append(f"{relation} ({f'the archive has {candidate.version}' if candidate else 'not there'})")
        return f"unsatisfiable dependency: {path} → {' | '.join(details)}"


def _check_conflicts(packages: list[Package]) -> None:
    for package in packages:
        for kind, text in (("conflicts with", package.conflicts), ("breaks", package.breaks)):
            for group in parse_relations(text):
                for relation in group:
                    for other in packages:
                        if other.name != package.name and relation.accepted_by(other):
                            raise Conflict(f"{package} {kind} {other}: {relation}", code="package-conflict")
