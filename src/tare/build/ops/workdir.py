"""WORKDIR: a layer with the directories that are missing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import BinaryIO

from tare.archive.tar_writer import TarWriter
from tare.base.shielding import to_end
from tare.build.cache.records import Part
from tare.build.graph import WorkdirStep
from tare.build.ops.layering import LayerPlan, Settings, write_members
from tare.build.ops.operation import Inputs, Made
from tare.build.ops.rootfs import ROOT, find_owner, is_directory, lstat, resolve


async def make_workdir(step: WorkdirStep, inputs: Inputs) -> Made:
    """Write the layer; it is empty where the directory exists. Raises NotFound for an unknown user, InvalidArgument."""
    async with inputs.bench.view(inputs.parent) as root:
        plan = await to_end(asyncio.to_thread(_plan, root, step))

    def produce(sink: BinaryIO) -> None:
        writer = TarWriter(sink)
        write_members(plan.members(), writer)
        writer.finish()

    layer = await to_end(inputs.bench.store.layers.write(produce, lease=inputs.lease))
    return Made(Part(kind="layer", key=str(layer.diff_id)), plan.size)


def _plan(root: Path, step: WorkdirStep) -> LayerPlan:
    path = resolve(root, step.path)
    owner = ROOT
    if not is_directory(lstat(root, path)) and step.user:
        owner = find_owner(root, step.user)
    plan = LayerPlan(root, Settings(owner=owner))
    if path and not is_directory(lstat(root, path)):
        plan.parents(path)
        plan.directory(path)
    return plan
