"""Directories of ``RUN --mount=type=cache`` for a step: found or made, and held.

Their names are ``<digest of the id>[.<number>]``. Numbers tell apart the directories of a private cache that several
steps use at the same time.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tare.base.process import run
from tare.base.shielding import finish, to_end
from tare.base.trees import remove_tree, try_to_remove_tree
from tare.build.cache.mount_store import CONTENT, ID
from tare.build.graph import RunMount
from tare.build.ops.operation import Inputs
from tare.build.ops.rootfs import find_owner, is_directory, lstat, resolve
from tare.build.ops.selection import origin_chain
from tare.errors import InternalError, NotFound

_MODE = 0o755


@dataclass(frozen=True, slots=True)
class _Attributes:
    mode: int
    uid: int
    gid: int


@asynccontextmanager
async def cache_directory(mount: RunMount, user: str, inputs: Inputs) -> AsyncIterator[Path]:
    """The content of the cache ``mount.name``, held in its way of sharing for the length of the block.

    ``shared``: anybody else may use it, too. ``locked``: one at a time. ``private``: who comes while it is in use gets
    another one. A new directory has the owner and mode that the mount says, else those of the mount point in the image,
    else it belongs to ``user``. Raises NotFound for a user or a source that does not exist.
    """
    bench = inputs.bench
    name = hashlib.sha256(mount.name.encode()).hexdigest()[:32]
    if mount.sharing == "private":
        number = 0
        while (slot := f"{name}.{number}" if number else name) in bench.private_caches:
            number += 1
        bench.private_caches.add(slot)
        try:
            async with _used(slot, mount, user, inputs) as content:
                yield content
        finally:
            bench.private_caches.discard(slot)
    elif mount.sharing == "locked":
        async with bench.locks.hold(f"cache {name}"), _used(name, mount, user, inputs) as content:
            yield content
    else:
        async with _used(name, mount, user, inputs) as content:
            yield content


@asynccontextmanager
async def _used(name: str, mount: RunMount, user: str, inputs: Inputs) -> AsyncIterator[Path]:
    """The content directory; made first where it is missing, by one step at a time."""
    mounts = inputs.bench.mounts
    content = mounts.content(name)
    with mounts.using(name):
        async with inputs.bench.locks.hold(f"make {name}"):
            if not await asyncio.to_thread(content.is_dir):
                await to_end(_make(name, mount, user, inputs))
            await mounts.note_use(name, mount.name)
        yield content


async def _make(name: str, mount: RunMount, user: str, inputs: Inputs) -> None:
    mounts = inputs.bench.mounts
    directory, fresh = mounts.content(name).parent, mounts.making(name)
    attributes = await _attributes(mount, user, inputs)
    try:
        await asyncio.to_thread((fresh / CONTENT).mkdir, parents=True)
        if mount.from_image:
            await _fill(fresh / CONTENT, mount, inputs)
        await asyncio.to_thread(_settle, fresh, directory, mount.name, attributes)
    except BaseException:
        await finish(asyncio.to_thread(try_to_remove_tree, fresh), what=f"remove {fresh}")
        raise


def _settle(fresh: Path, directory: Path, name: str, attributes: _Attributes) -> None:
    content = fresh / CONTENT
    os.chown(content, attributes.uid, attributes.gid)
    content.chmod(attributes.mode)
    (fresh / ID).write_text(name)
    if directory.exists():
        remove_tree(directory)
    fresh.rename(directory)


async def _fill(content: Path, mount: RunMount, inputs: Inputs) -> None:
    """Copy the first content out of a stage or an image."""
    async with inputs.bench.view(await origin_chain(mount.origin, inputs)) as root:
        resolved = await asyncio.to_thread(resolve, root, mount.source)
        status = await asyncio.to_thread(lstat, root, resolved)
        if not is_directory(status):
            raise NotFound(
                f"cache mount {mount.target}: {mount.source} is no directory in {mount.origin_name}",
                hint="source= names a directory",
            )
        done = await run(["cp", "--archive", "--", f"{root / resolved}/.", str(content)])
    if done.returncode:
        raise InternalError(f"cache mount {mount.target}: {done.error_text}")


async def _attributes(mount: RunMount, user: str, inputs: Inputs) -> _Attributes:
    """What the mount says, else what the mount point in the image has, else the step's user."""
    if mount.mode is not None and mount.uid is not None and mount.gid is not None:
        return _Attributes(mount.mode, mount.uid, mount.gid)
    async with inputs.bench.view(inputs.parent) as root:
        default = await asyncio.to_thread(_default, root, mount.target, user)
    return _Attributes(
        default.mode if mount.mode is None else mount.mode,
        default.uid if mount.uid is None else mount.uid,
        default.gid if mount.gid is None else mount.gid,
    )


def _default(root: Path, target: str, user: str) -> _Attributes:
    status = lstat(root, resolve(root, target))
    if status is not None and is_directory(status):
        return _Attributes(stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
    owner = find_owner(root, user) if user else None
    return _Attributes(_MODE, owner.uid if owner else 0, owner.gid if owner else 0)
