"""The target stage as an image: layers, configuration, history."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Mapping, Sequence

from tare.base.shielding import to_end
from tare.build import phrasing
from tare.build.cache import Part
from tare.build.graph import Plan, SourceStep, Step
from tare.build.ops.workbench import Workbench
from tare.build.outputs.timestamps import clamp_layers
from tare.build.solver import Solved
from tare.model import Digest, Platform
from tare.oci.image import History, ImageConfig, RootFS
from tare.store.snapshotter import Lower


async def export_image(
    plan: Plan, solved: Mapping[str, Solved], bench: Workbench, platform: Platform, *, epoch: int | None, lease: str
) -> ImageConfig:
    """The configuration of the image, its layers written.

    All times come from the steps' cache records: a build that made nothing new gives the image it gave before. With an
    ``epoch`` (SOURCE_DATE_EPOCH) they are that, and the layers on top of the base have no later times.
    """
    output = plan.output
    chain = solved[output.tip].result.chain
    layers = await _layers(chain, bench)
    await bench.protect(lease, [Part(kind="layer", key=str(diff_id)) for diff_id in layers])
    if epoch is not None:
        below = len(_base_layers(plan))
        layers = [*layers[:below], *await clamp_layers(layers[below:], epoch, bench, lease)]
    diff_ids = [str(diff_id) for diff_id in layers]
    newest = _base_created(plan)
    history: list[History] = list(output.base_history)
    for written in output.history:
        stamp = solved[written.step].result.created
        newest = max(newest, stamp) if epoch is None else epoch
        history.append(
            History(
                created=_timestamp(newest),
                created_by=written.created_by,
                comment=phrasing.COMMENT,
                empty_layer=written.empty,
            )
        )
    return ImageConfig(
        architecture=output.architecture,
        os=platform.os,
        created=_timestamp(newest),
        author=output.author,
        variant=platform.variant,
        config=output.config,
        rootfs=RootFS(diff_ids=diff_ids),
        history=history,
    )


async def _layers(chain: Sequence[Part], bench: Workbench) -> list[Digest]:
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_layer(part, bench)) for part in chain]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from errors
    return [task.result() for task in tasks]


async def _layer(part: Part, bench: Workbench) -> Digest:
    if part.kind == "layer":
        return Digest.parse(part.key)
    return await to_end(bench.store.snapshots.write_layer(Lower(part.key)))


def _base(plan: Plan) -> Step:
    """The step that the target's stages stand on."""
    step = plan.by_id[plan.output.tip]
    while step.parent is not None:
        step = plan.by_id[step.parent]
    return step


def _base_layers(plan: Plan) -> tuple[Digest, ...]:
    step = _base(plan)
    return step.image.diff_ids if isinstance(step, SourceStep) and step.image is not None else ()


def _base_created(plan: Plan) -> float:
    """When the image that the target stands on was made; 0 without one."""
    step = _base(plan)
    if isinstance(step, SourceStep) and step.image is not None and step.image.config.created:
        try:
            return datetime.datetime.fromisoformat(step.image.config.created).timestamp()
        except ValueError:
            return 0.0
    return 0.0


def _timestamp(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="auto").replace("+00:00", "Z")
