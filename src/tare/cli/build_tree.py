"""A build on a terminal: stages side by side as a tree that is redrawn while they run."""

from __future__ import annotations

import threading
import time

from rich.console import Console, ConsoleDimensions, Group, RenderableType
from rich.live import Live
from rich.text import Text

from tare.cli.build_layout import final_lines, tree_lines
from tare.cli.build_plain import Event, QuietView
from tare.cli.build_steps import Board
from tare.cli.transfer_board import RUNNING, WAITING
from tare.cli.transfer_board import Board as Transfers
from tare.cli.transfer_layout import live_lines
from tare.client.progress import Progress

_REFRESH = 12  # drawings per second
_PIPED_WIDTH = 120  # columns where there is no terminal
_NOTES = 3
_PULL_ROWS = 10


class TreeView(QuietView):
    """Draws the steps of each stage; running steps show their last lines of output.

    Without a terminal only the final tree is printed.
    """

    def __init__(self, console: Console | None = None) -> None:
        super().__init__()
        self._console = console or Console(stderr=True)
        if console is None and not self._console.is_terminal:
            self._console = Console(stderr=True, width=_PIPED_WIDTH)
        self._board = Board()
        self._changing = threading.Lock()  # drawing happens in a thread of its own
        self._notes: dict[str, Text] = {}
        self._began = time.monotonic()
        self._transfers = Transfers(self._began)
        self._ended: float | None = None
        self._live = Live(
            console=self._console,
            get_renderable=self._draw,
            refresh_per_second=_REFRESH,
            vertical_overflow="crop",
        )

    def __enter__(self) -> TreeView:
        self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        with self._changing:
            self._ended = time.monotonic()
            self._board.end(self._ended)
        # What stays on the screen must be all of it, however long.
        self._live.vertical_overflow = "visible"
        self._live.stop()

    def show(self, event: Event) -> None:
        """Take in one event; the next drawing shows it."""
        with self._changing:
            self._take(event)

    def _take(self, event: Event) -> None:
        super().show(event)
        self._board.take(event, time.monotonic())
        if event["event"] != "notice" or (event["id"] in self._board.steps and event["level"] != "warning"):
            return
        progress = Progress(event["text"], event["id"], event.get("current", 0), event.get("total", 0))
        if event["level"] == "info" and self._transfers.is_about(progress):
            self._transfers.take(progress, time.monotonic())
        else:
            text = f"{event['id']}: {event['text']}" if event["id"] else event["text"]
            self._note(event["id"] or text, Text(text, style="yellow" if event["level"] == "warning" else "dim"))

    def _note(self, key: str, text: Text) -> None:
        """Keep the last notes, of each object the last."""
        self._notes.pop(key, None)
        self._notes[key] = text
        if len(self._notes) > _NOTES:
            del self._notes[next(iter(self._notes))]

    def _draw(self) -> RenderableType:
        with self._changing:
            return self._drawn()

    def _pulling(self, now: float, size: ConsoleDimensions) -> list[Text]:
        """The layers of a base image, while they come."""
        if not self._transfers.of(RUNNING, WAITING):
            return []
        return live_lines(self._transfers, width=size.width, height=min(_PULL_ROWS, size.height // 2), now=now)

    def _drawn(self) -> RenderableType:
        now = self._ended or time.monotonic()
        board, size = self._board, self._console.size
        head = Text.assemble(
            ("building " if self._ended is None else "build ", "bold"),
            f"{board.finished}/{len(board.steps)} steps, {now - self._began:.1f}s",
        )
        notes = [note.copy() for note in self._notes.values()]
        for note in notes:
            note.truncate(max(size.width - 1, 1), overflow="ellipsis")
        if self._ended is None:
            notes += self._pulling(now, size)
            lines = tree_lines(board, width=size.width, height=size.height - 2 - len(notes), now=now)
        else:
            lines = final_lines(board, width=size.width, height=size.height - 1)
        return Group(head, *lines, *notes)
