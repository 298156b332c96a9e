"""A whole Dockerfile: global arguments and stages."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

from tare.build.dockerfile.instructions import AnyInstruction, Arg, From
from tare.build.dockerfile.parser import Directives, ParsedFile, parse_nodes
from tare.build.dockerfile.source import Source
from tare.build.dockerfile.typed import to_instruction


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: ``name`` is its alias (lower case, may be empty), ``index`` its number from 0."""

    name: str
    index: int
    base: From
    instructions: tuple[AnyInstruction, ...]


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """What a Dockerfile says; ``source.error(…, instruction.range)`` makes the errors that are found later."""

    name: str
    source: Source
    directives: Directives
    global_args: tuple[Arg, ...]
    stages: tuple[Stage, ...]
    _by_name: dict[str, list[int]] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        for stage in self.stages:
            self._by_name.setdefault(stage.name, []).append(stage.index)

    def stage(self, target: str, *, before: int | None = None) -> Stage | None:
        """The stage called ``target`` (any case) or with that number, of those with an index under ``before``.

        Where several stages have the name the last one counts.
        """
        limit = len(self.stages) if before is None else before
        named = self._by_name.get(target.lower(), []) if target else []
        if earlier := bisect_left(named, limit):
            return self.stages[named[earlier - 1]]
        if target.isascii() and target.isdecimal() and len(target) < 10 and int(target) < limit:
            return self.stages[int(target)]
        return None


def parse_dockerfile(text: str, name: str = "Dockerfile") -> Dockerfile:
    """Read a Dockerfile's text; raises DockerfileError, InvalidArgument for an empty or too large file."""
    return read_stages(parse_nodes(text, name))


def read_stages(parsed: ParsedFile) -> Dockerfile:
    """What the nodes of a Dockerfile mean; raises DockerfileError."""
    global_args: list[Arg] = []
    heads: list[From] = []
    bodies: list[list[AnyInstruction]] = []
    for node in parsed.nodes:
        instruction = to_instruction(node, parsed.source, parsed.directives.escape)
        if isinstance(instruction, From):
            heads.append(instruction)
            bodies.append([])
        elif bodies:
            bodies[-1].append(instruction)
        elif isinstance(instruction, Arg):
            global_args.append(instruction)
        else:
            raise parsed.source.error(
                "no build stage in current context",
                node.range,
                mark=node.written,
                hint="only ARG may come before the first FROM",
                code="dockerfile-no-stage",
            )
    if not heads:
        last = parsed.nodes[-1].range
        raise parsed.source.error(
            "dockerfile contains no stages to build", last, hint="add FROM image", code="dockerfile-no-stage"
        )
    stages = tuple(
        Stage(head.alias, index, head, tuple(body))
        for index, (head, body) in enumerate(zip(heads, bodies, strict=True))
    )
    return Dockerfile(parsed.source.name, parsed.source, parsed.directives, tuple(global_args), stages)


def parse_trigger(expression: str, image: str = "") -> AnyInstruction:
    """The instruction of an ONBUILD trigger stored in the configuration of ``image``; raises DockerfileError."""
    parsed = parse_nodes(expression, f"ONBUILD trigger of {image}" if image else "ONBUILD trigger")
    if len(parsed.nodes) != 1 or parsed.nodes[0].name in ("FROM", "ONBUILD", "MAINTAINER"):
        cause = "an ONBUILD trigger is one instruction other than FROM, ONBUILD and MAINTAINER"
        raise parsed.source.error(cause, parsed.nodes[0].range)
    return to_instruction(parsed.nodes[0], parsed.source, parsed.directives.escape)
