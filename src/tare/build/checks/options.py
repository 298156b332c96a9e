"""Which checks run and what their findings do: ``# check=…`` and the build argument of the same grammar.

The text is ``name=value`` pairs between semicolons: ``skip`` and ``experimental`` take rule names between commas or
``all``, ``error`` a boolean (Dockerfile reference, "check").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tare.build.checks.rules import Rule
from tare.build.dockerfile.parser import ParsedFile
from tare.build.dockerfile.source import SourceRange
from tare.build.dockerfile.values import parse_bool, suggestion
from tare.errors import InvalidArgument

BUILD_ARG = "BUILDKIT_DOCKERFILE_CHECK"
"""The build argument; where it is given the directive does not count."""

_ALL = "all"
_NAMES = ("skip", "error", "experimental")


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """``skip`` and ``experimental`` are rule names, ``{"all"}`` for all; with ``error`` a finding fails the build."""

    skip: frozenset[str] = frozenset()
    experimental: frozenset[str] = frozenset()
    error: bool = False

    @classmethod
    def parse(cls, text: str) -> CheckOptions:
        """Read the directive's value. Raises InvalidArgument in BuildKit's words."""
        found: dict[str, str] = {}
        for part in text.split(";") if text.strip() else ():
            name, equals, value = part.partition("=")
            name = name.strip()
            if not equals or name not in _NAMES:
                shown = name if equals else part
                near = suggestion(name, _NAMES)
                raise InvalidArgument(
                    f'failed to parse check options: invalid check option "{shown}"{near}',
                    hint="use skip=RULE[,RULE], experimental=RULE[,RULE], error=true",
                )
            found[name] = value.strip()
        try:
            error = parse_bool(found["error"]) if "error" in found else False
        except InvalidArgument as error_:
            raise InvalidArgument(
                f"failed to parse check options: error: {error_.message}", hint=error_.hint
            ) from error_
        return cls(_names(found.get("skip", "")), _names(found.get("experimental", "")), error)

    @classmethod
    def of(cls, parsed: ParsedFile, build_args: Mapping[str, str | None]) -> CheckOptions:
        """The options of a build. Raises DockerfileError for a wrong directive, InvalidArgument for the argument."""
        given = build_args.get(BUILD_ARG)
        if given is not None:
            try:
                return cls.parse(given)
            except InvalidArgument as error:
                raise InvalidArgument(f"build argument {BUILD_ARG}: {error.message}", hint=error.hint) from error
        directive = parsed.directives.check
        try:
            return cls.parse(directive)
        except InvalidArgument as error:
            line = next((n for n, text in enumerate(parsed.source.lines, start=1) if directive in text), 1)
            raise parsed.source.error(
                error.message, SourceRange(line, line), mark=directive, hint=error.hint
            ) from error

    def active(self, rule: Rule) -> bool:
        """Whether findings of ``rule`` are wanted."""
        if rule.experimental:
            return bool(self.experimental & {_ALL, rule.name})
        return not self.skip & {_ALL, rule.name}


def _names(text: str) -> frozenset[str]:
    return frozenset(name for item in text.split(",") if (name := item.strip()))
