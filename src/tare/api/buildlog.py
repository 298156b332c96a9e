"""Build events in the words of Docker's classic builder.

That builder ran one step after another; here stages run side by side. The log keeps the Dockerfile's order: the first
unfinished step is shown live, what later steps say is kept back until it is their turn.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass, field
from typing import Any

from tare.api.jsonstream import Report, error_message
from tare.build.checks.findings import Finding
from tare.build.events import (
    BuildEvent,
    BuildFinished,
    Notice,
    PlanMade,
    PlannedStep,
    StepExplained,
    VertexDone,
    VertexFailed,
    VertexOutput,
    VertexStarted,
)
from tare.build.failures import BuildStepFailed
from tare.engine.progress import StatusLines, transfer_message
from tare.errors import TareError

SHORT_ID = 12


@dataclass(slots=True)
class _Step:
    plan: PlannedStep
    kept: list[str] = field(default_factory=list)
    done: bool = False
    decoders: dict[str, codecs.IncrementalDecoder] = field(default_factory=dict)


class ClassicLog:
    """Turns events into stream messages, given to ``report``."""

    def __init__(self, report: Report, *, quiet: bool = False) -> None:
        self._report = report
        self._status = StatusLines(report)
        self._quiet = quiet
        self._steps: dict[str, _Step] = {}
        self._waiting: list[_Step] = []

    def observe(self, event: BuildEvent) -> None:
        """Take the next event."""
        match event:
            case PlanMade(vertices=vertices):
                self._steps = {plan.id: _Step(plan) for plan in vertices}
                self._waiting = list(self._steps.values())
            case VertexStarted(id=name):
                if step := self._steps.get(name):
                    self._say(step, f"Step {step.plan.index}/{step.plan.total} : {step.plan.text}\n")
            case VertexOutput():
                self._output(event)
            case VertexDone():
                self._done(event)
            case VertexFailed(id=name):
                if step := self._steps.get(name):
                    self._fail(step)
            case StepExplained():
                pass  # Docker's clients have no place for it
            case Notice() as notice:
                self._notice(notice)
            case Finding():
                self._emit(f"[Warning] {event.short}\n")
            case BuildFinished():
                self._finished(event)

    def _output(self, event: VertexOutput) -> None:
        step = self._steps.get(event.id)
        if step is None:
            return
        # A character may be cut in two by the pipe's chunks.
        decoder = step.decoders.setdefault(event.stream, codecs.getincrementaldecoder("utf-8")(errors="replace"))
        if text := decoder.decode(event.data):
            self._say(step, text)

    def _done(self, event: VertexDone) -> None:
        step = self._steps.get(event.id)
        if step is None:
            return
        if event.cached:
            self._say(step, " ---> Using cache\n")
        if event.result:
            self._say(step, f" ---> {_short(event.result)}\n")
        step.done = True
        self._advance()

    def _fail(self, step: _Step) -> None:
        # Nothing may hide what went wrong: the failed step's text comes out of turn.
        if self._waiting and self._waiting[0] is not step:
            for text in step.kept:
                self._emit(text)
            step.kept.clear()

    def _notice(self, notice: Notice) -> None:
        text, name = notice.text, notice.id
        step = self._steps.get(name)
        if step is not None and not step.done:
            self._say(step, f"{text}\n")
        elif self._quiet:
            return
        elif name:  # about an image that is being fetched: a progress line of its own, as pulls have it
            if notice.total:
                self._report(transfer_message(name, text, notice.current, notice.total))
            else:
                self._status(name, text)
        else:
            self._emit(f"{text}\n")

    def _finished(self, event: BuildFinished) -> None:
        self._report({"aux": {"ID": str(event.image_id)}})
        if self._quiet:
            self._report({"stream": f"{event.image_id}\n"})
            return
        self._emit(f"Successfully built {_short(str(event.image_id))}\n")
        for tag in event.tags:
            self._emit(f"Successfully tagged {tag}\n")

    def _say(self, step: _Step, text: str) -> None:
        if self._waiting and self._waiting[0] is step:
            self._emit(text)
        else:
            step.kept.append(text)

    def _advance(self) -> None:
        while self._waiting:
            step = self._waiting[0]
            for text in step.kept:
                self._emit(text)
            step.kept.clear()
            if not step.done:
                return
            self._waiting.pop(0)

    def _emit(self, text: str) -> None:
        if not self._quiet:
            self._report({"stream": text})


def _short(identifier: str) -> str:
    return identifier.removeprefix("sha256:")[:SHORT_ID]


def build_error(error: TareError) -> dict[str, Any]:
    """A failed build's last message; for a failed command with its exit code, which becomes the client's."""
    if not isinstance(error, BuildStepFailed):
        return error_message(error)
    text = f"The command '{' '.join(error.argv)}' returned a non-zero code: {error.exit_code}\n{error.place}"
    return {"errorDetail": {"code": error.exit_code, "message": text}, "error": text}
