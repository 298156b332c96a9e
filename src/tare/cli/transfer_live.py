"""A transfer on a terminal: lines that are redrawn while it runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from tare.cli.transfer_board import Board
from tare.cli.transfer_layout import final_lines, live_lines
from tare.cli.transfer_views import QuietTransfer
from tare.client.progress import Progress

_REFRESH = 12  # drawings per second


class LiveTransfer(QuietTransfer):
    """Draws parts and sum; each image's last drawing stays on the screen."""

    def __init__(
        self, stream: TextIO, *, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._console = console or Console(file=stream, highlight=False, markup=False, emoji=False)
        self._changing = threading.Lock()  # drawing happens in a thread of its own
        self._board = Board(self._clock())
        self._live = Live(
            console=self._console,
            get_renderable=self._draw,
            refresh_per_second=_REFRESH,
            vertical_overflow="crop",
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> LiveTransfer:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        with self._changing:
            self._board.end(self._clock(), failed=kind is not None)
        self._live.stop()
        self._keep(self._board)

    def show(self, progress: Progress) -> None:
        """Take in one message; the next drawing shows it."""
        finished = None
        with self._changing:
            now = self._clock()
            if self._board.is_over_before(progress):
                finished, self._board = self._board, Board(now)
                finished.end(now, failed=False)
            self._board.take(progress, now)
        if finished is not None:
            self._keep(finished)

    def _keep(self, board: Board) -> None:
        """Print what stays on the screen: all of it, above what is redrawn, long lines in one piece."""
        if lines := final_lines(board, width=self._console.size.width):
            text = Text("\n").join(lines)  # one text is one drawing
            self._console.print(text, crop=False, no_wrap=True, overflow="ignore")

    def _draw(self) -> RenderableType:
        size = self._console.size
        with self._changing:
            lines = live_lines(self._board, width=size.width, height=size.height - 1, now=self._clock())
        return Group(*lines)
