"""Dockerfile and request → plan: which stages are needed, what their steps are, which images they start from."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from tare.build import defaults, phrasing
from tare.build.checks.linter import StageBase
from tare.build.dockerfile import instructions as ins
from tare.build.dockerfile.expansion import expand
from tare.build.dockerfile.platform_args import PLATFORM_ARGS, PROXY_ARGS, global_args
from tare.build.dockerfile.source import Source
from tare.build.dockerfile.stages import Dockerfile, Stage, parse_trigger
from tare.build.events import PlannedStep
from tare.build.graph import NAMED, ConfigStep, CopyStep, Place, Plan, SourceStep, StageOutput, Step, Written
from tare.build.interpreter import StageState, Surroundings
from tare.build.named import Named, context_names, lookup_name
from tare.build.ops.select import Tree
from tare.build.request import BuildRequest
from tare.errors import InvalidArgument, NotFound, TareError
from tare.model import Platform, Reference
from tare.oci.image import ExecutionConfig
from tare.store.images import Image

SCRATCH = "scratch"
_OWN_ARGS = ("BUILDKIT_", "SOURCE_DATE_EPOCH")  # they speak to the builder
ResolveImage = Callable[[Reference, Platform], Awaitable[Image]]
Inspect = Callable[[Mapping[int, StageBase], Mapping[str, str]], None]
"""Looks at the stages before they are read: what each starts from, and the global ARGs."""
OpenContext = Callable[[str, Platform], Awaitable[Named]]


@dataclass(slots=True)
class _Stage:
    """A stage with its variables put in. ``after`` are stages it needs.

    ``context`` is the named context that it starts from (empty: none); with ``replaced`` that is all of it.
    """

    stage: Stage
    base: str
    base_stage: int | None
    platform: Platform
    context: str = ""
    replaced: bool = False
    froms: dict[str, int | None] = field(default_factory=dict)

    @property
    def after(self) -> list[int]:
        found = [self.base_stage] if self.base_stage is not None else []
        return found + [index for index in self.froms.values() if index is not None]


class Planner:
    """Plans one build."""

    def __init__(self, dockerfile: Dockerfile, request: BuildRequest) -> None:
        self._dockerfile = dockerfile
        self._request = request
        self._build_args = {name: value for name, value in request.build_args.items() if value is not None}
        self._platform = request.platform or Platform.host()
        self._consumed: set[str] = set()
        self._globals: dict[str, str] = {}
        self._outputs: dict[int, StageOutput] = {}
        self._images: dict[tuple[Reference, Platform], Image] = {}
        self._names = context_names(request.contexts)
        self._opened: dict[tuple[str, Platform], Named] = {}
        self._steps: list[Step] = []
        self._shown: list[tuple[int, Step]] = []

    async def plan(
        self, resolve: ResolveImage, open_context: OpenContext | None = None, inspect: Inspect | None = None
    ) -> Plan:
        """The plan; ``resolve`` is called once for each image, for all at the same time.

        So is ``open_context`` for the named contexts that are used, by the names they were given. Raises
        DockerfileError, NotFound for the target or an image, what the two raise.
        """
        if open_context is None:
            self._names = {}
        self._globals = self._global_scope()
        target = self._target()
        await self._read(self._needed(target), resolve, open_context, inspect)
        output = self._outputs[target.index]
        if self._request.labels:
            labels = {**(output.config.labels or {}), **dict(sorted(self._request.labels.items()))}
            output = replace(output, config=msgspec.structs.replace(output.config, labels=labels))
        steps = tuple(self._steps)
        return Plan(
            steps=steps,
            shown=self._numbered(),
            output=output,
            warnings=self._warnings(),
            by_id={step.id: step for step in steps},
        )

    def stages(self) -> list[Stage]:
        """The stages that the target needs, itself last. Raises DockerfileError, NotFound for the target."""
        self._globals = self._global_scope()
        return [described.stage for described in self._needed(self._target())]

    async def survey(
        self, resolve: ResolveImage, open_context: OpenContext | None = None, inspect: Inspect | None = None
    ) -> None:
        """Read the stages as :meth:`plan` does, all of them where the request names no target. Raises the same."""
        self._globals = self._global_scope()
        targets = [self._target()] if self._request.target else self._dockerfile.stages
        needed: dict[int, _Stage] = {}
        for target in targets:
            if target.index not in needed:
                for described in self._needed(target):
                    needed.setdefault(described.stage.index, described)
        await self._read(list(needed.values()), resolve, open_context, inspect)

    async def _read(
        self, needed: list[_Stage], resolve: ResolveImage, open_context: OpenContext | None, inspect: Inspect | None
    ) -> None:
        await self._open_contexts(needed, open_context)
        await self._resolve_all(needed, resolve)
        if inspect is not None:
            inspect({described.stage.index: self._stage_base(described) for described in needed}, self._globals)
        for wanted in needed:
            self._outputs[wanted.stage.index] = self._interpret(wanted)

    def _stage_base(self, described: _Stage) -> StageBase:
        image = None
        if described.context:
            opened = self._opened.get((described.context, described.platform))
            image = opened if isinstance(opened, Image) else None
        elif described.base_stage is None and described.base != SCRATCH:
            image = self._images.get((self._reference(described.base, described.stage.base), described.platform))
        return StageBase(name=described.base, platform=described.platform, stage=described.base_stage, image=image)

    def _global_scope(self) -> dict[str, str]:
        known = global_args(Platform.host(), self._platform, self._request.target)
        for name in PLATFORM_ARGS:
            if name in self._build_args:
                known[name] = self._build_args[name]
                self._consumed.add(name)
        for instruction in self._dockerfile.global_args:
            for name, default in instruction.args:
                if name in self._build_args:
                    known[name] = self._build_args[name]
                    self._consumed.add(name)
                elif default is not None:
                    known[name] = self._expand(default, instruction, known)
        return known

    def _expand(self, text: str, instruction: ins.Instruction, known: dict[str, str]) -> str:
        try:
            return expand(text, known, self._dockerfile.directives.escape)
        except TareError as error:
            source = self._dockerfile.source
            raise source.error(error.message, instruction.range, mark=text, hint=error.hint) from error

    def _target(self) -> Stage:
        if not self._request.target:
            return self._dockerfile.stages[-1]
        stage = self._dockerfile.stage(self._request.target)
        if stage is None:
            names = ", ".join(stage.name or str(stage.index) for stage in self._dockerfile.stages)
            raise NotFound(
                f'target stage "{self._request.target}" could not be found',
                hint=f"stages are {names}",
                code="no-target",
            )
        return stage

    def _needed(self, target: Stage) -> list[_Stage]:
        """The stages that ``target`` needs, itself last; what a stage needs comes before it. Raises for a cycle."""
        ordered: dict[int, _Stage] = {}
        active: list[int] = []
        known: dict[int, tuple[_Stage, Iterator[int]]] = {}

        def enter(index: int) -> None:
            described = self._describe(self._dockerfile.stages[index])
            known[index] = (described, iter(described.after))
            active.append(index)

        enter(target.index)
        while active:
            described, rest = known[active[-1]]
            following = next(rest, None)
            if following is None:
                ordered[active.pop()] = described
            elif following in active:
                self._refuse_cycle(described, active[active.index(following) :])
            elif following not in ordered:
                enter(following)
        return list(ordered.values())

    def _refuse_cycle(self, last: _Stage, circle: list[int]) -> None:
        """Raise for stages of which each needs the next and ``last`` the first."""
        names = [self._name(self._dockerfile.stages[index]) for index in (*circle, circle[0])]
        wanted = {name for name, index in last.froms.items() if index == circle[0]}
        users = [user for user in last.stage.instructions if wanted.intersection(_from_names(user))]
        place = last.stage.base if last.base_stage == circle[0] or not users else users[0]
        raise self._dockerfile.source.error(
            f"circular dependency detected on stage: {names[0]} ({' needs '.join(names)})",
            place.range,
            hint="a stage can only take from stages that do not take from it",
            code="stage-cycle",
        )

    def _describe(self, stage: Stage) -> _Stage:
        base = self._expand(stage.base.image, stage.base, self._globals)
        if context := self._named(stage.name):
            return _Stage(stage, base, None, self._platform_of(stage), context=context, replaced=True)
        if not base:
            raise self._error(f"base name ({stage.base.image}) should not be blank", stage.base, stage.base.image)
        earlier = self._dockerfile.stage(base, before=stage.index)
        if earlier is not None and base.isdecimal():
            earlier = None  # FROM takes names only
        context = self._named(base) if earlier is None else ""
        described = _Stage(stage, base, earlier.index if earlier else None, self._platform_of(stage), context)
        for instruction in stage.instructions:
            for name in _from_names(instruction):
                described.froms[name] = self._find_from(name, instruction)
        return described

    def _platform_of(self, stage: Stage) -> Platform:
        if not stage.base.platform:
            return self._platform
        text = self._expand(stage.base.platform, stage.base, self._globals)
        if not text:
            cause = f"empty platform value from expression {stage.base.platform}"
            raise self._error(cause, stage.base, stage.base.platform, hint="declare the ARG above the first FROM")
        try:
            return Platform.parse(text)
        except InvalidArgument as error:
            raise self._error(error.message, stage.base, stage.base.platform) from error

    def _named(self, name: str) -> str:
        """The named context that ``name`` means, as it was given; empty for none."""
        key = lookup_name(name) if name and self._names else None
        return self._names.get(key, "") if key is not None else ""

    def _find_from(self, name: str, instruction: ins.Instruction) -> int | None:
        """The stage that ``--from=name`` means; None for an image."""
        stage = self._dockerfile.stage(name)
        if stage is not None:
            return stage.index
        if name.isdecimal():
            last = len(self._dockerfile.stages) - 1
            hint = f"stages are 0 to {last}"
            raise self._error(f"invalid from flag value {name}: there is no such stage", instruction, name, hint=hint)
        return None

    def _error(self, message: str, instruction: ins.Instruction, mark: str = "", hint: str = "") -> TareError:
        return self._dockerfile.source.error(message, instruction.range, mark=mark, hint=hint)

    def _reference(self, text: str, instruction: ins.Instruction) -> Reference:
        try:
            return Reference.parse(text)
        except InvalidArgument as error:
            hint = "it is neither a stage of this Dockerfile nor an image name"
            raise self._error(
                f"failed to parse stage name {text!r}: {error.message}", instruction, text, hint
            ) from error

    async def _open_contexts(self, needed: list[_Stage], open_context: OpenContext | None) -> None:
        """Open what the needed stages use of the named contexts."""
        if open_context is None or not self._names:
            return
        used: dict[tuple[str, Platform], None] = {}
        for described in needed:
            if described.context:
                used[(described.context, described.platform)] = None
            for name, index in described.froms.items():
                if index is None and (context := self._named(name)):
                    used[(context, described.platform)] = None

        async def one(key: tuple[str, Platform]) -> None:
            self._opened[key] = await open_context(*key)

        await _all(one(key) for key in used)

    async def _resolve_all(self, needed: list[_Stage], resolve: ResolveImage) -> None:
        wanted: dict[tuple[Reference, Platform], ins.Instruction] = {}
        for described in needed:
            stage = described.stage
            if described.base_stage is None and described.base != SCRATCH and not described.context:
                wanted.setdefault((self._reference(described.base, stage.base), described.platform), stage.base)
            for user in () if described.replaced else stage.instructions:
                for name in _from_names(user):
                    if described.froms[name] is None and name != SCRATCH and not self._named(name):
                        key = (self._reference(name, user), described.platform)
                        wanted.setdefault(key, user)

        async def one(key: tuple[Reference, Platform], instruction: ins.Instruction) -> None:
            try:
                self._images[key] = await resolve(*key)
            except NotFound as error:
                raise self._missing(key[0], instruction, error) from error

        await _all(one(key, instruction) for key, instruction in wanted.items())

    def _missing(self, reference: Reference, instruction: ins.Instruction, error: NotFound) -> NotFound:
        """The error for an image that is not there; a name without registry or tag may be meant for a stage."""
        name = reference.familiar()
        short = name.removesuffix(":latest")
        place = self._dockerfile.source.error(error.message, instruction.range, mark=short)
        where = f"{place.name}:{place.line}\n{place.excerpt()}"
        stages = [stage.name for stage in self._dockerfile.stages if stage.name]
        if near := difflib.get_close_matches(short, stages, n=1):
            hint = f"did you mean the stage {near[0]}?"
            if near[0] == short:
                hint = f"the stage {short} comes later: FROM takes stages above it, move it up"
            return NotFound(
                f"{short}: there is no such stage above and no such image\n{where}", hint=hint, code="no-stage"
            )
        code = error.code or "base-image-missing"
        return NotFound(f"{name}: {error.message}\n{where}", hint=error.hint, code=code)

    def _interpret(self, described: _Stage) -> StageOutput:
        stage = described.stage
        base = self._base(described)
        if described.replaced:
            return base
        triggers = base.config.on_build or []
        start = replace(base, config=msgspec.structs.replace(base.config, on_build=None))
        around = Surroundings(
            build_args=self._build_args,
            global_args=self._globals,
            proxies={name: value for name, value in self._build_args.items() if name in PROXY_ARGS},
            origin=lambda name, place: self._origin(described, name, place),
            consumed=self._consumed.add,
            network=self._request.network,
            allow=self._request.allow,
            escape=self._dockerfile.directives.escape,
        )
        state = StageState(start, around, index=stage.index)
        for text in triggers:
            trigger = parse_trigger(text, described.base)
            state.apply(trigger, _trigger_source(text, described.base))
        for instruction in stage.instructions:
            state.apply(instruction, self._dockerfile.source)
        self._steps.extend(state.steps)
        self._shown.extend((stage.index, step) for step in state.steps)
        return state.output

    def _base(self, described: _Stage) -> StageOutput:
        stage, name = described.stage, self._name(described.stage)
        if described.base_stage is not None:
            output = replace(self._outputs[described.base_stage], name=name)
            self._shown_source(described, output.tip)
            return output
        step_id = f"{stage.index}.0"
        image, tree = None, None
        config, author = ExecutionConfig(env=[defaults.PATH], working_dir="/"), ""
        if described.context:
            found = self._opened[(described.context, described.platform)]
            image, tree = (None, found) if isinstance(found, Tree) else (found, None)
        elif described.base != SCRATCH:
            image = self._images[(self._reference(described.base, stage.base), described.platform)]
        if image is not None:
            config, author = image.config.config, image.config.author
        step = self._source_step(step_id, name, stage.base, described.base, image)
        self._steps.append(step)
        if tree is None:
            self._shown.append((stage.index, step))
        output = StageOutput(
            name=name,
            config=config,
            tip=step_id,
            author=author,
            architecture=image.config.architecture if image else described.platform.architecture,
            base_history=tuple(image.config.history) if image else (),
        )
        return output if tree is None else self._on_tree(described, output, step)

    def _on_tree(self, described: _Stage, output: StageOutput, source: SourceStep) -> StageOutput:
        """The stage with a named context's files as its first layer."""
        context = described.context
        step = CopyStep(
            id=f"{source.id}.context",
            stage=source.stage,
            text=source.text,
            place=source.place,
            parent=source.id,
            sources=("/",),
            destination="/",
            origin=NAMED + context,
            origin_name=context,
        )
        self._steps.append(step)
        self._shown.append((described.stage.index, step))
        written = Written(step=step.id, created_by=f"[context {context}] load", empty=False)
        return replace(output, tip=step.id, history=(written,))

    def _shown_source(self, described: _Stage, tip: str) -> None:
        """``FROM stage`` is a step to look at, without work of its own."""

        stage = described.stage
        step = ConfigStep(
            id=f"{stage.index}.0",
            stage=self._name(stage),
            text=phrasing.one_line(stage.base.original),
            place=Place(self._dockerfile.source, stage.base.range),
            parent=tip,
        )
        self._steps.append(step)
        self._shown.append((stage.index, step))

    def _source_step(
        self, step_id: str, name: str, instruction: ins.Instruction, reference: str, image: Image | None
    ) -> SourceStep:
        return SourceStep(
            id=step_id,
            stage=name,
            text=phrasing.one_line(instruction.original),
            place=Place(self._dockerfile.source, instruction.range),
            reference=reference,
            image=image,
        )

    def _origin(self, described: _Stage, name: str, place: Place) -> str:
        """The step whose files ``--from=name`` means."""
        index = described.froms.get(name)
        if index is not None:
            return self._outputs[index].tip
        step_id = f"image:{name}:{described.platform}"
        image = None
        if context := self._named(name):
            found = self._opened.get((context, described.platform))
            if isinstance(found, Tree):
                return NAMED + context
            image = found
        if all(step.id != step_id for step in self._steps):
            if name != SCRATCH and not context:
                image = self._images.get((Reference.parse(name), described.platform))
                if image is None:
                    hint = "name a stage of the Dockerfile that is built"
                    raise InvalidArgument(f"--from={name} in an ONBUILD trigger is not available", hint=hint)
            step = SourceStep(id=step_id, stage="", text=f"FROM {name}", place=place, reference=name, image=image)
            self._steps.append(step)
        return step_id

    def _name(self, stage: Stage) -> str:
        return stage.name or f"stage-{stage.index}"

    def _numbered(self) -> tuple[PlannedStep, ...]:
        """The steps in the Dockerfile's order with the names that people know."""
        ordered = [step for _, step in sorted(self._shown, key=lambda item: item[0])]
        counts: dict[str, int] = {}
        for step in ordered:
            counts[step.stage] = counts.get(step.stage, 0) + _counts(step)
        seen: dict[str, int] = {}
        single = len(self._dockerfile.stages) == 1 and not self._dockerfile.stages[0].name
        shown = []
        for index, step in enumerate(ordered, start=1):
            seen[step.stage] = seen.get(step.stage, 0) + _counts(step)
            number = f"{seen[step.stage]}/{counts[step.stage]}" if _counts(step) else ""
            prefix = " ".join(part for part in ("" if single else step.stage, number) if part)
            shown.append(
                PlannedStep(
                    id=step.id,
                    index=index,
                    total=len(ordered),
                    stage=step.stage,
                    name=f"[{prefix}] {step.text}" if prefix else step.text,
                    text=step.text,
                    layered=step.layered,
                )
            )
        return tuple(shown)

    def _warnings(self) -> tuple[str, ...]:
        known = self._consumed | PROXY_ARGS | set(PLATFORM_ARGS)
        unused = sorted(name for name in set(self._request.build_args) - known if not name.startswith(_OWN_ARGS))
        unused = [name for name in unused if name in self._build_args]
        return (f"[Warning] One or more build-args [{' '.join(unused)}] were not consumed",) if unused else ()


async def _all(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Everything at the same time; raises the first failure itself."""
    try:
        async with asyncio.TaskGroup() as group:
            for item in work:
                group.create_task(item)
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from errors


def _counts(step: Step) -> bool:
    """Whether BuildKit numbers the step: FROM and what makes a layer."""
    return step.layered or step.id.endswith(".0")


def _from_names(instruction: ins.Instruction) -> list[str]:
    if isinstance(instruction, ins.Copy):
        return [instruction.from_] if instruction.from_ else []
    if isinstance(instruction, ins.Run):
        return [mount.from_ for mount in instruction.mounts if mount.from_]
    return []


def _trigger_source(text: str, image: str) -> Source:
    return Source(f"ONBUILD trigger of {image}", tuple(text.split("\n")))
