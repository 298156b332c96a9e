"""From wanted packages to the closed set: Pre-Depends and Depends, never Recommends."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tare.distroless.packages import Package, PackageIndex, provided_names
from tare.distroless.relations import Relation, parse_relations
from tare.errors import Conflict, NotFound

_RANKS = {"required": 0, "important": 1, "standard": 2, "optional": 3, "extra": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclusions:
    """What is left out although a dependency names it: package → reason, and (package, dependency) → reason.

    What is in ``must_be_needed`` and no dependency names is excluded by mistake.
    """

    packages: Mapping[str, str] = field(default_factory=dict)
    edges: Mapping[tuple[str, str], str] = field(default_factory=dict)
    must_be_needed: frozenset[str] = frozenset()

    def among(self, dependent: str, alternatives: Iterable[Relation]) -> set[str]:
        """Those of a dependency's alternatives that are left out; with any, the dependency counts as satisfied."""
        names = {relation.name for relation in alternatives}
        return {name for name in names if name in self.packages or (dependent, name) in self.edges}


@dataclass(frozen=True, slots=True)
class Wish:
    """A package that is wanted, in exactly this version (empty: the newest), with its dependencies or without."""

    name: str
    version: str = ""
    follow: bool = True


def resolve(index: PackageIndex, wanted: Iterable[Wish | str], exclusions: Exclusions) -> list[Package]:
    """The wanted packages with all that they need, each in its newest version that fits; sorted by name.

    A package named in ``wanted`` is never excluded. Raises NotFound for an unknown package, a version that is not
    there, and something excluded that nothing needs; Conflict with the chain of dependencies that fails, or when two of
    the packages conflict.
    """
    wishes = [Wish(wish) if isinstance(wish, str) else wish for wish in wanted]
    resolver = _Resolver(index, exclusions)
    for wish in wishes:
        resolver.select(resolver.find(wish), follow=wish.follow)
    resolver.expand_all()
    resolver.check_exclusions()
    packages = sorted(resolver.selected.values(), key=lambda package: package.name)
    check_conflicts(packages)
    return packages


def dependency_groups(package: Package) -> Iterator[tuple[Relation, ...]]:
    """The dependencies of a package, each as its alternatives."""
    for relations in (package.pre_depends, package.depends):
        yield from parse_relations(relations)


def refused_by(package: Package) -> Iterator[Relation]:
    """What a package conflicts with or breaks."""
    for relations in (package.conflicts, package.breaks):
        for group in parse_relations(relations):
            yield from group


def check_conflicts(packages: Sequence[Package]) -> None:
    """Raises Conflict when one of the packages conflicts with, or breaks, another."""
    by_name: dict[str, list[Package]] = {}
    for package in packages:
        for name in (package.name, *provided_names(package)):
            by_name.setdefault(name, []).append(package)
    for package in packages:
        for relation in refused_by(package):
            for other in by_name.get(relation.name, ()):
                if other.name != package.name and relation.accepted_by(other):
                    broken = (relation,) not in parse_relations(package.conflicts)
                    raise Conflict(
                        f"{package} {'breaks' if broken else 'conflicts with'} {other}: {relation}",
                        hint="ask for one of them only, or leave one out",
                        code="package-conflict",
                    )


class _Resolver:
    def __init__(self, index: PackageIndex, exclusions: Exclusions) -> None:
        self._index = index
        self._exclusions = exclusions
        self.selected: dict[str, Package] = {}
        self.pending: list[Package] = []
        self._reason: dict[str, tuple[str, str]] = {}
        self._left_out: set[str] = set()
        self._names: dict[str, list[Package]] = {}  # what is selected, by its name and by those that it provides
        self._refusals: dict[str, list[tuple[str, Relation]]] = {}  # by name: who selected does not go with it

    def find(self, wish: Wish) -> Package:
        name = wish.name
        versions = self._index.versions(name)
        if versions:
            if not wish.version:
                return versions[0]
            package = next((package for package in versions if package.version == wish.version), None)
            if package is None:
                known = ", ".join(dict.fromkeys(package.version for package in versions))
                raise NotFound(
                    f"{name} {wish.version} is not in the archive", hint=f"there is {known}", code="package-version"
                )
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

    def select(self, package: Package, *, follow: bool = True, because: tuple[str, str] | None = None) -> None:
        if package.name in self.selected:
            return
        self.selected[package.name] = package
        for name in (package.name, *provided_names(package)):
            self._names.setdefault(name, []).append(package)
        for relation in refused_by(package):
            self._refusals.setdefault(relation.name, []).append((package.name, relation))
        if follow:
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
                hint = "ask for other packages or versions, or exclude what is not needed"
                raise Conflict(self._explain(package, alternatives), hint=hint, code="dependency")
            self.select(choice, because=(package.name, " | ".join(map(str, alternatives))))
            stack += [(chosen, self._groups(chosen)) for chosen in self.pending]
            self.pending.clear()

    def _groups(self, package: Package) -> Iterator[tuple[Relation, ...]]:
        """The dependencies of a package that are not left out, each as its alternatives."""
        for alternatives in dependency_groups(package):
            out = self._exclusions.among(package.name, alternatives)
            self._left_out |= out
            if not out:
                yield alternatives

    def check_exclusions(self) -> None:
        """Raises NotFound for a package that was excluded though nothing needs it."""
        needless = sorted(self._exclusions.must_be_needed - self._left_out)
        if needless:
            close = difflib.get_close_matches(needless[0], {*self.selected, *self._left_out}, n=3, cutoff=0.6)
            raise NotFound(
                f"package {needless[0]} is excluded, but no package needs it",
                hint=f"did you mean {', '.join(close)}?" if close else "take it off the list of exclusions",
                code="exclusion-needless",
            )

    def _choose(self, alternatives: tuple[Relation, ...]) -> Package | None:
        """What meets a dependency: something selected, else the first candidate that fits what is selected."""
        for relation in alternatives:
            for package in self._names.get(relation.name, ()):
                if relation.accepted_by(package):
                    return package
        candidates = [package for relation in alternatives for package in self._candidates(relation)]
        fitting = (one for one in candidates if not self._is_refused(one) and self._can_be_had(one))
        return next(fitting, candidates[0]) if len(candidates) > 1 else next(iter(candidates), None)

    def _candidates(self, relation: Relation) -> list[Package]:
        """Packages that would meet ``relation``, the best first; none that is selected in another version."""
        found: list[Package] = []
        if relation.name not in self.selected:
            # an older version only where no newer one fits, as for an older package that was wished
            own = (one for one in self._index.versions(relation.name) if relation.accepted_by(one))
            found += [one for one in (next(own, None),) if one is not None]
        providers = [one for one in self._index.providers(relation.name) if relation.accepted_by(one)]
        self._left_out |= {one.name for one in providers if one.name in self._exclusions.packages}
        unknown = {relation.name, *self.selected, *self._exclusions.packages}
        return found + sorted((one for one in providers if one.name not in unknown), key=self._preference)

    def _is_refused(self, package: Package) -> bool:
        """Whether something selected conflicts with ``package``, or the other way round."""
        names = (package.name, *provided_names(package))
        refusals = (refusal for name in names for refusal in self._refusals.get(name, ()))
        if any(by != package.name and relation.accepted_by(package) for by, relation in refusals):
            return True
        return any(
            other.name != package.name and relation.accepted_by(other)
            for relation in refused_by(package)
            for other in self._names.get(relation.name, ())
        )

    def _can_be_had(self, package: Package) -> bool:
        """Whether the archive has something for each of its dependencies; theirs are not looked at."""
        return all(
            self._exclusions.among(package.name, group) or any(self._is_there(relation) for relation in group)
            for group in dependency_groups(package)
        )

    def _is_there(self, relation: Relation) -> bool:
        packages = (*self._index.versions(relation.name), *self._index.providers(relation.name))
        return any(relation.accepted_by(package) for package in packages)

    def _preference(self, package: Package) -> tuple[bool, int, int, str]:
        """Apt's order of providers (depcache.cc, CompareProviders): what it came across last wins between equals."""
        mention = self._index.mention(package.name)
        return (not package.essential, _RANKS.get(package.priority, 5), -mention, package.name)

    def _explain(self, package: Package, alternatives: tuple[Relation, ...]) -> str:
        chain = [str(package)]
        name = package.name
        while name in self._reason:
            name, _ = self._reason[name]
            chain.append(str(self.selected[name]))
        path = " → ".join(reversed(chain))
        details = []
        for relation in alternatives:
            details.append(f"{relation} ({self._state(relation.name)})")
        return f"unsatisfiable dependency: {path} → {' | '.join(details)}"

    def _state(self, name: str) -> str:
        candidate = self._index.newest(name)
        if name in self.selected:
            return f"{self.selected[name].version} is taken"
        return f"the archive has {candidate.version}" if candidate else "not there"
