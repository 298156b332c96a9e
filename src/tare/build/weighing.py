"""The weigh-in: what each instruction put into the image, what stayed behind, what was written twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tare.build.graph import Plan, SourceStep, Step
from tare.build.request import LedgerLine
from tare.build.solver import Solved
from tare.errors import InvalidArgument

_HEAVIEST = 5  # instructions that an exceeded budget names


def weigh_in(plan: Plan, solved: Mapping[str, Solved]) -> tuple[LedgerLine, ...]:
    """A line for each step that adds bytes, in the Dockerfile's order."""
    shipped: set[str] = set()
    name: str | None = plan.output.tip
    while name is not None:
        shipped.add(name)
        name = plan.by_id[name].parent
    lines = []
    for shown in plan.shown:
        step = plan.by_id[shown.id]
        if not (step.layered or isinstance(step, SourceStep)):
            continue
        done = solved[step.id]
        lines.append(
            LedgerLine(
                stage=step.stage,
                name=shown.name,
                text=shown.text,
                bytes=_bytes(step, done),
                shipped=step.id in shipped,
                cached=done.cached,
                rewritten=done.result.hidden if step.layered else 0,
                file=step.place.source.name,
                line=step.place.range.first_line,
            )
        )
    return tuple(lines)


def _bytes(step: Step, done: Solved) -> int:
    if isinstance(step, SourceStep):
        return step.image.size if step.image else 0
    return done.result.bytes


def check_budget(ledger: Sequence[LedgerLine], budget: int) -> None:
    """Raise InvalidArgument where more ships than ``budget`` bytes (0: any), naming the heaviest instructions."""
    weight = sum(line.bytes for line in ledger if line.shipped)
    if not budget or weight <= budget:
        return
    heaviest = sorted((line for line in ledger if line.shipped and line.bytes), key=lambda line: -line.bytes)
    shown = "".join(
        f"\n  {megabytes(line.bytes):>10}  {line.file}:{line.line}  {line.text}" for line in heaviest[:_HEAVIEST]
    )
    twice = sum(line.rewritten for line in ledger if line.shipped)
    saved = f" ({megabytes(twice)} are written twice)" if twice else ""
    raise InvalidArgument(
        f"the image weighs {megabytes(weight)}, {megabytes(weight - budget)} more than the budget of"
        f" {megabytes(budget)}{saved}: copy only what runs into the last stage, or raise --budget; heaviest:{shown}",
        code="over-budget",
    )


def megabytes(size: int) -> str:
    """Bytes as megabytes, to one place; small ones as kilobytes."""
    return f"{size / 1e6:,.1f} MB" if size >= 100_000 else f"{size / 1e3:,.1f} kB"
