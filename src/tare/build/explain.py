"""Says of a plan's steps why they run: finds each step's predecessor in the last build, and compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tare.build.cache import Key
from tare.build.causes import Cause
from tare.build.graph import Plan, SourceStep, Step
from tare.build.history import PastStep, Steps
from tare.build.ops.manifests import Manifests
from tare.build.reasons import Below, compare, counterparts


class Explainer:
    """Explains one plan with what was built last; ``past`` is empty where nothing was."""

    def __init__(self, plan: Plan, past: Steps, manifests: Manifests) -> None:
        self._plan = plan
        self._past = past
        self._manifests = manifests
        self._names = {shown.id: shown.name for shown in plan.shown}
        self._predecessors: dict[str, PastStep] = {}
        for stage, steps in _by_stage(plan).items():
            now = [(str(step.definition()["op"]), step.text) for step in steps]
            for step, found in zip(steps, counterparts(now, past.get(stage, ())), strict=True):
                if found is not None:
                    self._predecessors[step.id] = found

    def missed(self, step: Step, key: Key) -> tuple[Cause, ...]:
        """Why ``step`` runs although caching is on. Blocks: it may read manifests."""
        past = self._predecessors.get(step.id)
        if past is None:
            return (self._unknown(step),)
        if past.key == key.digest:
            return (Cause("removed", step.text, "its result is no longer in the cache"),)
        return tuple(compare(step, key.fields, past, self.below(step), self._manifests.load))

    def forced(self, step: Step) -> tuple[Cause, ...]:
        """Why ``step`` runs where the request turned caching off."""
        return (Cause("no-cache", step.stage, "caching is turned off for it (--no-cache, --no-cache-filter)"),)

    def below(self, step: Step) -> Below:
        """What ``step`` stands on."""
        under = ground(self._plan, step)
        if under is None:
            return Below("nothing")
        return Below(self.name(under), under.reference if isinstance(under, SourceStep) else "")

    def name(self, step: Step) -> str:
        """The step's name as people see it."""
        return self._names.get(step.id, step.text)

    def _unknown(self, step: Step) -> Cause:
        if not self._past:
            return Cause("new", step.text, "this Dockerfile was not built with this context before")
        if step.stage not in self._past:
            return Cause("new", step.text, f"stage {step.stage} was not built before")
        return Cause("new", step.text, "the instruction is new")


def _by_stage(plan: Plan) -> Mapping[str, Sequence[Step]]:
    stages: dict[str, list[Step]] = {}
    for step in plan.steps:
        if step.layered:
            stages.setdefault(step.stage, []).append(step)
    return stages


def ground(plan: Plan, step: Step) -> Step | None:
    """The step whose files ``step`` stands on: one that makes a layer, or an image."""
    name = step.parent
    while name is not None:
        under = plan.by_id[name]
        if under.layered or isinstance(under, SourceStep):
            return under
        name = under.parent
    return None


def past_steps(plan: Plan, keys: Mapping[str, Key]) -> Steps:
    """The plan's steps as the history keeps them; ``keys`` by step id."""
    stages = _by_stage(plan).items()
    return {stage: tuple(_past(plan, step, keys[step.id]) for step in steps) for stage, steps in stages}


def _past(plan: Plan, step: Step, key: Key) -> PastStep:
    under = ground(plan, step)
    return PastStep(
        op=str(key.fields["op"]),
        text=step.text,
        key=key.digest,
        fields=dict(key.fields),
        variables=dict(step.variables),
        base=under.reference if isinstance(under, SourceStep) else "",
    )
