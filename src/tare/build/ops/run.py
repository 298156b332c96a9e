"""RUN: a command in a writable snapshot over the parent, which is frozen when it ends well."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Literal, cast

from tare.base.shielding import finish, to_end
from tare.build.cache import Part
from tare.build.failures import TAIL_LINES, BuildStepFailed
from tare.build.graph import CONTEXT, RunMount, RunStep
from tare.build.ops.copy import missing_source, select_content, write_selection
from tare.build.ops.operation import Inputs, Made, located
from tare.build.ops.rootfs import lstat, resolve
from tare.build.ops.select import SourceMissing
from tare.errors import NotFound
from tare.model import new_id
from tare.model.execution import BindMount, ExecRequest


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
    """What goes into the key beside the definition: the content of bind mounts."""
    contents = []
    for mount in step.mounts:
        if mount.kind == "bind":
            try:
                contents.append(await select_content((mount.source,), mount.origin, inputs))
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

    def output(stream: Literal["stdout", "stderr"], data: bytes) -> None:
        tail.add(data)
        inputs.emit(stream, data)

    try:
        await to_end(snapshots.prepare(key, lowers))
        async with AsyncExitStack() as stack:
            binds = [await stack.enter_async_context(_bind(m, inputs)) for m in step.mounts if m.kind != "tmpfs"]
            request = ExecRequest(
                snapshot=key,
                argv=step.argv,
                env=step.env + step.secret_env,
                cwd=step.cwd,
                user=step.user,
                network=cast(Literal["default", "none", "host"], step.network),
                mounts=tuple(binds),
                tmpfs=tuple(mount.target for mount in step.mounts if mount.kind == "tmpfs"),
                extra_hosts=inputs.settings.extra_hosts,
                host_ca=inputs.settings.host_ca,
                shm_size=inputs.settings.shm_size,
            )
            code = await bench.executor.execute(request, output)
        if code:
            raise BuildStepFailed(
                step.argv, code, output=tail.lines(), source=step.place.source, where=step.place.range
            )
        await bench.protect(inputs.lease, [Part(kind="snapshot", key=key)])
        await to_end(snapshots.commit(key))
    except BaseException:
        await finish(snapshots.remove(key), what=f"remove snapshot {key}")
        raise
    return Made(Part(kind="snapshot", key=key), await snapshots.usage(key))


@asynccontextmanager
async def _bind(mount: RunMount, inputs: Inputs) -> AsyncIterator[BindMount]:
    if mount.kind == "cache":
        async with _cache_directory(mount, inputs) as directory:
            yield BindMount(source=directory, destination=mount.target, read_only=mount.read_only)
        return
    if mount.origin == CONTEXT:
        # Shown as a layer, so that ignored files are not there and writing cannot reach the user's files.
        part = await write_selection((mount.source,), inputs)
        chain: tuple[Part, ...] = (part,)
        source = mount.source.rstrip("/").rpartition("/")[2] if not await _is_tree(mount, inputs) else "/"
    else:
        chain, source = inputs.origins[mount.origin].chain, mount.source
    await inputs.bench.protect(inputs.lease, chain)
    async with inputs.bench.view(chain) as root:
        resolved = await asyncio.to_thread(_existing, root, source)
        if resolved is None:
            raise NotFound(f"mount source {mount.source} of {mount.target}: not found")
        yield BindMount(source=root / resolved, destination=mount.target)


async def _is_tree(mount: RunMount, inputs: Inputs) -> bool:
    assert inputs.context is not None
    root = inputs.context.root
    return await asyncio.to_thread(_is_directory, root, mount.source)


def _existing(root: Path, path: str) -> str | None:
    resolved = resolve(root, path)
    return resolved if lstat(root, resolved) is not None else None


def _is_directory(root: Path, path: str) -> bool:
    return (root / resolve(root, path)).is_dir()


@asynccontextmanager
async def _cache_directory(mount: RunMount, inputs: Inputs) -> AsyncIterator[Path]:
    name = hashlib.sha256(mount.cache_id.encode()).hexdigest()[:32]
    directory = inputs.bench.cache_mounts / name

    def make() -> None:
        if not directory.is_dir():
            directory.mkdir(parents=True, exist_ok=True)
            directory.chmod(mount.mode)
            os.chown(directory, mount.uid, mount.gid)

    if mount.sharing == "shared":
        await asyncio.to_thread(make)
        yield directory
        return
    async with inputs.bench.locks.hold(name):  # `private` is served as `locked`: nobody else sees it meanwhile
        await asyncio.to_thread(make)
        yield directory
