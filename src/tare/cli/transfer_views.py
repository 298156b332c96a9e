"""How transfers are shown: redrawn lines on a terminal, else a line for each thing that happens."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Protocol, TextIO

from tare.client.progress import Progress


class TransferView(Protocol):
    """A context manager that is shown every message of a transfer; leaving it ends the drawing."""

    def __enter__(self) -> TransferView:
        """Begin."""
        ...

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        """End; what was not finished is shown as broken off when there is an error."""
        ...

    def show(self, progress: Progress) -> None:
        """Take in one message."""
        ...


def transfer_view(*, quiet: bool = False, to_stderr: bool = False) -> TransferView:
    """The view for a transfer whose messages go to standard output, or to standard error.

    A terminal whose encoding lacks the symbols of the drawing gets lines.
    """
    stream = sys.stderr if to_stderr else sys.stdout
    if quiet:
        return QuietTransfer()
    if not stream.isatty() or (stream.encoding or "").lower().replace("-", "") != "utf8":
        return PlainTransfer(stream)
    from tare.cli.transfer_live import LiveTransfer

    return LiveTransfer(stream)


async def counted(
    chunks: AsyncIterator[bytes], view: TransferView, doing: str, name: str
) -> AsyncGenerator[bytes, None]:
    """``chunks``, while ``view`` shows how many bytes have gone by: something of which the size is not known."""
    moved = 0
    with view:
        async for chunk in chunks:
            moved += len(chunk)
            view.show(Progress(doing, name, moved))
            yield chunk


class QuietTransfer:
    """Shows nothing."""

    def __enter__(self) -> QuietTransfer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        pass

    def show(self, progress: Progress) -> None:
        """Nothing."""


class PlainTransfer(QuietTransfer):
    """A line for every change, as Docker prints it where there is no terminal; none for steps of a bar."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last: dict[str, str] = {}

    def show(self, progress: Progress) -> None:
        """Print it, unless it says what the last line of its part said."""
        if progress.is_step or not progress.status or self._last.get(progress.id) == progress.status:
            return
        if progress.id:
            self._last[progress.id] = progress.status
        else:
            self._last.clear()  # another image may have the same layers
        self._stream.write(f"{progress.id}: {progress.status}\n" if progress.id else f"{progress.status}\n")
        self._stream.flush()
