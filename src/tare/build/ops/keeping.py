"""Steps that one can look into: kept when they fail, entered later."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Literal

from tare.base.shielding import finish, to_end
from tare.build.cache import Part, Result
from tare.build.dockerfile.source import Source, SourceRange
from tare.build.graph import Place, RunMount, RunStep
from tare.build.kept import KeptMount, KeptStep
from tare.build.ops.mounts import Mounted, mounted
from tare.build.ops.operation import Inputs, Settings
from tare.build.ops.requests import exec_request
from tare.build.ops.workbench import Workbench
from tare.errors import NotFound
from tare.model import new_id
from tare.model.execution import ExecRequest

logger = logging.getLogger(__name__)

_SHOWN = "shown-{}"
"""The origin under which a kept mount's file system is handed to the mounting code."""


@dataclass(frozen=True, slots=True)
class Left:
    """What a failed step leaves: its cache key, its active snapshot, exit code and last output lines."""

    key: str
    snapshot: str
    exit_code: int
    output: tuple[str, ...] = ()


async def keep_failed(step: RunStep, left: Left, around: Mounted, inputs: Inputs) -> str:
    """Keep what the failed step left in its unmounted snapshot; returns the reference, empty when it is not kept.

    Never raises on its own account: the failure itself is what must be told. Without keeping, the snapshot is deleted.
    """
    bench = inputs.bench
    try:
        if inputs.settings.keep_failed or await bench.kept.wanted():
            await bench.protect(inputs.lease, [Part(kind="snapshot", key=left.snapshot)])
            await bench.store.snapshots.commit(left.snapshot)
            size = await bench.store.snapshots.usage(left.snapshot)
            kept = _described(step, left, around, inputs, size)
            await bench.kept.keep(kept)
            return kept.reference
    except Exception:
        logger.exception("the failed step %s cannot be kept", left.key[:19])
    await finish(bench.store.snapshots.remove(left.snapshot), what=f"remove snapshot {left.snapshot}")
    return ""


def _described(step: RunStep, left: Left, around: Mounted, inputs: Inputs, size: int) -> KeptStep:
    settings = inputs.settings
    return KeptStep(
        key=left.key,
        stage=step.stage,
        text=step.text,
        place=f"{step.place.source.name}:{step.place.range.first_line}",
        argv=step.argv,
        script=step.script,
        env=step.env,
        cwd=step.cwd,
        user=step.user,
        network=step.network,
        insecure=step.insecure,
        mounts=tuple(_kept_mount(mount, around, inputs) for mount in step.mounts if not _is_secret(mount)),
        withheld=_withheld(step),
        parent=inputs.parent,
        part=Part(kind="snapshot", key=left.snapshot),
        exit_code=left.exit_code,
        output=left.output,
        created=time.time(),
        extra_hosts=settings.extra_hosts,
        shm_size=settings.shm_size,
        host_ca=settings.host_ca,
        limits=settings.limits,
        bytes=size,
    )


def _is_secret(mount: RunMount) -> bool:
    return mount.kind in ("secret", "ssh")


def _kept_mount(mount: RunMount, around: Mounted, inputs: Inputs) -> KeptMount:
    if mount.kind == "bind":
        chain, source = around.shown[mount.target]
        return KeptMount(mount=replace(mount, source=source), chain=chain)
    chain = inputs.origins[mount.origin].chain if mount.from_image else ()
    return KeptMount(mount=mount, chain=chain)


def _withheld(step: RunStep) -> tuple[str, ...]:
    """What a visitor does not find again, in words."""
    mounts = [f"{'secret' if mount.kind == 'secret' else 'ssh agent'} {mount.name}" for mount in step.mounts
              if _is_secret(mount)]  # fmt: skip
    return (*mounts, *(f"variable {item.partition('=')[0]}" for item in step.secret_env))


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """How a kept step is entered: the command, and who runs it (None: the step's user).

    ``before`` shows the file system that the step began with.
    """

    argv: tuple[str, ...]
    user: str | None = None
    before: bool = False


@asynccontextmanager
async def entered(kept: KeptStep, visit: Visit, bench: Workbench) -> AsyncIterator[ExecRequest]:
    """What to execute in a writable copy of the step's file system, which is gone after the block.

    The surroundings are the step's: environment, directory, network, cache mounts (which are the builds' own), binds
    whose origin still exists. Raises NotFound when the file system is gone or the user does not exist.
    """
    snapshots, scratch = bench.store.snapshots, new_id()
    chain = kept.parent if visit.before else (*kept.parent, kept.part)
    async with bench.store.leases.hold() as lease:
        await bench.protect(lease, chain)
        inputs = Inputs(
            bench=bench,
            parent=kept.parent,
            origins={_SHOWN.format(place): Result(chain=item.chain) for place, item in enumerate(kept.mounts)},
            context=None,
            settings=Settings(
                extra_hosts=kept.extra_hosts, shm_size=kept.shm_size, host_ca=kept.host_ca, limits=kept.limits
            ),
            emit=_ignore,
            lease=lease,
        )
        step = _as_step(kept, visit, await _available(kept.mounts, lease, bench))
        try:
            try:
                await to_end(snapshots.prepare(scratch, await bench.lowers(chain)))
            except NotFound as error:
                raise NotFound(
                    f"{kept.reference}: its file system is gone: {error.message}", hint="build again"
                ) from error
            async with mounted(step, inputs) as around:
                yield exec_request(step, scratch, around, inputs)
        finally:
            await finish(snapshots.remove(scratch), what=f"remove snapshot {scratch}")
            await finish(bench.kept.release(kept), what=f"release {kept.reference}")


async def _available(mounts: Sequence[KeptMount], lease: str, bench: Workbench) -> list[RunMount]:
    """The mounts that can be made again."""
    found = []
    for place, item in enumerate(mounts):
        try:
            await bench.protect(lease, item.chain)
            await bench.lowers(item.chain)
        except NotFound as error:
            logger.info("mount %s is left out: %s", item.mount.target, error)
            continue
        # A shell may stay for hours: it must not make builds wait for a locked cache, nor begin a private one anew.
        found.append(replace(item.mount, origin=_SHOWN.format(place), sharing="shared"))
    return found


def _as_step(kept: KeptStep, visit: Visit, mounts: list[RunMount]) -> RunStep:
    name, _, line = kept.place.rpartition(":")
    where = SourceRange(int(line or 0), int(line or 0))
    return RunStep(
        id=kept.id,
        stage=kept.stage,
        text=kept.text,
        place=Place(Source(name, ()), where),
        argv=visit.argv,
        script=kept.script,
        env=kept.env,
        cwd=kept.cwd,
        user=kept.user if visit.user is None else visit.user,
        network=kept.network,
        insecure=kept.insecure,
        mounts=tuple(mounts),
    )


def _ignore(stream: Literal["stdout", "stderr"], data: bytes) -> None:
    pass
