"""What is known about the steps of a build, put together from its events."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field
from typing import Any

TAIL_LINES = 5  # output lines that are kept of a step
_LINE_LIMIT = 400  # characters kept of an output line
_PREFIX = re.compile(r"\[(?P<stage>.*?) ?(?P<number>\d+/\d+)?\] (?P<text>.*)", re.DOTALL)

Event = dict[str, Any]


@dataclass(slots=True)
class Step:
    """One step; ``state`` is ``waiting``, ``running``, ``done``, ``cached``, ``failed`` or ``canceled``.

    ``started`` and ``seconds`` are seconds (of the monotonic clock), ``size`` is in bytes, ``note`` the last thing that
    was said about it, ``tail`` its last output lines.
    """

    name: str
    stage: str
    state: str = "waiting"
    started: float = 0.0
    seconds: float = 0.0
    size: int = 0
    note: str = ""
    partial: str = ""
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))

    @property
    def label(self) -> str:
        """The name on one line, without its stage's: ``2/5 RUN make``."""
        match = _PREFIX.fullmatch(self.name)
        text = f"{match['number'] or ''} {match['text']}" if match else self.name
        return " ".join(text.split())

    def add_output(self, data: str) -> None:
        """Take in output; a carriage return begins the line anew, as progress bars want it."""
        *lines, self.partial = (self.partial + data).split("\n")
        self.partial = self.partial[-_LINE_LIMIT:]
        self.tail.extend(shown for line in lines if (shown := _last_state(line)).strip())

    @property
    def last_lines(self) -> list[str]:
        """The last output lines, the unfinished one among them."""
        rest = _last_state(self.partial)
        return [*self.tail, *([rest] if rest.strip() else [])][-TAIL_LINES:]


@dataclass(slots=True)
class Stage:
    """A stage with its steps, in the Dockerfile's order."""

    name: str
    steps: list[Step] = field(default_factory=list)

    @property
    def state(self) -> str:
        """``failed`` before ``running`` before ``canceled``; ``done`` and ``waiting`` where all steps are."""
        states = {step.state for step in self.steps}
        for state in ("failed", "running", "canceled"):
            if state in states:
                return state
        if states <= {"done", "cached"}:
            return "done"
        return "waiting" if states == {"waiting"} else "running"


class Board:
    """All steps of a build."""

    def __init__(self) -> None:
        self.steps: dict[str, Step] = {}
        self.stages: dict[str, Stage] = {}

    def take(self, event: Event, now: float) -> None:
        """Take in one event that came at ``now``."""
        match str(event["event"]):
            case "plan":
                for planned in event["vertices"]:
                    self._add(planned["id"], planned["name"], planned["stage"])
            case "started":
                step = self.steps.get(event["id"]) or self._add(event["id"], event["name"], event["stage"])
                step.state, step.started = "running", now
            case "output":
                if step_ := self.steps.get(event["id"]):
                    step_.add_output(event["data"])
            case "done":
                if step_ := self.steps.get(event["id"]):
                    step_.state = "cached" if event["cached"] else "done"
                    step_.seconds, step_.size = event["seconds"], event["bytes"]
            case "failed":
                if step_ := self.steps.get(event["id"]):
                    step_.state, step_.seconds = "failed", now - step_.started
            case "notice":
                if (step_ := self.steps.get(event["id"])) and event["level"] == "info":
                    step_.note = event["text"]
            case _:
                pass  # not about steps

    def end(self, now: float) -> list[str]:
        """The build is over at ``now``: what still runs is canceled. Returns the IDs of those."""
        left = [name for name, step in self.steps.items() if step.state == "running"]
        for name in left:
            step = self.steps[name]
            step.state, step.seconds = "canceled", now - step.started
        return left

    @property
    def finished(self) -> int:
        """How many steps have ended well."""
        return sum(step.state in ("done", "cached") for step in self.steps.values())

    def _add(self, identifier: str, name: str, stage: str) -> Step:
        step = self.steps[identifier] = Step(name, stage)
        self.stages.setdefault(stage, Stage(stage)).steps.append(step)
        return step


def _last_state(line: str) -> str:
    return line.rstrip("\r").rpartition("\r")[2][:_LINE_LIMIT]
