"""A transfer as lines that fit into a terminal of any size.

With more parts than rows, those that are done become one line, then those that wait; of what runs, the first are shown
and the rest is counted. A narrow terminal gets no bars, then no time left, no rates; what is left of a line is cut.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from tare.cli.transfer_board import DONE, ENDED, RUNNING, WAITING, Board, Part, has_bytes
from tare.cli.units import human_size

_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_FRAME_SECONDS = 0.08
_MARKS = {WAITING: ("·", "dim"), DONE: ("✔", "green"), ENDED: ("⊘", "yellow")}
_STATUS_WIDTH = 20  # columns of the states' words
_BAR_FROM = 72  # columns of the terminal from which on there are bars
_BAR_WIDEST, _BAR_NARROWEST = 40, 6
_SPACED_FROM = 52
_SIZE_WIDTH = 8
_WIDEST = 130  # columns; beyond, numbers would be too far from what they belong to


def live_lines(board: Board, *, width: int, height: int, now: float) -> list[Text]:
    """The lines while it runs: at most ``height``, the last one sums up."""
    width = min(width, _WIDEST)
    room = max(height - 1, 0)
    lines = [Text(_plain(text)) for text in board.headings[-1:]][: max(room - 1, 0)]
    notes = [Text(_plain(text)) for text in board.notes[-3:]][: max(room - len(lines) - 1, 0)]
    lines += _fitting(board, width, room - len(lines) - len(notes), now)
    return [_cut(line, width) for line in [*lines, *notes, _summary(board, now, width)]][: max(height, 1)]


def final_lines(board: Board, *, width: int) -> list[Text]:
    """What stays: all of it."""
    width = min(width, _WIDEST)
    now = board.ended or board.began
    lines = [_whole(text) for text in board.headings]
    lines += [_cut(_part(part, width, now), width) for part in board.parts.values()]
    if has_bytes(board.parts.values()):
        lines.append(_cut(_outcome(board, now), width))
    return [*lines, *(_whole(text) for text in board.notes)]


def _fitting(board: Board, width: int, room: int, now: float) -> list[Text]:
    parts = list(board.parts.values())
    if len(parts) <= room:
        return [_part(part, width, now) for part in parts]
    running, waiting, done = board.of(RUNNING, ENDED), board.of(WAITING), board.of(DONE)
    folded = [_folded(done, DONE, "done")] if done else []
    if len(folded) + len(running) + len(waiting) <= room:
        return [*folded, *(_part(part, width, now) for part in [*running, *waiting])]
    folded += [_folded(waiting, WAITING, "waiting")] if waiting else []
    shown = max(room - len(folded), 0)
    if len(running) > shown:
        shown = max(shown - 1, 0)
        folded.append(Text(f"  … {len(running) - shown} more", style="dim"))
    return [*(_part(part, width, now) for part in running[:shown]), *folded][: max(room, 0)]


def _folded(parts: Sequence[Part], state: str, word: str) -> Text:
    mark, style = _MARKS[state]
    return Text.assemble((f"  {mark} ", style), f"{len(parts)} {word}")


def _part(part: Part, width: int, now: float) -> Text:
    if part.state == RUNNING:
        mark, style = _FRAMES[int(now / _FRAME_SECONDS) % len(_FRAMES)], "cyan"
    else:
        mark, style = _MARKS[part.state]
    name, status, facts = _plain(part.id), _plain(part.status), _facts(part, now)
    if facts and width >= _SPACED_FROM:
        facts[0] = facts[0].rjust(_SIZE_WIDTH)
    room = width - 1 - cell_len(f"  {mark} {name} ")
    while len(facts) > 1 and cell_len(status) + _length(facts) > room:
        facts.pop()
    if facts:
        status = set_cell_size(status, min(cell_len(status), max(room - _length(facts), 0)))
    line = Text.assemble((f"  {mark} ", style), name, " ", (status, "" if part.state == RUNNING else "dim"))
    room -= cell_len(status) + _length(facts)
    if facts:
        padding = min(max(_STATUS_WIDTH - len(status), 0), max(room, 0))
        line.pad_right(padding)
        room -= padding
    if part.state == RUNNING and part.total and room > _BAR_NARROWEST and width >= _BAR_FROM:
        line.append_text(_bar(part.current / part.total, min(room - 1, _BAR_WIDEST)))
    for fact in facts:
        line.append(f"  {fact}", style="dim")
    return line


def _length(facts: Sequence[str]) -> int:
    return sum(cell_len(fact) + 2 for fact in facts)


def _facts(part: Part, now: float) -> list[str]:
    """What is known in numbers, the most important first."""
    if part.state == DONE and part.size:
        return [human_size(part.size)]
    if part.state != RUNNING or not (part.current or part.total):
        return []
    facts = [human_size(part.current) + (f"/{human_size(part.total)}" if part.total else "")]
    if (rate := part.meter.rate(now)) > 0:
        facts.append(f"{human_size(rate)}/s")
        if part.total > part.current:
            facts.append(short_time((part.total - part.current) / rate))
    return facts


def _bar(fraction: float, width: int) -> Text:
    filled = int(min(max(fraction, 0.0), 1.0) * width)
    return Text.assemble((" " + "━" * filled, "cyan"), ("─" * (width - filled), "dim"))


def _summary(board: Board, now: float, width: int) -> Text:
    done, parts = len(board.of(DONE)), len(board.parts)
    words = [f"{done}/{parts} done"] if parts else ["working"]
    if has_bytes(board.parts.values()):
        size = "" if board.moved == board.size else f"/{human_size(board.size)}"
        words.append(f"{human_size(board.moved)}{size}{'' if board.is_size_known else '+'}")
    if (rate := board.rate(now)) > 0 and board.moved < board.size:
        words.append(f"{human_size(rate)}/s")
        if (left := board.seconds_left(now)) is not None:
            words.append(f"{short_time(left)} left")
    words.append(short_time(now - board.began))
    return _cut(Text(("  " if width >= _SPACED_FROM else " ").join(words), style="bold"), width)


def _outcome(board: Board, now: float) -> Text:
    seconds = max(now - board.began, 0.001)
    rate = f"{human_size(board.moved / seconds)}/s"
    return Text(f"{human_size(board.moved)} in {short_time(seconds)}, {rate}", style="bold")


def short_time(seconds: float) -> str:
    """``0.4s``, ``12s``, ``3m05s``, ``2h10m``; what is longer than a hundred hours is ``>99h``."""
    if seconds < 10:
        return f"{max(seconds, 0):.1f}s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m" if whole < 360000 else ">99h"


def _cut(line: Text, width: int) -> Text:
    line.no_wrap = True
    line.truncate(max(width - 1, 1), overflow="ellipsis")
    return line


def _whole(text: str) -> Text:
    """A line that the terminal itself wraps: so it is copied in one piece."""
    return Text(_plain(text), no_wrap=True, overflow="ignore")


def _plain(text: str) -> str:
    return "".join(char for char in text if char.isprintable())
