"""What would run: walks a plan as the solver does, with the keys and the cache, but runs nothing.

Keys need no output of the steps before, except where files of a stage are copied or mounted. So most verdicts are
certain; a step whose key hangs on output that is yet to come ``depends``, and its cause names the step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tare.build.cache import Key, Part, Result, make_key
from tare.build.causes import Cause
from tare.build.events import BuildEvent, StepExplained
from tare.build.explain import Explainer
from tare.build.graph import CopyStep, Plan, RunStep, SourceStep, Step
from tare.build.keys import step_key
from tare.build.ops.copy import find_copy
from tare.build.ops.downloads import Download, find_downloads
from tare.build.ops.operation import Inputs, Settings
from tare.build.ops.select import Tree
from tare.build.ops.workbench import Workbench
from tare.build.request import ForecastLine
from tare.build.solver import look_up

Verdict = Literal["run", "cached", "depends"]
_OF_INPUTS = ("parent", "content", "downloads", "mount_contents")


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is known of a step beforehand: its key and result where they are, and the steps whose output decides."""

    verdict: Verdict
    key: str | None
    result: Result | None
    open: tuple[str, ...] = ()
    causes: tuple[Cause, ...] = ()


@dataclass(slots=True, kw_only=True)
class Forecaster:
    """Looks ahead in one plan once; the members are those of :class:`tare.build.solver.Solver`."""

    bench: Workbench
    plan: Plan
    context: Tree | None
    settings: Settings
    observe: Callable[[BuildEvent], None]
    lease: str
    explainer: Explainer
    anew: frozenset[str] = frozenset()
    _known: dict[str, Outlook] = field(default_factory=dict)
    _running: dict[str, str] = field(default_factory=dict)
    _shapes: set[str] | None = None
    _layers: set[tuple[str, str]] | None = None

    async def forecast(self) -> Mapping[str, Outlook]:
        """The outlook of every step, by id; each shown one is told as it is found. Raises what the solver would."""
        shown = {step.id for step in self.plan.shown}
        for step in self.plan.steps:
            outlook = self._known[step.id] = await self._look(step)
            if step.id in shown and (step.layered or isinstance(step, SourceStep)):
                self.observe(StepExplained(step.id, outlook.verdict, outlook.causes))
        return self._known

    async def _look(self, step: Step) -> Outlook:
        if isinstance(step, SourceStep):
            diff_ids = step.image.diff_ids if step.image else ()
            chain = tuple(Part(kind="layer", key=str(diff_id)) for diff_id in diff_ids)
            return Outlook("cached", make_key(step.definition()).digest, Result(chain=chain))
        assert step.parent is not None
        parent = self._known[step.parent]
        if not step.layered:
            return parent
        if isinstance(step, CopyStep):
            return await self._work(step, parent, await find_downloads(step, self.bench.sources, self.settings))
        return await self._work(step, parent, [])

    async def _work(self, step: Step, parent: Outlook, downloads: list[Download]) -> Outlook:
        unknown = [name for name in self._origins(step) if self._known[name].result is None]
        if unknown or parent.key is None:
            return await self._open(step, parent, unknown)
        inputs = self._inputs(step, parent)
        key = await step_key(step, parent.key, inputs, downloads)
        if (same := self._running.get(key.digest)) is not None:
            cause = Cause("parent", same, f"the same step as {same}, which runs once for both")
            return Outlook("cached", key.digest, None, causes=(cause,))
        if step.id in self.anew:
            return self._run(step, key, self.explainer.forced(step))
        base = parent.result if parent.result is not None else Result()
        known = await look_up(step, key, base, self.bench)
        if known is not None:
            await self.bench.protect(self.lease, known.chain)
            whole = parent.result is not None or isinstance(step, RunStep)
            return Outlook("cached", key.digest, known if whole else None)
        if isinstance(step, CopyStep):
            return await self._copy(step, parent, key, inputs, downloads)
        return self._run(step, key, await asyncio.to_thread(self.explainer.missed, step, key))

    def _run(self, step: Step, key: Key, causes: tuple[Cause, ...]) -> Outlook:
        self._running.setdefault(key.digest, self.explainer.name(step))
        return Outlook("run", key.digest, None, causes=causes)

    async def _copy(
        self, step: CopyStep, parent: Outlook, key: Key, inputs: Inputs, downloads: list[Download]
    ) -> Outlook:
        """A copy whose key is new: its layer may be there all the same, if it lands as it did before."""
        content = str(key.fields.get("content", ""))
        if (make_key(step.definition()).digest, content) in await self._all_layers():
            if parent.result is None:
                below = self.explainer.below(step).name
                text = f"its layer is kept if the directories that it lands in come out of {below} as they were"
                return Outlook("depends", key.digest, None, causes=(Cause("landing", below, text),))
            made = await find_copy(step, inputs, downloads, content)
            if made is not None:
                chain = (*parent.result.chain, made.part)
                return Outlook("cached", key.digest, Result(part=made.part, chain=chain, bytes=made.bytes))
        return self._run(step, key, await asyncio.to_thread(self.explainer.missed, step, key))

    async def _open(self, step: Step, parent: Outlook, unknown: list[str]) -> Outlook:
        """A step whose key is not known yet: it runs for sure where nothing like it has ever run."""
        if step.id in self.anew:
            return Outlook("run", None, None, causes=self.explainer.forced(step))
        waits = tuple(dict.fromkeys([*self._deciding(unknown), *parent.open]))
        names = [self.explainer.name(self.plan.by_id[name]) for name in waits]
        causes = tuple(Cause("output", name, f"it runs if the output of {name} changes") for name in names)
        if make_key(step.definition()).digest not in await self._all_shapes():
            return Outlook("run", None, None, open=waits, causes=(Cause("new", step.text, "it never ran like this"),))
        return Outlook("depends", None, None, open=waits, causes=causes)

    def _deciding(self, unknown: list[str]) -> list[str]:
        """The steps that make the output which is not known."""
        found: list[str] = []
        for name in unknown:
            outlook = self._known[name]
            step = self.plan.by_id[name]
            while not step.layered and step.parent is not None:
                step = self.plan.by_id[step.parent]
            found += outlook.open or [step.id]
        return found

    def _origins(self, step: Step) -> list[str]:
        """The steps whose files the step is given."""
        return [name for name in step.inputs if name != step.parent or self._is_origin(step, name)]

    @staticmethod
    def _is_origin(step: Step, name: str) -> bool:
        if isinstance(step, CopyStep):
            return step.origin == name
        return isinstance(step, RunStep) and any(mount.has_origin and mount.origin == name for mount in step.mounts)

    def _inputs(self, step: Step, parent: Outlook) -> Inputs:
        results = {name: self._known[name].result for name in step.inputs}
        return Inputs(
            bench=self.bench,
            parent=parent.result.chain if parent.result is not None else (),
            origins={name: result for name, result in results.items() if result is not None},
            context=self.context,
            settings=self.settings,
            emit=lambda _stream, _data: None,
            lease=self.lease,
        )

    async def _all_shapes(self) -> set[str]:
        """Every kind of step in the cache, whatever its inputs were."""
        if self._shapes is None:
            records = await self.bench.cache.fields("definition")
            shapes = await asyncio.to_thread(lambda: {_shape(record) for record in records})
            self._shapes = shapes | {shape for shape, _ in await self._all_layers()}
        return self._shapes

    async def _all_layers(self) -> set[tuple[str, str]]:
        """Shape and content key of every copied layer in the cache."""
        if self._layers is None:
            records = await self.bench.cache.fields("content")
            layers = [record for record in records if record.get("op") == "layer"]
            self._layers = {(str(record.get("shape")), str(record.get("content"))) for record in layers}
        return self._layers


def _shape(fields: Mapping[str, Any]) -> str:
    """The key of what a step does, without what it stands on and is given."""
    return make_key({name: value for name, value in fields.items() if name not in _OF_INPUTS}).digest


def forecast_lines(plan: Plan, outlooks: Mapping[str, Outlook]) -> tuple[ForecastLine, ...]:
    """What to show, in the Dockerfile's order: images and steps that make layers."""
    lines = []
    for shown in plan.shown:
        step, outlook = plan.by_id[shown.id], outlooks[shown.id]
        if step.layered or isinstance(step, SourceStep):
            lines.append(
                ForecastLine(
                    id=step.id,
                    stage=step.stage,
                    name=shown.name,
                    text=shown.text,
                    line=step.place.range.first_line,
                    verdict=outlook.verdict,
                    causes=outlook.causes,
                )
            )
    return tuple(lines)
