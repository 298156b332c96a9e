"""RUN: a command in a writable snapshot over the parent, which is frozen when it ends well."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Literal, cast

from tare.base.shielding import finish, to_end
from tare.build.cache import Part
from tare.build.failures import TAIL_LINES, BuildStepFailed
from tare.build.graph import RunStep
from tare.build.ops.hidden import weigh_upper
from tare.build.ops.masking import Mask
from tare.build.ops.mounts import Mounted, mounted
from tare.build.ops.operation import Inputs, Made, located
from tare.build.ops.select import SourceMissing
from tare.build.ops.selection import Selection, missing_source, select_content
from tare.model import new_id
from tare.model.execution import ExecRequest


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


async def make_run(step: RunStep, inputs: Inputs) -> Made:
    """Run the command and freeze what it changed.

    Raises BuildStepFailed for a status other than 0, and what the executor raises. Nothing stays behind then.
    """
    bench, key, tail = inputs.bench, new_id(), _Tail()
    snapshots = bench.store.snapshots
    lowers = await bench.lowers(inputs.parent)

    masks = {stream: Mask(_secrets(step, inputs)) for stream in ("stdout", "stderr")}

    def output(stream: Literal["stdout", "stderr"], data: bytes) -> None:
        if shown := masks[stream].feed(data):
            tail.add(shown)
            inputs.emit(stream, shown)

    try:
        await to_end(snapshots.prepare(key, lowers))
        async with mounted(step, inputs) as around:
            request = _request(step, key, around, inputs)
            code = await bench.executor.execute(request, output)
        for stream, mask in masks.items():
            if rest := mask.finish():
                tail.add(rest)
                inputs.emit(cast(Literal["stdout", "stderr"], stream), rest)
        if code:
            raise BuildStepFailed(
                step.argv, code, output=tail.lines(), source=step.place.source, where=step.place.range
            )
        await bench.protect(inputs.lease, [Part(kind="snapshot", key=key)])
        await to_end(snapshots.commit(key))
    except BaseException:
        await finish(snapshots.remove(key), what=f"remove snapshot {key}")
        raise
    size, hidden = await _weigh(key, inputs)
    return Made(Part(kind="snapshot", key=key), size, hidden=hidden)


async def _weigh(key: str, inputs: Inputs) -> tuple[int, int]:
    """Bytes of the files that the step wrote, and of the parent's files that it replaced or deleted."""
    upper = await inputs.bench.store.snapshots.upper_path(key)
    async with inputs.bench.view(inputs.parent) as root:
        return await to_end(asyncio.to_thread(weigh_upper, upper, root))


def _request(step: RunStep, key: str, around: Mounted, inputs: Inputs) -> ExecRequest:
    settings = inputs.settings
    env = step.env + step.secret_env
    return ExecRequest(
        snapshot=key,
        argv=step.argv,
        env=env + tuple(around.env),
        confidential=bool(step.secret_env) or any(mount.variable for mount in step.mounts),
        cwd=step.cwd,
        user=step.user,
        network=cast(Literal["default", "none", "host"], step.network),
        mounts=tuple(around.binds),
        tmpfs=tuple(around.tmpfs),
        files=tuple(around.files),
        limits=settings.limits,
        insecure=step.insecure,
        extra_hosts=settings.extra_hosts,
        host_ca=settings.host_ca,
        shm_size=settings.shm_size,
    )


def _secrets(step: RunStep, inputs: Inputs) -> list[bytes]:
    """The secrets that the step is given."""
    given = inputs.settings.secrets
    return [given[mount.name] for mount in step.mounts if mount.kind == "secret" and mount.name in given]
