"""Runs the checks on one Dockerfile: first what its text tells, then, with the base images, the instructions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tare.build.checks.bodies import BodyCheck, Scope, Surroundings
from tare.build.checks.findings import ChecksFailed, Finding
from tare.build.checks.heads import check_bases, check_defaults, check_names, read_global_scope
from tare.build.checks.options import CheckOptions
from tare.build.checks.rules import INVALID_BASE_IMAGE_PLATFORM, RULES
from tare.build.checks.syntax import check_casing, check_syntax
from tare.build.dockerfile.dockerignore import IgnoreRules
from tare.build.dockerfile.errors import DockerfileError
from tare.build.dockerfile.parser import ParsedFile, parse_nodes
from tare.build.dockerfile.source import Source
from tare.build.dockerfile.stages import Dockerfile, Stage, read_stages
from tare.build.request import BuildRequest
from tare.errors import InvalidArgument, TareError
from tare.model import Platform
from tare.oci.image import ExecutionConfig
from tare.store.images import Image

_BY_NAME = {rule.name: rule for rule in RULES}


@dataclass(frozen=True, slots=True, kw_only=True)
class StageBase:
    """What a stage starts from: an earlier ``stage`` (its index) or an ``image``; neither for ``scratch``.

    ``name`` is the image's as written with its variables put in; ``known`` is false where the image is not here.
    """

    name: str
    platform: Platform
    stage: int | None = None
    image: Image | None = None
    known: bool = True

    @property
    def config(self) -> ExecutionConfig | None:
        """The base image's configuration; None where it is not known."""
        if not self.known:
            return None
        return self.image.config.config if self.image else ExecutionConfig()


class Linter:
    """The checks of one build; ``observe`` is told of each finding, on the event loop."""

    def __init__(self, request: BuildRequest, observe: Callable[[Finding], None]) -> None:
        self._request = request
        self._observe = observe
        self._options = CheckOptions()
        self._found: dict[Finding, None] = {}
        self._dockerfile: Dockerfile | None = None
        self.source: Source | None = None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings so far, in the order of the Dockerfile's lines."""
        return tuple(sorted(self._found, key=lambda finding: finding.first_line))

    async def read(self) -> Dockerfile:
        """Read the Dockerfile, and check what needs no images. Raises what reading raises, after what was found."""
        parsed = await asyncio.to_thread(parse_nodes, self._request.dockerfile, self._request.dockerfile_name)
        self.source = parsed.source
        self._options = CheckOptions.of(parsed, self._request.build_args)
        findings, outcome = await asyncio.to_thread(self._read, parsed)
        self._report(findings)
        if isinstance(outcome, TareError):
            raise outcome
        self._dockerfile = outcome
        return outcome

    def _read(self, parsed: ParsedFile) -> tuple[list[Finding], Dockerfile | TareError]:
        try:
            dockerfile = read_stages(parsed)
        except DockerfileError as error:
            return list(check_syntax(parsed, before=error.first_line)), error
        except TareError as error:
            return list(check_syntax(parsed)), error
        return list(check_text(parsed, dockerfile, self._request)), dockerfile

    async def inspect(
        self, bases: Mapping[int, StageBase], global_args: Mapping[str, str], ignored: IgnoreRules | None
    ) -> None:
        """Check the stages of ``bases``, whose order is such that a stage comes after the one that it starts from."""
        self._report(await asyncio.to_thread(self._inspect, bases, global_args, ignored))

    def _inspect(
        self, bases: Mapping[int, StageBase], global_args: Mapping[str, str], ignored: IgnoreRules | None
    ) -> list[Finding]:
        assert self._dockerfile is not None
        dockerfile = self._dockerfile
        around = Surroundings(
            source=dockerfile.source,
            escape=dockerfile.directives.escape,
            global_args=global_args,
            build_args={name: value for name, value in self._request.build_args.items() if value is not None},
            ignored=ignored,
        )
        found: list[Finding] = []
        scopes: dict[int, Scope] = {}
        for index, base in bases.items():
            scope = Scope.of_image(base.config) if base.stage is None else scopes[base.stage].child()
            body = BodyCheck(scope, around)
            found += body.prepare(base.name, dockerfile.stages[index].base)
            found += _platform(dockerfile.stages[index], base, dockerfile.source)
            for instruction in dockerfile.stages[index].instructions:
                found += body.check(instruction)
            scopes[index] = body.scope
        return found

    def refuse(self) -> None:
        """Fail the build where the Dockerfile asks for that. Raises ChecksFailed."""
        if self._options.error and self._found:
            raise ChecksFailed(self.findings)

    def _report(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            if self._options.active(_BY_NAME[finding.rule]) and finding not in self._found:
                self._found[finding] = None
                self._observe(finding)


def check_text(parsed: ParsedFile, dockerfile: Dockerfile, request: BuildRequest) -> Iterable[Finding]:
    """Findings that need no images, of all rules."""
    yield from check_syntax(parsed)
    yield from check_names(dockerfile)
    yield from check_casing(parsed.nodes, parsed.source)
    platform, target = request.platform or Platform.host(), request.target
    try:
        yield from check_defaults(dockerfile, read_global_scope(dockerfile, platform, target, {}))
    except InvalidArgument:
        pass  # the build may still give the argument
    try:
        scope = read_global_scope(dockerfile, platform, target, request.build_args)
    except InvalidArgument:
        return  # planning says why
    yield from check_bases(dockerfile, scope)


def _platform(stage: Stage, base: StageBase, source: Source) -> list[Finding]:
    if base.image is None or not base.known:
        return []
    actual = Platform(base.image.config.os, base.image.config.architecture)
    if (actual.os, actual.architecture) == (base.platform.os, base.platform.architecture):
        return []
    expected = Platform(base.platform.os, base.platform.architecture)
    return [
        Finding.make(
            INVALID_BASE_IMAGE_PLATFORM,
            source,
            stage.base.range,
            image=base.name,
            actual=str(actual),
            expected=str(expected),
        )
    ]
