"""Which stages a target needs, what each starts from, and what its ``--from`` values mean."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from tare.build.assembly.names import is_document
from tare.build.dockerfile import instructions as ins
from tare.build.dockerfile.expansion import expand
from tare.build.dockerfile.platform_args import PLATFORM_ARGS, global_args
from tare.build.dockerfile.stages import Dockerfile, Stage, parse_trigger
from tare.build.named import context_names, lookup_name
from tare.build.request import BuildRequest
from tare.errors import InvalidArgument, NotFound, TareError
from tare.model import Platform, Reference

SCRATCH = "scratch"

Triggers = Callable[["NeededStage"], list[str]]
"""The ONBUILD triggers of the image that a stage starts from."""


@dataclass(slots=True)
class NeededStage:
    """A stage with its variables put in. ``after`` are stages it needs, ``froms`` what its ``--from`` values mean.

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
        """The indexes of the stages that must be read before."""
        found = [self.base_stage] if self.base_stage is not None else []
        return found + [index for index in self.froms.values() if index is not None]

    @property
    def on_image(self) -> bool:
        """Whether it starts from an image: neither a stage nor nothing."""
        return self.base_stage is None and (bool(self.context) or self.base != SCRATCH)


class Needs:
    """Looks a Dockerfile's stages up for one request; ``consumed`` is told which build arguments were used.

    Without ``contexts`` the named contexts of the request are taken as not given. Names that ``own`` accepts are opened
    like named contexts.
    """

    def __init__(
        self,
        dockerfile: Dockerfile,
        request: BuildRequest,
        consumed: Callable[[str], None],
        *,
        contexts: bool,
        own: Callable[[str], bool] = is_document,
    ) -> None:
        self._dockerfile = dockerfile
        self._request = request
        self._consumed = consumed
        self._own = own
        self._platform = request.platform or Platform.host()
        self._names = context_names(request.contexts) if contexts else {}
        self._build_args = {name: value for name, value in request.build_args.items() if value is not None}
        self._later: list[TareError] = []
        self._triggers: dict[int, list[str]] = {}
        self.global_args: Mapping[str, str] = self._global_scope()

    def target(self, name: str = "") -> Stage:
        """The stage that is built, or the one called ``name``. Raises NotFound."""
        name = name or self._request.target
        if not name:
            return self._dockerfile.stages[-1]
        stage = self._dockerfile.stage(name)
        if stage is None:
            names = ", ".join(stage.name or str(stage.index) for stage in self._dockerfile.stages)
            raise NotFound(
                f'target stage "{name}" could not be found',
                hint=f"stages are {names}",
                code="no-target",
            )
        return stage

    def of(self, *targets: Stage) -> list[NeededStage]:
        """The stages that ``targets`` need, themselves included; what a stage needs comes before it.

        Raises DockerfileError for a cycle, a stage that comes later, and what FROM has wrong.
        """
        self._later.clear()
        ordered: dict[int, NeededStage] = {}
        for target in targets:
            if target.index not in ordered:
                self._add(target, ordered)
        if self._later:
            raise self._later[0]
        return list(ordered.values())

    def _add(self, target: Stage, ordered: dict[int, NeededStage]) -> None:
        active: list[int] = []
        known: dict[int, tuple[NeededStage, Iterator[int]]] = {}

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
            elif following not in known and following not in ordered:
                enter(following)
            elif following not in ordered:
                self._refuse_cycle(described, active[active.index(following) :])

    def mentions(self, needed: NeededStage) -> Iterator[tuple[ins.Instruction, str]]:
        """What the stage's instructions, and the triggers of its base as far as they are known, have in ``--from``.

        The instruction is the one whose lines errors show.
        """
        if needed.replaced:
            return
        stage = needed.stage
        texts = self._triggers.get(stage.index, [])
        if needed.base_stage is not None:
            earlier = self._dockerfile.stages[needed.base_stage].instructions
            texts = [item.expression for item in earlier if isinstance(item, ins.Onbuild)]
        for text in texts:
            for name in _from_names(parse_trigger(text, needed.base)):
                yield stage.base, name
        for instruction in stage.instructions:
            for name in _from_names(instruction):
                yield instruction, name

    def take_triggers(self, needed: list[NeededStage], triggers: Triggers) -> bool:
        """Note the triggers of the images that are known now; whether they name stages or images."""
        found = False
        for described in needed:
            index = described.stage.index
            if described.on_image and not described.replaced and index not in self._triggers:
                texts = self._triggers[index] = triggers(described)
                found |= any(_from_names(parse_trigger(text, described.base)) for text in texts)
        return found

    def context(self, name: str) -> str:
        """The named context that ``name`` means, as it was given; empty for none."""
        if self._own(name):
            return name
        key = lookup_name(name) if name and self._names else None
        return self._names.get(key, "") if key is not None else ""

    def reference(self, text: str, instruction: ins.Instruction) -> Reference:
        """``text`` as an image's name. Raises DockerfileError at ``instruction``."""
        try:
            return Reference.parse(text)
        except InvalidArgument as error:
            hint = "it is neither a stage of this Dockerfile nor an image name"
            raise self._error(
                f"failed to parse stage name {text!r}: {error.message}", instruction, text, hint
            ) from error

    def _global_scope(self) -> dict[str, str]:
        known = global_args(Platform.host(), self._platform, self.target().name)
        for name in PLATFORM_ARGS:
            if name in self._build_args:
                known[name] = self._build_args[name]
                self._consumed(name)
        for instruction in self._dockerfile.global_args:
            for name, default in instruction.args:
                if name in self._build_args:
                    known[name] = self._build_args[name]
                    self._consumed(name)
                elif default is not None:
                    known[name] = self._expand(default, instruction, known)
        return known

    def _expand(self, text: str, instruction: ins.Instruction, known: Mapping[str, str]) -> str:
        try:
            return expand(text, known, self._dockerfile.directives.escape)
        except TareError as error:
            source = self._dockerfile.source
            raise source.error(error.message, instruction.range, mark=text, hint=error.hint) from error

    def _describe(self, stage: Stage) -> NeededStage:
        base = self._expand(stage.base.image, stage.base, self.global_args)
        if context := self.context(stage.name):
            return NeededStage(stage, base, None, self._platform_of(stage), context=context, replaced=True)
        if not base:
            raise self._error(f"base name ({stage.base.image}) should not be blank", stage.base, stage.base.image)
        earlier = self._dockerfile.stage(base, before=stage.index)
        if earlier is not None and base.isdecimal():
            earlier = None  # FROM takes names only
        context = self.context(base) if earlier is None else ""
        described = NeededStage(stage, base, earlier.index if earlier else None, self._platform_of(stage), context)
        for user, name in self.mentions(described):
            described.froms[name] = self._find_from(name, user, stage)
        return described

    def _platform_of(self, stage: Stage) -> Platform:
        if not stage.base.platform:
            return self._platform
        text = self._expand(stage.base.platform, stage.base, self.global_args)
        if not text:
            cause = f"empty platform value from expression {stage.base.platform}"
            raise self._error(cause, stage.base, stage.base.platform, hint="declare the ARG above the first FROM")
        try:
            return Platform.parse(text)
        except InvalidArgument as error:
            raise self._error(error.message, stage.base, stage.base.platform) from error

    def _find_from(self, name: str, instruction: ins.Instruction, user: Stage) -> int | None:
        """The stage that ``--from=name`` in ``user`` means; None for an image.

        One that comes later is an error, reported once it is known that there is no cycle.
        """
        stage = self._dockerfile.stage(name)
        if stage is not None and stage.index > user.index:
            cause = f'cannot copy from stage "{name}", it needs to be defined before current stage "{label(user)}"'
            self._later.append(self._error(cause, instruction, name, hint="move that stage up"))
        if stage is not None:
            return stage.index
        if name.isdecimal():
            last = len(self._dockerfile.stages) - 1
            hint = f"stages are 0 to {last}"
            raise self._error(f"invalid from flag value {name}: there is no such stage", instruction, name, hint=hint)
        return None

    def _refuse_cycle(self, last: NeededStage, circle: list[int]) -> None:
        """Raise for stages of which each needs the next and ``last`` the first."""
        names = [label(self._dockerfile.stages[index]) for index in (*circle, circle[0])]
        wanted = {name for name, index in last.froms.items() if index == circle[0]}
        users = [user for user, name in self.mentions(last) if name in wanted]
        place = last.stage.base if last.base_stage == circle[0] or not users else users[0]
        raise self._dockerfile.source.error(
            f"circular dependency detected on stage: {names[0]} ({' needs '.join(names)})",
            place.range,
            hint="a stage can only take from stages that do not take from it",
            code="stage-cycle",
        )

    def _error(self, message: str, instruction: ins.Instruction, mark: str = "", hint: str = "") -> TareError:
        return self._dockerfile.source.error(message, instruction.range, mark=mark, hint=hint)


def label(stage: Stage) -> str:
    """What a stage is called: its name, else ``stage-`` and its number."""
    return stage.name or f"stage-{stage.index}"


def _from_names(instruction: ins.Instruction) -> list[str]:
    if isinstance(instruction, ins.Copy):
        return [instruction.from_] if instruction.from_ else []
    if isinstance(instruction, ins.Run):
        return [mount.from_ for mount in instruction.mounts if mount.from_]
    return []
