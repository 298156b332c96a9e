"""Dockerfile and request → plan: which stages are needed, what their steps are, which images they start from."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace

import msgspec

from tare.build import defaults, phrasing
from tare.build.dockerfile import instructions as ins
from tare.build.dockerfile.expansion import expand
from tare.build.dockerfile.platform_args import PLATFORM_ARGS, PROXY_ARGS, global_args
from tare.build.dockerfile.source import Source
from tare.build.dockerfile.stages import Dockerfile, Stage, parse_trigger
from tare.build.events import PlannedStep
from tare.build.graph import ConfigStep, Place, Plan, SourceStep, StageOutput, Step
from tare.build.interpreter import StageState, Surroundings
from tare.build.request import BuildRequest
from tare.errors import InvalidArgument, NotFound, TareError
from tare.model import Platform, Reference
from tare.oci.image import ExecutionConfig
from tare.store.images import Image

SCRATCH = "scratch"
_OWN_ARGS = ("BUILDKIT_", "SOURCE_DATE_EPOCH")  # they speak to the builder
ResolveImage = Callable[[Reference, Platform], Awaitable[Image]]


@dataclass(slots=True)
class _Stage:
    """A stage with its variables put in. ``after`` are stages it needs, ``images`` the images it names."""

    stage: Stage
    base: str
    base_stage: int | None
    platform: Platform
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
        self._later: list[TareError] = []
        self._triggers: dict[int, list[str]] = {}
        self._steps: list[Step] = []
        self._image_steps: set[str] = set()
        self._shown: list[tuple[int, Step]] = []

    async def plan(self, resolve: ResolveImage) -> Plan:
        """The plan; ``resolve`` is called once for each image, for all at the same time.

        Raises DockerfileError, NotFound for the target or an image, what ``resolve`` raises.
        """
        target = self._target()
        self._globals = self._global_scope(target)
        needed = self._needed(target)
        if self._later:
            raise self._later[0]
        await self._resolve_all(needed, resolve)
        while self._take_triggers(needed):
            needed = self._needed(target)
            await self._resolve_all(needed, resolve)
        for wanted in needed:
            self._outputs[wanted.stage.index] = self._interpret(wanted)
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

    def _global_scope(self, target: Stage) -> dict[str, str]:
        known = global_args(Platform.host(), self._platform, target.name)
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
            elif following not in known:
                enter(following)
            elif following not in ordered:
                self._refuse_cycle(described.stage, following)
        return list(ordered.values())

    def _refuse_cycle(self, stage: Stage, back: int) -> None:
        name = self._name(self._dockerfile.stages[back])
        raise self._dockerfile.source.error(
            f"circular dependency detected on stage: {name}", stage.base.range, code="stage-cycle"
        )

    def _describe(self, stage: Stage) -> _Stage:
        base = self._expand(stage.base.image, stage.base, self._globals)
        if not base:
            raise self._error(f"base name ({stage.base.image}) should not be blank", stage.base, stage.base.image)
        platform = self._platform
        if stage.base.platform and (text := self._expand(stage.base.platform, stage.base, self._globals)):
            try:
                platform = Platform.parse(text)
            except InvalidArgument as error:
                raise self._error(error.message, stage.base, stage.base.platform) from error
        earlier = self._dockerfile.stage(base, before=stage.index)
        if earlier is not None and base.isdecimal():
            earlier = None  # FROM takes names only
        described = _Stage(stage, base, earlier.index if earlier else None, platform)
        for user, name in self._named(described):
            described.froms[name] = self._find_from(name, user, stage)
        return described

    def _named(self, described: _Stage) -> Iterator[tuple[ins.Instruction, str]]:
        """What the stage's instructions, and the triggers of its base as far as they are known, have in ``--from``.

        The instruction is the one whose lines errors show.
        """
        stage = described.stage
        texts = self._triggers.get(stage.index, [])
        if described.base_stage is not None:
            earlier = self._dockerfile.stages[described.base_stage].instructions
            texts = [item.expression for item in earlier if isinstance(item, ins.Onbuild)]
        for text in texts:
            for name in _from_names(parse_trigger(text, described.base)):
                yield stage.base, name
        for instruction in stage.instructions:
            for name in _from_names(instruction):
                yield instruction, name

    def _take_triggers(self, needed: list[_Stage]) -> bool:
        """Note the triggers of the images that are known now; whether they name stages or images."""
        found = False
        for described in needed:
            index = described.stage.index
            if described.base_stage is None and described.base != SCRATCH and index not in self._triggers:
                key = (self._reference(described.base, described.stage.base), described.platform)
                texts = self._triggers[index] = self._images[key].config.config.on_build or []
                found |= any(_from_names(parse_trigger(text, described.base)) for text in texts)
        return found

    def _find_from(self, name: str, instruction: ins.Instruction, user: Stage) -> int | None:
        """The stage that ``--from=name`` in ``user`` means; None for an image.

        One that comes later is an error, reported once it is known that there is no cycle.
        """
        stage = self._dockerfile.stage(name)
        if stage is not None and stage.index > user.index:
            cause = f'cannot copy from stage "{name}", it needs to be defined before current stage "{self._name(user)}"'
            self._later.append(self._error(cause, instruction, name, hint="move that stage up"))
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

    async def _resolve_all(self, needed: list[_Stage], resolve: ResolveImage) -> None:
        wanted: dict[tuple[Reference, Platform], ins.Instruction] = {}
        for described in needed:
            stage = described.stage
            if described.base_stage is None and described.base != SCRATCH:
                wanted.setdefault((self._reference(described.base, stage.base), described.platform), stage.base)
            for user, name in self._named(described):
                if described.froms[name] is None and name != SCRATCH:
                    wanted.setdefault((self._reference(name, user), described.platform), user)

        async def one(key: tuple[Reference, Platform], instruction: ins.Instruction) -> None:
            try:
                self._images[key] = await resolve(*key)
            except NotFound as error:
                place = self._dockerfile.source.error(error.message, instruction.range)
                text = f"{key[0].familiar()}: {error.message}\n{place.name}:{place.line}\n{place.excerpt()}"
                raise NotFound(text, hint=error.hint, code=error.code or "base-image-missing") from error

        try:
            async with asyncio.TaskGroup() as group:
                for key in wanted.keys() - self._images.keys():
                    group.create_task(one(key, wanted[key]))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from errors

    def _interpret(self, described: _Stage) -> StageOutput:
        stage = described.stage
        base = self._base(described)
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
        return state.finished()

    def _base(self, described: _Stage) -> StageOutput:
        stage, name = described.stage, self._name(described.stage)
        if described.base_stage is not None:
            output = replace(self._outputs[described.base_stage], name=name)
            self._shown_source(described, output.tip)
            return output
        step_id = f"{stage.index}.0"
        image = None
        config, author = ExecutionConfig(env=[defaults.PATH], working_dir="/"), ""
        if described.base != SCRATCH:
            image = self._images[(self._reference(described.base, stage.base), described.platform)]
            config, author = image.config.config, image.config.author
        step = self._source_step(step_id, name, stage.base, described.base, image)
        self._steps.append(step)
        self._shown.append((stage.index, step))
        return StageOutput(
            name=name,
            config=config,
            tip=step_id,
            author=author,
            architecture=image.config.architecture if image else described.platform.architecture,
            base_history=tuple(image.config.history) if image else (),
            variables=dict(item.partition("=")[::2] for item in config.env or []),
        )

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
        if step_id not in self._image_steps:
            self._image_steps.add(step_id)
            image = None
            if name != SCRATCH:
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
        warnings = [f"{w.rule}: {w.message} (line {w.range.first_line})" for w in self._dockerfile.warnings]
        known = self._consumed | PROXY_ARGS | set(PLATFORM_ARGS)
        unused = sorted(name for name in set(self._request.build_args) - known if not name.startswith(_OWN_ARGS))
        unused = [name for name in unused if name in self._build_args]
        if unused:
            warnings.append(f"[Warning] One or more build-args [{' '.join(unused)}] were not consumed")
        return tuple(warnings)


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
