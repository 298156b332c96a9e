"""The cache key of a step: what it does, what it stands on, what it is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tare.build.cache import Key, make_key
from tare.build.graph import CopyStep, RunStep, Step
from tare.build.ops.copy import copy_fields
from tare.build.ops.downloads import Download
from tare.build.ops.operation import Inputs
from tare.build.ops.run import run_fields


async def step_key(step: Step, parent_key: str, inputs: Inputs, downloads: Sequence[Download]) -> Key:
    """The key of a step that makes a layer; its fields are named, so that a miss can be explained.

    Looks only at the files that the step is given, never at its parent's root file system. Raises NotFound for a source
    that is not there.
    """
    fields: dict[str, Any] = {"parent": parent_key, **step.definition()}
    if isinstance(step, CopyStep):
        fields.update(await copy_fields(step, inputs, downloads))
    elif isinstance(step, RunStep):
        fields.update(await run_fields(step, inputs))
    return make_key(fields)
