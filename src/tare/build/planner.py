"""Dockerfile and request → plan: which stages are needed, what their steps are, which images they start from."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from tare.build import defaults, phrasing
from tare.build.assembly.names import DOCUMENT_MISSING, is_document
from tare.build.checks.linter import StageBase
from tare.build.dockerfile import instructions as ins
from tare.build.dockerfile.platform_args import PLATFORM_ARGS, PROXY_ARGS
from tare.build.dockerfile.source import Source
from tare.build.dockerfile.stages import Dockerfile, Stage, parse_trigger
from tare.build.events import PlannedStep
from tare.build.graph import (
    NAMED,
    ConfigStep,
    CopyStep,
    Included,
    Place,
    Plan,
    SourceStep,
    StageOutput,
    Step,
    Written,
)
from tare.build.interpreter import StageState, Surroundings
from tare.build.named import Named
from tare.build.needs import SCRATCH, NeededStage, Needs, label
from tare.build.ops.operation import locate
from tare.build.ops.select import Tree
from tare.build.request import BuildRequest
from tare.errors import Forbidden, InvalidArgument, NotFound, TareError, Unauthorized, Unavailable
from tare.model import Platform, Reference
from tare.oci.image import ExecutionConfig
from tare.store.images import Image

_OWN_ARGS = ("BUILDKIT_", "SOURCE_DATE_EPOCH")  # they speak to the builder
ResolveImage = Callable[[Reference, Platform], Awaitable[Image]]
Inspect = Callable[[Mapping[int, StageBase], Mapping[str, str]], Awaitable[None]]
"""Looks at the stages before they are read: what each starts from, and the global ARGs."""
OpenContext = Callable[[str, Platform], Awaitable[Named]]


class Planner:
    """Plans one build.

    ``prefix`` begins the identifiers of the steps, for a file that takes part in the plan of another one. Names that
    ``own`` accepts are neither images nor stages: they are opened like named contexts.
    """

    def __init__(
        self,
        dockerfile: Dockerfile,
        request: BuildRequest,
        *,
        prefix: str = "",
        own: Callable[[str], bool] = is_document,
    ) -> None:
        self._dockerfile = dockerfile
        self._request = request
        self._prefix = prefix
        self._own = own
        self._build_args = {name: value for name, value in request.build_args.items() if value is not None}
        self._consumed: set[str] = set()
        self._outputs: dict[int, StageOutput] = {}
        self._images: dict[tuple[Reference, Platform], Image] = {}
        self._opened: dict[tuple[str, Platform], Named] = {}
        self._steps: list[Step] = []
        self._included: set[str] = set()
        self._image_steps: set[str] = set()
        self._shown: list[tuple[int, Step]] = []
        self._needs: Needs

    async def plan(
        self, resolve: ResolveImage, open_context: OpenContext | None = None, inspect: Inspect | None = None
    ) -> Plan:
        """The plan; ``resolve`` is called once for each image, for all at the same time.

        So is ``open_context`` for the named contexts that are used, by the names they were given. Raises
        DockerfileError, NotFound for the target or an image, what the two raise.
        """
        self._look_up(contexts=open_context is not None)
        target = self._needs.target()
        await self._read([target], resolve, open_context, inspect)
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

    async def include(
        self,
        targets: Collection[str],
        resolve: ResolveImage,
        open_context: OpenContext | None = None,
        inspect: Inspect | None = None,
    ) -> dict[str, Included]:
        """The stages ``targets`` by these names, to take part in another file's plan; raises as :meth:`plan`."""
        self._look_up(contexts=open_context is not None)
        stages = {name: self._needs.target(name) for name in targets}
        await self._read(list(stages.values()), resolve, open_context, inspect)
        shown = tuple(step for _, step in sorted(self._shown, key=lambda item: item[0]))
        steps, consumed = tuple(self._steps), frozenset(self._consumed)
        return {
            name: Included(steps=steps, shown=shown, output=self._outputs[stage.index], consumed=consumed)
            for name, stage in stages.items()
        }

    def stages(self) -> list[Stage]:
        """The stages that the target needs, itself last. Raises DockerfileError, NotFound for the target."""
        self._look_up(contexts=True)
        return [described.stage for described in self._needs.of(self._needs.target())]

    async def survey(
        self, resolve: ResolveImage, open_context: OpenContext | None = None, inspect: Inspect | None = None
    ) -> None:
        """Read the stages as :meth:`plan` does, all of them where the request names no target. Raises the same."""
        self._look_up(contexts=open_context is not None)
        targets = [self._needs.target()] if self._request.target else list(self._dockerfile.stages)
        await self._read(targets, resolve, open_context, inspect)

    def _look_up(self, *, contexts: bool) -> None:
        self._needs = Needs(self._dockerfile, self._request, self._consumed.add, contexts=contexts, own=self._own)

    async def _read(
        self, targets: list[Stage], resolve: ResolveImage, open_context: OpenContext | None, inspect: Inspect | None
    ) -> None:
        needed = self._needs.of(*targets)
        await self._find(needed, resolve, open_context)
        while self._needs.take_triggers(needed, self._triggers_of):  # they may name further stages and images
            needed = self._needs.of(*targets)
            await self._find(needed, resolve, open_context)
        if inspect is not None:
            bases = {described.stage.index: self._stage_base(described) for described in needed}
            await inspect(bases, self._needs.global_args)
        await asyncio.to_thread(self._interpret_all, needed)

    def _interpret_all(self, needed: list[NeededStage]) -> None:
        for wanted in needed:
            self._outputs[wanted.stage.index] = self._interpret(wanted)

    async def _find(self, needed: list[NeededStage], resolve: ResolveImage, open_context: OpenContext | None) -> None:
        await self._open_contexts(needed, open_context)
        await self._resolve_all(needed, resolve)

    def _image_of(self, described: NeededStage) -> Image | None:
        """The image that the stage starts from; None for a stage, files, or nothing."""
        if described.context:
            opened = self._opened.get((described.context, described.platform))
            return opened if isinstance(opened, Image) else None
        if not described.on_image:
            return None
        return self._images.get((self._needs.reference(described.base, described.stage.base), described.platform))

    def _triggers_of(self, described: NeededStage) -> list[str]:
        image = self._image_of(described)
        return (image.config.config.on_build or []) if image is not None else []

    def _stage_base(self, described: NeededStage) -> StageBase:
        image = self._image_of(described)
        opened = self._opened.get((described.context, described.platform)) if described.context else None
        return StageBase(
            name=described.base,
            platform=described.platform,
            stage=described.base_stage,
            image=image,
            known=not isinstance(opened, Included),
        )

    async def _open_contexts(self, needed: list[NeededStage], open_context: OpenContext | None) -> None:
        """Open what the needed stages use of the named contexts."""
        if open_context is None:
            return
        used: dict[tuple[str, Platform], ins.Instruction] = {}
        for described in needed:
            if described.context:
                used.setdefault((described.context, described.platform), described.stage.base)
            for user, name in self._needs.mentions(described):
                if described.froms[name] is None and (context := self._needs.context(name)):
                    used.setdefault((context, described.platform), user)

        async def one(key: tuple[str, Platform]) -> None:
            try:
                self._opened[key] = found = await open_context(*key)
            except NotFound as error:
                if error.code != DOCUMENT_MISSING:
                    raise
                raise locate(error, self._dockerfile.source, used[key].range, mark=key[0]) from error
            if isinstance(found, Included):
                self._take(found)

        await _all(one(key) for key in used if key not in self._opened)

    def _take(self, included: Included) -> None:
        """Make the steps of another file part of this plan; its stages come before this file's."""
        known = self._included
        self._steps.extend(step for step in included.steps if step.id not in known)
        self._shown.extend((-1, step) for step in included.shown if step.id not in known)
        known.update(step.id for step in (*included.steps, *included.shown))
        self._consumed.update(included.consumed)

    async def _resolve_all(self, needed: list[NeededStage], resolve: ResolveImage) -> None:
        wanted: dict[tuple[Reference, Platform], ins.Instruction] = {}
        for described in needed:
            base = described.stage.base
            if described.on_image and not described.context:
                wanted.setdefault((self._needs.reference(described.base, base), described.platform), base)
            for user, name in self._needs.mentions(described):
                if described.froms[name] is None and name != SCRATCH and not self._needs.context(name):
                    wanted.setdefault((self._needs.reference(name, user), described.platform), user)

        async def one(key: tuple[Reference, Platform], instruction: ins.Instruction) -> None:
            try:
                self._images[key] = await resolve(*key)
            except NotFound as error:
                raise self._missing(key[0], instruction, error) from error
            except (Unavailable, Unauthorized, Forbidden) as error:
                raise self._out_of_reach(key[0], instruction, error) from error

        await _all(one(key, user) for key, user in wanted.items() if key not in self._images)

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

    def _out_of_reach(self, reference: Reference, instruction: ins.Instruction, error: TareError) -> TareError:
        """The error for an image that its registry does not give, in the words of Docker's builder."""
        name = reference.familiar()
        found = locate(error, self._dockerfile.source, instruction.range, mark=name.removesuffix(":latest"))
        found.message = f"{name}: failed to resolve source metadata for {name}: {found.message}"
        return found

    def _interpret(self, described: NeededStage) -> StageOutput:
        stage = described.stage
        base = self._base(described)
        if described.replaced:
            return base
        triggers = base.config.on_build or []
        start = replace(base, config=msgspec.structs.replace(base.config, on_build=None))
        around = Surroundings(
            build_args=self._build_args,
            global_args=self._needs.global_args,
            proxies={name: value for name, value in self._build_args.items() if name in PROXY_ARGS},
            origin=lambda name, place: self._origin(described, name, place),
            consumed=self._consumed.add,
            network=self._request.network,
            allow=self._request.allow,
            escape=self._dockerfile.directives.escape,
        )
        state = StageState(start, around, prefix=f"{self._prefix}{stage.index}")
        for text in triggers:
            trigger = parse_trigger(text, described.base)
            state.apply(trigger, _trigger_source(text, described.base))
        for instruction in stage.instructions:
            state.apply(instruction, self._dockerfile.source)
        self._steps.extend(state.steps)
        self._shown.extend((stage.index, step) for step in state.steps)
        return state.finished()

    def _base(self, described: NeededStage) -> StageOutput:
        stage, name = described.stage, label(described.stage)
        if described.base_stage is not None:
            output = replace(self._outputs[described.base_stage], name=name)
            self._shown_source(described, output.tip)
            return output
        opened = self._opened.get((described.context, described.platform)) if described.context else None
        if isinstance(opened, Included):
            self._shown_source(described, opened.output.tip)
            return replace(opened.output, name=name)
        step_id = f"{self._prefix}{stage.index}.0"
        config, author = ExecutionConfig(env=[defaults.PATH], working_dir="/"), ""
        tree = opened if isinstance(opened, Tree) else None
        image = self._image_of(described)
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
            variables=dict(item.partition("=")[::2] for item in config.env or []),
        )
        return output if tree is None else self._on_tree(described, output, step)

    def _on_tree(self, described: NeededStage, output: StageOutput, source: SourceStep) -> StageOutput:
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

    def _shown_source(self, described: NeededStage, tip: str) -> None:
        """``FROM stage`` is a step to look at, without work of its own."""

        stage = described.stage
        step = ConfigStep(
            id=f"{self._prefix}{stage.index}.0",
            stage=label(stage),
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

    def _origin(self, described: NeededStage, name: str, place: Place) -> str:
        """The step whose files ``--from=name`` means."""
        index = described.froms.get(name)
        if index is not None:
            return self._outputs[index].tip
        step_id = f"{self._prefix}image:{name}:{described.platform}"
        image = None
        if context := self._needs.context(name):
            found = self._opened.get((context, described.platform))
            if isinstance(found, Tree):
                return NAMED + context
            if isinstance(found, Included):
                return found.output.tip
            image = found
        if step_id not in self._image_steps:
            self._image_steps.add(step_id)
            if name != SCRATCH and not context:
                image = self._images.get((Reference.parse(name), described.platform))
                if image is None:
                    hint = "name a stage of the Dockerfile that is built"
                    raise InvalidArgument(f"--from={name} in an ONBUILD trigger is not available", hint=hint)
            step = SourceStep(id=step_id, stage="", text=f"FROM {name}", place=place, reference=name, image=image)
            self._steps.append(step)
        return step_id

    def _numbered(self) -> tuple[PlannedStep, ...]:
        """The steps in the Dockerfile's order with the names that people know."""
        ordered = [step for _, step in sorted(self._shown, key=lambda item: item[0])]
        counts: dict[str, int] = {}
        for step in ordered:
            counts[step.stage] = counts.get(step.stage, 0) + _counts(step)
        seen: dict[str, int] = {}
        single = len(self._dockerfile.stages) == 1 and not self._dockerfile.stages[0].name and not self._included
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


def _trigger_source(text: str, image: str) -> Source:
    return Source(f"ONBUILD trigger of {image}", tuple(text.split("\n")))
