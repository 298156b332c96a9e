"""The tree of a build as lines that fit: what runs and what failed first, what is finished in fewer lines.

A terminal that is too small for all steps gets less of them, in this order: finished stages become one line each, then
waiting ones; in stages that run, finished and waiting steps become a line; output is cut to fewer lines; finished and
waiting stages become one line together; of stages that run only the running and failed steps are left. Those are told
first: a terminal that is too small even for them shows the failed ones and those with output.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.text import Text

from tare.cli.build_steps import TAIL_LINES, Board, Stage, Step
from tare.cli.units import human_size

_WIDEST = 140  # columns; beyond, times would be too far from what they belong to
_NARROWEST = 20
_ALIGNED = 60  # columns from which on times and sizes stand below each other
_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_FRAME_SECONDS = 0.08
_MARKS = {
    "done": ("✔", "green"),
    "cached": ("✔", "blue"),
    "failed": ("✘", "bold red"),
    "canceled": ("⊘", "yellow"),
    "waiting": ("·", "dim"),
}
_ORDER = {"failed": 0, "running": 1, "canceled": 2, "done": 3, "waiting": 4}


@dataclass(frozen=True, slots=True)
class _Detail:
    """How much is shown: which stages are one line, whether steps are folded, how many output lines there are.

    With ``bare`` a stage is no more than its running and failed steps.
    """

    short: frozenset[str] = frozenset()
    merged: bool = False
    folded: bool = False
    bare: bool = False
    tail: int = TAIL_LINES


_DONE = frozenset({"done"})
_QUIET = frozenset({"done", "waiting"})
_DETAILS = (
    _Detail(),
    _Detail(short=_DONE),
    _Detail(short=_QUIET),
    _Detail(short=_QUIET, folded=True),
    _Detail(short=_QUIET, folded=True, tail=2),
    _Detail(short=_QUIET, merged=True, folded=True, tail=2),
    _Detail(short=_QUIET, merged=True, bare=True, tail=2),
    _Detail(short=_QUIET, merged=True, bare=True, tail=1),
    _Detail(short=_QUIET, merged=True, bare=True, tail=0),
)
_STOPPED = _Detail(short=_QUIET, merged=True, bare=True, tail=2)


def final_lines(board: Board, *, width: int, height: int) -> list[Text]:
    """The tree of a build that is over: all of it, except that one that did not succeed ends near what stopped it."""
    columns = max(_NARROWEST, min(width - 1, _WIDEST))
    lines = list(_stages(board, _DETAILS[0], columns, 0.0))
    if board.finished == len(board.steps) or len(lines) <= height:
        return lines
    return list(_stages(board, _STOPPED, columns, 0.0))


def tree_lines(board: Board, *, width: int, height: int, now: float) -> list[Text]:
    """The tree in at most ``height`` lines of at most ``width`` columns at the time ``now``."""
    columns = max(_NARROWEST, min(width - 1, _WIDEST))
    lines: list[Text] = []
    for detail in _DETAILS:
        lines = list(_stages(board, detail, columns, now))
        if len(lines) <= height:
            return lines
    room = max(height, 1)
    hidden = len(lines) - room + 1
    return [*lines[: room - 1], Text(f"  … {hidden} more lines", style="dim")]


def _stages(board: Board, detail: _Detail, width: int, now: float) -> Iterator[Text]:
    stages = list(board.stages.values())
    if detail.merged:
        stages.sort(key=_rank)
        for state in ("done", "waiting"):
            same = [stage for stage in stages if stage.state == state]
            if len(same) > 1:
                stages = [stage for stage in stages if stage.state != state]
                merged = Stage(f"{len(same)} stages", [step for stage in same for step in stage.steps])
                stages.append(merged)
    for stage in stages:
        if stage.state in detail.short:
            yield _stage_line(stage, width)
            continue
        if detail.bare:
            yield from _bare(stage, detail, width, now)
            continue
        title = Text(stage.name or "build", style="bold cyan", no_wrap=True)
        title.truncate(width, overflow="ellipsis")
        yield title
        yield from _steps(stage, detail, width, now)


def _rank(stage: Stage) -> tuple[int, bool]:
    """Failed stages first, then those that run, of these the ones that say something."""
    silent = not any(step.last_lines for step in stage.steps if step.state in ("running", "failed"))
    return _ORDER[stage.state], silent


def _bare(stage: Stage, detail: _Detail, width: int, now: float) -> Iterator[Text]:
    active = [step for step in stage.steps if step.state in ("running", "failed", "canceled")]
    for step in active:
        yield from _step(step, detail, width, now, stage=stage.name)
    if not active:
        done = sum(step.state in ("done", "cached") for step in stage.steps)
        name = Text.assemble(("  · ", "dim"), (stage.name or "build", "dim"))
        yield _row(name, f"{done}/{len(stage.steps)} steps", width)


def _stage_line(stage: Stage, width: int) -> Text:
    """A stage on one line."""
    cached = sum(step.state == "cached" for step in stage.steps)
    seconds = sum(step.seconds for step in stage.steps)
    size = sum(step.size for step in stage.steps)
    count = f"{len(stage.steps)} step{'s' * (len(stage.steps) != 1)}"
    if stage.state == "waiting":
        return _row(Text.assemble(("· ", "dim"), (stage.name or "build", "dim")), f"{count} to go", width)
    state = "cached" if cached == len(stage.steps) else "done"
    if 0 < cached < len(stage.steps):
        count = f"{count}, {cached} cached"
    time = "cached" if state == "cached" else f"{seconds:.1f}s"
    mark, style = _MARKS[state]
    name = Text.assemble((f"{mark} ", style), (stage.name or "build", "cyan"))
    return _row(name, f"{count} {_facts(time, human_size(size) if size else '', width)}", width)


def _steps(stage: Stage, detail: _Detail, width: int, now: float) -> Iterator[Text]:
    folded: list[Step] = []

    def fold() -> Iterator[Text]:
        if len(folded) == 1:
            yield from _step(folded[0], detail, width, now)
        elif folded:
            yield _folded(folded, width)
        folded.clear()

    for step in stage.steps:
        kind = step.state in ("done", "cached"), step.state == "waiting"
        if not detail.folded or not any(kind):
            yield from fold()
            yield from _step(step, detail, width, now)
            continue
        if folded and (folded[0].state == "waiting") is not (step.state == "waiting"):
            yield from fold()
        folded.append(step)
    yield from fold()


def _folded(steps: Sequence[Step], width: int) -> Text:
    if steps[0].state == "waiting":
        return _row(Text(f"  · {len(steps)} steps to go", style="dim"), "", width)
    seconds = sum(step.seconds for step in steps)
    return _row(
        Text.assemble(("  ✔ ", "green"), (f"{len(steps)} steps", "")), _facts(f"{seconds:.1f}s", "", width), width
    )


def _step(step: Step, detail: _Detail, width: int, now: float, stage: str = "") -> Iterator[Text]:
    size = human_size(step.size) if step.size else ""
    times = {
        "waiting": "",
        "running": f"{step.note}  {max(now - step.started, 0):.1f}s".strip(),
        "cached": "cached",
        "canceled": f"canceled  {step.seconds:.1f}s",
    }
    facts = _facts(times.get(step.state, f"{step.seconds:.1f}s"), size, width)
    if step.state == "running":
        mark, style = _FRAMES[int(now / _FRAME_SECONDS) % len(_FRAMES)], "cyan"
    else:
        mark, style = _MARKS[step.state]
    label_style = {"waiting": "dim", "failed": "bold red", "running": "bold"}.get(step.state, "")
    name = _middle_cut(stage, width // 3)
    title = Text.assemble(
        (f"  {mark} ", style), (f"{name} " if name else "", "cyan"), (_plain(step.label), label_style)
    )
    yield _row(title, facts, width)
    if step.state in ("running", "failed", "canceled") and detail.tail:
        for line in step.last_lines[-detail.tail :]:
            text = Text("    │ ", style="dim")
            text.append_text(_output(line))
            text.truncate(width, overflow="ellipsis")
            yield text


def _middle_cut(text: str, room: int) -> str:
    """``text`` without its middle where it is too long: names differ at both ends."""
    if len(text) <= room:
        return text
    end = (room - 1) // 2
    return f"{text[: room - 1 - end]}…{text[len(text) - end :]}"


def _facts(time: str, size: str, width: int) -> str:
    """Time and size, below those of the other lines where there is room."""
    if width < _ALIGNED or not (time or size):
        return f"{time}  {size}".strip()
    return f"{time:>7} {size:>7}"


def _row(left: Text, right: str, width: int) -> Text:
    """``left``, cut where it is too long, and ``right`` at the end of the line."""
    right = right[: width // 2]
    room = width - len(right) - (1 if right else 0)
    left.truncate(room, overflow="ellipsis", pad=bool(right))
    left.no_wrap = True
    if right:
        left.append(f" {right}", style="dim")
    return left


def _output(line: str) -> Text:
    """A line of output: its colours are kept, tabs become blanks, other control characters vanish."""
    text = Text.from_ansi(line.expandtabs(4), style="dim", no_wrap=True)
    if not text.plain.isprintable():
        text = Text(_plain(text.plain), style="dim", no_wrap=True)
    return text


def _plain(text: str) -> str:
    return "".join(char for char in text if char.isprintable())
