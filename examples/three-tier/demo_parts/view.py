"""Show progress: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

HEARTBEAT_SECONDS = 5
NAME_WIDTH = 18


class Job:
    """One line of the display: a build, or a wait."""

    def __init__(self, view: View, name: str, task: TaskID | None) -> None:
        self.name = name
        self.started = time.monotonic()
        self.last = ""
        self.task = task
        self._view = view

    @property
    def seconds(self) -> float:
        """How long the job has run."""
        return time.monotonic() - self.started

    def line(self, text: str) -> None:
        """Show the newest line of output."""
        self.last = text
        if self.task is not None and self._view.progress is not None:
            self._view.progress.update(self.task, line=escape(text))


class View:
    """Steps with their time; within a step, jobs that run at the same time."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress: Progress | None = None
        self._started = time.monotonic()
        self._jobs: list[Job] = []

    @property
    def seconds(self) -> float:
        """Seconds since the demo began."""
        return time.monotonic() - self._started

    def say(self, text: str) -> None:
        """Print one line of plain text."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """A numbered part of the demo: heading, then its jobs, then its time."""
        self.console.print(f"\n[bold]{escape(title)}[/bold]  [dim]{self.seconds:.1f} s[/dim]", highlight=False)
        if self.console.is_terminal:
            with self._live():
                yield
        else:
            with self._heartbeat():
                yield

    @contextmanager
    def job(self, name: str) -> Iterator[Job]:
        """A job of the current step; may run in a thread."""
        task = self.progress.add_task(escape(name), line="") if self.progress is not None else None
        job = Job(self, name, task)
        self._jobs.append(job)
        mark = "failed"
        try:
            yield job
            mark = "done"
        finally:
            self._jobs.remove(job)
            if self.progress is not None and task is not None:
                self.progress.remove_task(task)
            self.say(f"  {name:<{NAME_WIDTH}} {mark} in {job.seconds:.1f} s")

    @contextmanager
    def _live(self) -> Iterator[None]:
        columns = (
            TextColumn(" "),
            SpinnerColumn(),
            TextColumn(f"{{task.description:<{NAME_WIDTH}}}"),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[line]}"),
        )
        with Progress(*columns, console=self.console, transient=True) as progress:
            self.progress = progress
            try:
                yield
            finally:
                self.progress = None

    @contextmanager
    def _heartbeat(self) -> Iterator[None]:
        ended = threading.Event()
        thread = threading.Thread(target=self._beat, args=(ended,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _beat(self, ended: threading.Event) -> None:
        while not ended.wait(HEARTBEAT_SECONDS):
            for job in list(self._jobs):
                self.say(f"  {job.name:<{NAME_WIDTH}} {job.seconds:3.0f} s  {job.last[:100]}")
