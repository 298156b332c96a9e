"""A build on a terminal: stages side by side as a tree that is redrawn while they run."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from tare.cli.units import human_size

_TAIL = 5
_LINE_LIMIT = 400  # characters kept of an output line
_REFRESH = 12  # drawings per second


@dataclass(slots=True)
class _Step:
    """What is known about one step."""

    name: str
    stage: str
    state: str = "waiting"
    started: float = 0.0
    seconds: float = 0.0
    size: int = 0
    note: str = ""
    partial: str = ""
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=_TAIL))
    spinner: Spinner = field(default_factory=lambda: Spinner("dots"))


class TreeView:
    """Draws the steps of each stage; running steps show their last lines of output."""

    def __init__(self, console: Console | None = None) -> None:
        self.names: dict[str, str] = {}
        self._steps: dict[str, _Step] = {}
        self._notes: deque[Text] = deque(maxlen=3)
        self._began = time.monotonic()
        self._live = Live(
            console=console or Console(stderr=True),
            get_renderable=self._draw,
            refresh_per_second=_REFRESH,
            vertical_overflow="crop",
        )

    def __enter__(self) -> TreeView:
        self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        # What stays on the screen must be all of it, however long.
        self._live.vertical_overflow = "visible"
        self._live.stop()

    def show(self, event: dict[str, Any]) -> None:
        """Take in one event; the next drawing shows it."""
        match str(event["event"]):
            case "plan":
                for planned in event["vertices"]:
                    self._steps[planned["id"]] = _Step(planned["name"], planned["stage"])
                    self.names[planned["id"]] = planned["name"]
            case "started":
                step = self._steps.setdefault(event["id"], _Step(event["name"], event["stage"]))
                step.state, step.started = "running", time.monotonic()
            case "output":
                self._output(self._steps[event["id"]], event["data"])
            case "done":
                step = self._steps[event["id"]]
                step.state = "cached" if event["cached"] else "done"
                step.seconds, step.size = event["seconds"], event["bytes"]
            case "failed":
                self._steps[event["id"]].state = "failed"
            case "notice":
                self._notice(event)
            case _:
                pass  # what only other views show

    def _notice(self, event: dict[str, Any]) -> None:
        step = self._steps.get(event["id"])
        if step is not None and event["level"] == "info":
            step.note = event["text"]
            return
        text = f"{event['id']}: {event['text']}" if event["id"] else event["text"]
        self._notes.append(Text(text, style="yellow" if event["level"] == "warning" else "dim"))

    @staticmethod
    def _output(step: _Step, data: str) -> None:
        *lines, step.partial = (step.partial + data).split("\n")
        step.partial = step.partial[-_LINE_LIMIT:]
        for line in lines:
            shown = line.rstrip("\r").rpartition("\r")[2][:_LINE_LIMIT]
            if shown.strip():
                step.tail.append(shown)

    def _draw(self) -> RenderableType:
        done = sum(step.state in ("done", "cached") for step in self._steps.values())
        head = Text.assemble(
            ("building ", "bold"), f"{done}/{len(self._steps)} steps, {time.monotonic() - self._began:.1f} s"
        )
        tree = Tree(head, guide_style="dim")
        stages: dict[str, Tree] = {}
        for step in self._steps.values():
            branch = stages.get(step.stage)
            if branch is None:
                branch = stages[step.stage] = tree.add(Text(step.stage or "build", style="bold cyan"))
            node = branch.add(self._line(step))
            if step.state in ("running", "failed"):
                for line in step.tail:
                    node.add(Text.from_ansi(line, style="dim", no_wrap=True, overflow="ellipsis"))
        return Group(tree, *self._notes)

    @staticmethod
    def _line(step: _Step) -> RenderableType:
        row = Table.grid(padding=(0, 1))
        row.add_column(width=1)
        row.add_column(no_wrap=True, overflow="ellipsis")
        row.add_column(no_wrap=True, style="dim")
        marks = {"done": ("✔", "green"), "cached": ("✔", "blue"), "failed": ("✘", "red"), "waiting": ("·", "dim")}
        mark: RenderableType = step.spinner if step.state == "running" else Text(*marks[step.state])
        facts = ""
        if step.state == "running":
            facts = f"{time.monotonic() - step.started:.1f}s {step.note}".rstrip()
        elif step.state == "cached":
            facts = "cached" + (f" {human_size(step.size)}" if step.size else "")
        elif step.state == "done":
            facts = f"{step.seconds:.1f}s" + (f" {human_size(step.size)}" if step.size else "")
        style = {"waiting": "dim", "failed": "bold red"}.get(step.state, "")
        row.add_row(mark, Text(step.name, style=style), facts)
        return row
