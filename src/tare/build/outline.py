"""What a Dockerfile offers and takes: its targets, and a target's arguments, secrets and agents.

The descriptions are the comments directly above, in the form ``# name description`` (BuildKit,
``frontend/subrequests``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tare.build.checks.bodies import BodyCheck, Scope, Surroundings
from tare.build.checks.heads import GlobalScope
from tare.build.dockerfile import instructions as ins
from tare.build.dockerfile.expansion import ExpansionRules, expand_result
from tare.build.dockerfile.parser import ParsedFile
from tare.build.dockerfile.stages import Dockerfile, Stage
from tare.errors import InvalidArgument
from tare.oci.image import ExecutionConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A stage: ``name`` is empty where it has none, ``default`` true for the last, ``base`` what FROM names."""

    name: str
    default: bool
    description: str
    base: str
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """The stages of a Dockerfile with its ``text``, in its order."""

    text: str
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """A build argument and the value that it would have; empty where it has none."""

    name: str
    value: str
    description: str
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mounted:
    """A secret or an agent that RUN steps mount."""

    name: str
    required: bool
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """What a target and the stages that it needs take; ``text`` is the Dockerfile's."""

    text: str
    name: str
    description: str
    args: tuple[Argument, ...]
    secrets: tuple[Mounted, ...]
    ssh: tuple[Mounted, ...]


def targets_of(text: str, parsed: ParsedFile, dockerfile: Dockerfile) -> Targets:
    """All stages."""
    comments = _comments(parsed)
    last = len(dockerfile.stages) - 1
    return Targets(
        text=text,
        targets=tuple(
            Target(
                name=stage.name,
                default=stage.index == last,
                description=_description(comments, stage.base, stage.name),
                base=stage.base.image,
                line=stage.base.range.first_line,
            )
            for stage in dockerfile.stages
        ),
    )


def outline_of(
    text: str,
    parsed: ParsedFile,
    dockerfile: Dockerfile,
    *,
    stages: Sequence[Stage],
    scope: GlobalScope,
    build_args: Mapping[str, str | None],
) -> Outline:
    """What ``stages`` take, of which the last is the target."""
    collector = _Collector(parsed, dockerfile, scope, build_args)
    for stage in stages:
        collector.take(stage)
    target = stages[-1]
    return Outline(
        text=text,
        name=target.name,
        description=_description(_comments(parsed), target.base, target.name),
        args=tuple(sorted(collector.args.values(), key=lambda item: item.line)),
        secrets=tuple(collector.secrets.values()),
        ssh=tuple(collector.ssh.values()),
    )


@dataclass(slots=True)
class _Collector:
    parsed: ParsedFile
    dockerfile: Dockerfile
    scope: GlobalScope
    build_args: Mapping[str, str | None]
    args: dict[str, Argument] = field(default_factory=dict)
    secrets: dict[str, Mounted] = field(default_factory=dict)
    ssh: dict[str, Mounted] = field(default_factory=dict)
    scopes: dict[int, Scope] = field(default_factory=dict)
    comments: dict[int, tuple[str, ...]] = field(init=False)
    global_args: dict[str, tuple[ins.Arg, str | None]] = field(init=False)

    def __post_init__(self) -> None:
        self.comments = _comments(self.parsed)
        self.global_args = {
            name: (instruction, default)
            for instruction in self.dockerfile.global_args
            for name, default in instruction.args
        }

    def take(self, stage: Stage) -> None:
        """Collect what a stage takes; the stage that it starts from has been taken."""
        self._use_globals(self._names(stage.base.image, stage.base.platform))
        earlier = self.dockerfile.stage(stage.base.image, before=stage.index)
        known = self.scopes.get(earlier.index) if earlier else None
        scope = known.child() if known else Scope.of_image(ExecutionConfig())
        given = {name: value for name, value in self.build_args.items() if value is not None}
        around = Surroundings(
            source=self.parsed.source,
            escape=self.parsed.directives.escape,
            global_args=self.scope.values,
            build_args=given,
        )
        body = BodyCheck(scope, around)
        for instruction in stage.instructions:
            list(body.check(instruction))  # follows the variables
            if isinstance(instruction, ins.Arg):
                self._arg(instruction, scope)
            elif isinstance(instruction, ins.Run):
                self._mounts(instruction)
        self.scopes[stage.index] = scope

    def _arg(self, instruction: ins.Arg, scope: Scope) -> None:
        for name, default in instruction.args:
            platform = default is None and self.build_args.get(name) is None and name in self.scope.declared
            if platform or (default is None and name in self.global_args):
                self._use_globals([name])
            else:
                self.args[name] = self._argument(name, scope.env.get(name, ""), instruction)

    def _use_globals(self, names: Iterable[str]) -> None:
        pending = list(names)
        while pending:
            name = pending.pop()
            if name in self.global_args and name not in self.args:
                instruction, default = self.global_args[name]
                self.args[name] = self._argument(name, self.scope.values.get(name, ""), instruction)
                pending.extend(self._names(default or ""))

    def _names(self, *texts: str) -> set[str]:
        found: set[str] = set()
        for text in texts:
            try:
                found |= expand_result(
                    text, self.scope.values, ExpansionRules(escape=self.parsed.directives.escape)
                ).used
            except InvalidArgument:
                continue
        return found

    def _argument(self, name: str, value: str, instruction: ins.Arg) -> Argument:
        description = _description(self.comments, instruction, name)
        return Argument(name=name, value=value, description=description, line=instruction.range.first_line)

    def _mounts(self, instruction: ins.Run) -> None:
        line = instruction.range.first_line
        for mount in instruction.mounts:
            if mount.type == "secret":
                name = mount.id or mount.source or mount.target.rpartition("/")[2]
                self.secrets.setdefault(name, Mounted(name=name, required=mount.required, line=line))
            elif mount.type == "ssh":
                name = mount.id or "default"
                self.ssh.setdefault(name, Mounted(name=name, required=mount.required, line=line))


def _comments(parsed: ParsedFile) -> dict[int, tuple[str, ...]]:
    return {node.range.first_line: node.comments for node in parsed.nodes}


def _description(comments: Mapping[int, tuple[str, ...]], instruction: ins.Instruction, name: str) -> str:
    start = f"{name} "
    above = comments.get(instruction.range.first_line, ())
    return next((text.removeprefix(start) for text in above if name and text.startswith(start)), "")
