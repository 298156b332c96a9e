"""Works a plan: steps run as soon as their inputs are there, what is known is not run again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import msgspec

from tare.base.shielding import finish, to_end
from tare.base.single_flight import SingleFlight
from tare.build.cache import Key, Part, Result, make_key
from tare.build.events import (
    BuildEvent,
    PlannedStep,
    StepExplained,
    VertexDone,
    VertexFailed,
    VertexOutput,
    VertexStarted,
)
from tare.build.explain import Explainer
from tare.build.failures import BuildStepFailed
from tare.build.graph import ConfigStep, CopyStep, Plan, RunStep, SourceStep, Step, WorkdirStep
from tare.build.keys import step_key
from tare.build.ops.copy import make_copy
from tare.build.ops.downloads import Download, find_downloads
from tare.build.ops.operation import Inputs, Made, Settings, located
from tare.build.ops.run import make_run
from tare.build.ops.select import Tree
from tare.build.ops.workbench import Workbench
from tare.build.ops.workdir import make_workdir
from tare.errors import InternalError, InvalidArgument, NotFound, TareError
from tare.model import short_id


@dataclass(frozen=True, slots=True)
class Solved:
    """A step's outcome: its key, what it made, whether it was known already."""

    key: str
    result: Result
    cached: bool


Work = tuple[Result, bool]
"""What a step's work gives, and whether its layer was found rather than made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What concurrent builds have in common: one flight per cache key, the number of steps that work at once."""

    flights: SingleFlight[Work] = field(default_factory=SingleFlight)
    running: dict[str, asyncio.Task[Any]] = field(default_factory=dict)
    slots: asyncio.Semaphore

    async def run(self, key: str, work: Callable[[], Awaitable[Work]]) -> Work:
        """The outcome of ``work``, run once for all callers with one key.

        When the last caller is cancelled, so is the work, and the caller waits until it has cleaned up.
        """

        async def registered() -> Work:
            task = asyncio.current_task()
            assert task is not None
            self.running[key] = task
            try:
                return await work()
            finally:
                if self.running.get(key) is task:
                    del self.running[key]

        while True:
            try:
                return await self.flights.do(key, registered)
            except asyncio.CancelledError:
                task, own = self.running.get(key), asyncio.current_task()
                if task is not None and task.cancelling():
                    await finish(asyncio.wait([task]), what=f"step {key[:19]}")
                if own is None or own.cancelling():
                    raise
                # the work that was joined was just being cancelled for somebody else: start it anew


class _InputFailed(Exception):
    """A step cannot start since one before it failed; the failure itself is reported."""


@dataclass(slots=True, kw_only=True)
class Solver:
    """Works one plan once; ``lease`` holds what the build has seen until it ends.

    ``anew`` are the steps that are not looked up in the cache. With an ``explainer`` each step that runs is explained.
    ``keys`` has the keys of all steps that make layers, by step id, once the plan is worked.
    """

    bench: Workbench
    shared: Shared
    plan: Plan
    context: Tree | None
    settings: Settings
    observe: Callable[[BuildEvent], None]
    lease: str
    anew: frozenset[str] = frozenset()
    explainer: Explainer | None = None
    keys: dict[str, Key] = field(default_factory=dict)
    _tasks: dict[str, asyncio.Task[Solved]] = field(default_factory=dict)
    _fresh: set[str] = field(default_factory=set)
    _claimed: set[str] = field(default_factory=set)
    _shown: dict[str, PlannedStep] = field(default_factory=dict)
    _begun: dict[str, float] = field(default_factory=dict)

    async def solve(self) -> dict[str, Solved]:
        """All steps' outcomes by id. Raises the first failure; the other steps are cancelled and cleaned up then."""
        shown = {step.id: step for step in self.plan.shown}
        try:
            async with asyncio.TaskGroup() as group:
                for step in self.plan.steps:
                    inputs = [self._tasks[name] for name in dict.fromkeys(step.inputs)]
                    self._tasks[step.id] = group.create_task(self._step(step, inputs, shown.get(step.id)))
        except BaseExceptionGroup as errors:
            raise _first(errors) from errors
        solved = {name: task.result() for name, task in self._tasks.items()}
        await self.bench.cache.touch(outcome.key for outcome in solved.values() if outcome.cached)
        return solved

    async def _step(self, step: Step, inputs: list[asyncio.Task[Solved]], shown: PlannedStep | None) -> Solved:
        if inputs:
            await asyncio.wait(inputs)
            if any(task.cancelled() or task.exception() is not None for task in inputs):
                raise _InputFailed
        if shown is not None:
            self._shown[step.id] = shown
        if not isinstance(step, RunStep):  # a command begins when it has a slot
            self._begin(step)
        try:
            solved = await self._solve(step)
        except Exception as error:
            self._begin(step)
            if shown is not None:
                self.observe(VertexFailed(step.id, shown.index, str(error)))
            raise
        self._begin(step)
        if shown is not None:
            self._report(step, shown, solved, time.monotonic() - self._begun[step.id])
        return solved

    def _begin(self, step: Step) -> None:
        """Tell, once, that the step is at work."""
        if step.id in self._begun:
            return
        self._begun[step.id] = time.monotonic()
        if (shown := self._shown.get(step.id)) is not None:
            self.observe(VertexStarted(step.id, shown.name, step.stage, shown.index))

    def _report(self, step: Step, shown: PlannedStep, solved: Solved, seconds: float) -> None:
        size = solved.result.bytes if step.layered else 0
        name = str(step.image.id) if isinstance(step, SourceStep) and step.image else solved.key
        self.observe(
            VertexDone(step.id, shown.index, cached=solved.cached, seconds=seconds, bytes=size, result=short_id(name))
        )

    async def _solve(self, step: Step) -> Solved:
        match step:
            case SourceStep():
                return self._source(step)
            case ConfigStep():
                parent = self._parent(step)
                return Solved(parent.key, parent.result, cached=parent.cached)
            case CopyStep():
                return await self._work(step, await find_downloads(step, self.bench.sources, self.settings))
            case _:
                return await self._work(step, [])

    def _source(self, step: SourceStep) -> Solved:
        diff_ids = step.image.diff_ids if step.image else ()
        chain = tuple(Part(kind="layer", key=str(diff_id)) for diff_id in diff_ids)
        return Solved(make_key(step.definition()).digest, Result(chain=chain), cached=True)

    def _parent(self, step: Step) -> Solved:
        assert step.parent is not None
        return self._tasks[step.parent].result()

    async def _work(self, step: Step, downloads: list[Download]) -> Solved:
        parent = self._parent(step)
        origins = {name: self._tasks[name].result().result for name in step.inputs}
        inputs = self._inputs(step, parent.result, origins)
        key = self.keys[step.id] = await step_key(step, parent.key, inputs, downloads)
        if step.id not in self.anew or key.digest in self._fresh:
            known = await look_up(step, key, parent.result, self.bench)
            if known is not None:
                await self.bench.protect(self.lease, known.chain)
                return Solved(key.digest, known, cached=True)
        joined = key.digest in self._claimed  # an equal step of this build is at it
        self._claimed.add(key.digest)
        if key.digest in self.shared.running:
            self._begin(step)
        begins = isinstance(step, RunStep)  # of others it shows at the end whether the layer was there already
        if begins and not joined:
            await self._explain(step, key)
        result, found = await self.shared.run(key.digest, lambda: self._make(step, key, inputs, downloads))
        if not (begins or found or joined):
            await self._explain(step, key)
        self._fresh.add(key.digest)
        await self.bench.protect(self.lease, result.chain)
        return Solved(key.digest, result, cached=found or joined)

    async def _explain(self, step: Step, key: Key) -> None:
        if self.explainer is None:
            return
        if step.id in self.anew:
            causes = self.explainer.forced(step)
        else:
            causes = await asyncio.to_thread(self.explainer.missed, step, key)
        self.observe(StepExplained(step.id, "run", causes))

    def _inputs(self, step: Step, parent: Result, origins: dict[str, Result]) -> Inputs:
        def emit(stream: Literal["stdout", "stderr"], data: bytes) -> None:
            self.observe(VertexOutput(step.id, stream, data))

        return Inputs(
            bench=self.bench,
            parent=parent.chain,
            origins=origins,
            context=self.context,
            settings=self.settings,
            emit=emit,
            lease=self.lease,
            reuse=step.id not in self.anew,
        )

    async def _make(self, step: Step, key: Key, inputs: Inputs, downloads: list[Download]) -> Work:
        """Do the work; runs once however many builds wait for it, so it holds a lease of its own."""
        async with self.shared.slots, self.bench.store.leases.hold() as lease:
            self._begin(step)
            await self.bench.protect(lease, inputs.parent)
            for origin in inputs.origins.values():
                await self.bench.protect(lease, origin.chain)
            own = replace(inputs, lease=lease)
            made = await self._made(step, key, own, downloads)
            found = made.created is not None
            created = float(int(time.time())) if made.created is None else made.created
            chain = (*inputs.parent, made.part)
            result = Result(part=made.part, chain=chain, bytes=made.bytes, hidden=made.hidden, created=created)
            await to_end(self.bench.cache.put(key, result))
            return result, found

    async def _made(self, step: Step, key: Key, inputs: Inputs, downloads: list[Download]) -> Made:
        match step:
            case RunStep():
                return await _run(step, inputs, key.digest)
            case CopyStep():
                return await make_copy(step, inputs, downloads, key.fields.get("content", ""))
            case WorkdirStep():
                return await make_workdir(step, inputs)
            case _:
                raise InternalError(f"no operation for {type(step).__name__}")


async def look_up(step: Step, key: Key, parent: Result, bench: Workbench) -> Result | None:
    """What the cache has under ``key``, standing on ``parent``."""
    known = await bench.cache.find(key)
    if known is None or known.part is None:
        return None
    if isinstance(step, RunStep):
        return known
    # A layer stands on its own: it is stacked on the parent of this build.
    return msgspec.structs.replace(known, chain=(*parent.chain, known.part))


async def _run(step: RunStep, inputs: Inputs, key: str) -> Made:
    try:
        return await make_run(step, inputs, key=key)
    except BuildStepFailed:
        raise
    except (InvalidArgument, NotFound) as error:
        raise located(error, step.place) from error


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The failure to report: the first one that is not only the consequence of another."""
    found: list[BaseException] = []
    for error in errors.exceptions:
        found.append(_first(error) if isinstance(error, BaseExceptionGroup) else error)
    for error in found:
        if isinstance(error, TareError):
            return error
    for error in found:
        if not isinstance(error, _InputFailed):
            return error
    return found[0]
