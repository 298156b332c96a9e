"""What a build knows of the layers of its image, for whoever weighs the image later."""

from __future__ import annotations

from collections.abc import Sequence

from tare.build.graph import CopyStep, Plan, SourceStep, Step, is_context
from tare.build.request import LedgerLine
from tare.store.origins import ImageOrigin, LayerOrigin, StageOrigin


def origin_of(plan: Plan, ledger: Sequence[LedgerLine]) -> ImageOrigin:
    """The instruction of each layer on top of the base image's, and what the stages left behind."""
    step = plan.by_id[plan.output.tip]
    while step.parent is not None:
        step = plan.by_id[step.parent]
    image = step.image if isinstance(step, SourceStep) else None
    left: dict[str, int] = {}
    for line in ledger:
        left[line.stage] = left.get(line.stage, 0) + (0 if line.shipped else line.bytes)
    return ImageOrigin(
        base=f"FROM {step.reference}" if isinstance(step, SourceStep) and image is not None else "",
        below=len(image.diff_ids) if image is not None else 0,
        layers=[_layer(plan, plan.by_id[one.step]) for one in plan.output.history if not one.empty],
        stages=[StageOrigin(name=name, left=size) for name, size in left.items()],
    )


def _layer(plan: Plan, step: Step) -> LayerOrigin:
    copied = isinstance(step, CopyStep) and not is_context(step.origin)
    return LayerOrigin(
        stage=step.stage,
        text=step.text,
        file=step.place.source.name,
        line=step.place.range.first_line,
        source=plan.by_id[step.origin].stage if isinstance(step, CopyStep) and copied else "",
    )
