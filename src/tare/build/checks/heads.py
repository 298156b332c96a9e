"""Checks on stages from outside: their names, and the images and platforms that FROM names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from tare.build.assembly.names import is_document
from tare.build.checks import rules
from tare.build.checks.findings import Finding
from tare.build.checks.nearest import Suggestions
from tare.build.dockerfile.expansion import Expansion, ExpansionRules, expand_result
from tare.build.dockerfile.platform_args import PLATFORM_ARGS, global_args
from tare.build.dockerfile.stages import Dockerfile, Stage
from tare.errors import InvalidArgument
from tare.model import Platform, Reference

_RESERVED = ("context", "scratch")
_SPECIAL = re.compile(r"""[$"'\\`\s]""")  # without any of these a word stands for itself


@dataclass(frozen=True, slots=True)
class GlobalScope:
    """ARGs above the first FROM: ``values`` of those that have one, and the names of all that are ``declared``."""

    values: Mapping[str, str]
    declared: frozenset[str]


def read_global_scope(
    dockerfile: Dockerfile, platform: Platform, target: str, build_args: Mapping[str, str | None]
) -> GlobalScope:
    """The global scope of a build for ``platform``. Raises InvalidArgument where a default cannot be expanded."""
    given = {name: value for name, value in build_args.items() if value is not None}
    values = global_args(Platform.host(), platform, target)
    values.update((name, given[name]) for name in PLATFORM_ARGS if name in given)
    declared = set(values)
    for instruction in dockerfile.global_args:
        for name, default in instruction.args:
            declared.add(name)
            if name in given:
                values[name] = given[name]
            elif default is not None:
                values[name] = _expand(default, values, dockerfile).text
    return GlobalScope(values, frozenset(declared))


def check_names(dockerfile: Dockerfile) -> Iterator[Finding]:
    """Stage names that mean something else, or that two stages have."""
    seen: set[str] = set()
    for stage in dockerfile.stages:
        if not stage.name:
            continue
        if stage.name in _RESERVED:
            yield Finding.make(rules.RESERVED_STAGE_NAME, dockerfile.source, stage.base.range, name=stage.name)
        if stage.name in seen:
            yield Finding.make(rules.DUPLICATE_STAGE_NAME, dockerfile.source, stage.base.range, name=stage.name)
        seen.add(stage.name)


def check_defaults(dockerfile: Dockerfile, scope: GlobalScope) -> Iterator[Finding]:
    """Base images that only build arguments make valid; ``scope`` is the global scope without any."""
    for stage in dockerfile.stages:
        try:
            name = _expand(stage.base.image, scope.values, dockerfile).text
        except InvalidArgument:
            return  # building says why
        if is_document(name):
            continue
        try:
            Reference.parse(name)
        except InvalidArgument:
            yield Finding.make(
                rules.INVALID_DEFAULT_ARG_IN_FROM, dockerfile.source, stage.base.range, name=stage.base.image
            )


def check_bases(dockerfile: Dockerfile, scope: GlobalScope) -> Iterator[Finding]:
    """Variables and platforms in FROM."""
    suggestions = Suggestions()
    for stage in dockerfile.stages:
        try:
            image = _expand(stage.base.image, scope.values, dockerfile)
            platform = _expand(stage.base.platform, scope.values, dockerfile)
        except InvalidArgument:
            continue
        yield from _undeclared(image.undefined, stage, dockerfile, scope, suggestions)
        if not stage.base.platform:
            continue
        yield from _undeclared(platform.undefined, stage, dockerfile, scope, suggestions)
        if _is_redundant(platform, scope):
            yield Finding.make(
                rules.REDUNDANT_TARGET_PLATFORM, dockerfile.source, stage.base.range, variable=stage.base.platform
            )
        if _is_constant(platform, stage):
            yield Finding.make(
                rules.FROM_PLATFORM_FLAG_CONST_DISALLOWED, dockerfile.source, stage.base.range, platform=platform.text
            )


def _undeclared(
    names: Iterable[str], stage: Stage, dockerfile: Dockerfile, scope: GlobalScope, suggestions: Suggestions
) -> Iterator[Finding]:
    for name in sorted(set(names) - scope.declared):
        near = suggestions.nearest(name, scope.declared)
        suggestion = f" (did you mean {near}?)" if near else ""
        yield Finding.make(
            rules.UNDEFINED_ARG_IN_FROM, dockerfile.source, stage.base.range, name=name, suggestion=suggestion
        )


def _is_redundant(platform: Expansion, scope: GlobalScope) -> bool:
    """Whether the expression is nothing but the target platform's variable."""
    variable = "TARGETPLATFORM"
    return platform.used == {variable} and not platform.undefined and platform.text == scope.values.get(variable)


def _is_constant(platform: Expansion, stage: Stage) -> bool:
    """Whether the platform is fixed; a stage that has it in its name is meant to be."""
    if platform.used or platform.undefined:
        return False
    try:
        parsed = Platform.parse(platform.text)
    except InvalidArgument:
        return False
    return parsed.os not in stage.name and parsed.architecture not in stage.name


def _expand(text: str, values: Mapping[str, str], dockerfile: Dockerfile) -> Expansion:
    if text.isascii() and not _SPECIAL.search(text):
        return Expansion(text, (text,), frozenset(), frozenset())
    return expand_result(text, values, ExpansionRules(escape=dockerfile.directives.escape))
