"""RUN: a command in a writable snapshot over the parent, which is frozen when it ends well."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Literal, cast

from tare.base.shielding import finish, to_end
from tare.build.cache import Part
from tare.build.failures import TAIL_LINES, BuildStepFailed, StepNotStarted
from tare.build.graph import RunStep
from tare.build.ops.hidden import weigh_upper
from tare.build.ops.keeping import Left, keep_failed
from tare.build.ops.masking import Mask
from tare.build.ops.mounts import Mounted, mounted
from tare.build.ops.operation import Inputs, Made, located
from tare.build.ops.requests import exec_request
from tare.build.ops.select import SourceMissing
from tare.build.ops.selection import Selection, missing_source, select_content
from tare.errors import ExecutableError
from tare.model import new_id


class _Tail:
    """The last lines of the output, for the error."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._rest = b""

    def add(self, data: bytes) -> None:
        *whole, self._rest = (self._rest + data).split(b"\n")
        self._lines.extend(line.decode(errors="replace").rstrip("\r") for line in whole)
        del self._lines[:-TAIL_LINES]

    def lines(self) -> list[str]:
        rest = [self._rest.decode(errors="replace")] if self._rest else []
        return [*self._lines, *rest][-TAIL_LINES:]


async def run_fields(step: RunStep, inputs: Inputs) -> Mapping[str, Any]:
    """What goes into the key beside the definition: the content of bind mounts, and what new caches begin with."""
    contents = []
    for mount in step.mounts:
        if mount.has_origin:
            try:
                contents.append(await select_content(Selection((mount.source,)), mount.origin, inputs))
            except SourceMissing as missing:
                error = missing_source(missing, mount.origin, mount.origin_name, inputs)
                raise located(error, step.place, mark=mount.source) from missing
    return {"mount_contents": contents} if contents else {}


async def make_run(step: RunStep, inputs: Inputs, *, key: str) -> Made:
    """Run the command and freeze what it changed; ``key`` is the step's cache key.

    Raises BuildStepFailed for a status other than 0, StepNotStarted when the command cannot be executed: what the step
    changed is kept then, as far as the engine keeps failed steps. Nothing stays behind of other errors, which are the
    executor's.
    """
    bench, snapshot, tail, around = inputs.bench, new_id(), _Tail(), Mounted()
    snapshots = bench.store.snapshots
    lowers = await bench.lowers(inputs.parent)

    masks = {stream: Mask(_secrets(step, inputs)) for stream in ("stdout", "stderr")}

    def output(stream: Literal["stdout", "stderr"], data: bytes) -> None:
        if shown := masks[stream].feed(data):
            tail.add(shown)
            inputs.emit(stream, shown)

    try:
        await to_end(snapshots.prepare(snapshot, lowers))
        async with mounted(step, inputs) as around:
            code = await bench.executor.execute(exec_request(step, snapshot, around, inputs), output)
        for stream, mask in masks.items():
            if rest := mask.finish():
                tail.add(rest)
                inputs.emit(cast(Literal["stdout", "stderr"], stream), rest)
        if code:
            raise BuildStepFailed(
                step.argv, code, output=tail.lines(), source=step.place.source, where=step.place.range
            )
        await bench.protect(inputs.lease, [Part(kind="snapshot", key=snapshot)])
        await to_end(snapshots.commit(snapshot))
    except BuildStepFailed as failure:
        failure.step = await to_end(
            keep_failed(step, Left(key, snapshot, failure.exit_code, failure.output), around, inputs)
        )
        raise
    except ExecutableError as error:
        unstarted = StepNotStarted(error)
        unstarted.step = await to_end(keep_failed(step, Left(key, snapshot, error.exit_code), around, inputs))
        raise unstarted from error
    except BaseException:
        await finish(snapshots.remove(snapshot), what=f"remove snapshot {snapshot}")
        raise
    size, hidden = await _weigh(snapshot, inputs)
    return Made(Part(kind="snapshot", key=snapshot), size, hidden=hidden)


async def _weigh(snapshot: str, inputs: Inputs) -> tuple[int, int]:
    """Bytes of the files that the step wrote, and of the parent's files that it replaced or deleted."""
    upper = await inputs.bench.store.snapshots.upper_path(snapshot)
    async with inputs.bench.view(inputs.parent) as root:
        return await to_end(asyncio.to_thread(weigh_upper, upper, root))


def _secrets(step: RunStep, inputs: Inputs) -> list[bytes]:
    """The secrets that the step is given."""
    given = inputs.settings.secrets
    return [given[mount.name] for mount in step.mounts if mount.kind == "secret" and mount.name in given]
