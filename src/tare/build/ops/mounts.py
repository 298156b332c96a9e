"""What the mounts of a RUN step show: made for the length of the step, undone afterwards."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tare.base.shielding import finish, to_end
from tare.build.cache import Part
from tare.build.graph import RunMount, RunStep, is_context
from tare.build.ops.cache_mounts import cache_directory
from tare.build.ops.operation import Inputs
from tare.build.ops.rootfs import lstat, resolve
from tare.build.ops.selection import write_selection
from tare.build.ops.ssh import agent_socket
from tare.errors import NotFound
from tare.model import new_id
from tare.model.execution import BindMount, MemoryFile, Tmpfs
from tare.store.snapshotter import Lower

_SECRET_MODE = 0o400
_SOCKET_MODE = 0o600


@dataclass(slots=True)
class Mounted:
    """What a step sees beside its root file system."""

    binds: list[BindMount] = field(default_factory=list)
    tmpfs: list[Tmpfs] = field(default_factory=list)
    files: list[MemoryFile] = field(default_factory=list, repr=False)
    env: list[str] = field(default_factory=list, repr=False)
    shown: dict[str, tuple[tuple[Part, ...], str]] = field(default_factory=dict)
    """The file system that each bind comes from, and the path in it, by target."""


@asynccontextmanager
async def mounted(step: RunStep, inputs: Inputs) -> AsyncIterator[Mounted]:
    """Everything that the step's mounts ask for.

    Raises NotFound for a source, a required secret or a required agent that is not there.
    """
    found = Mounted()
    if step.script is not None:
        found.files.append(MemoryFile(destination=step.script.path, data=step.script.text.encode(), mode=0o755))
    async with AsyncExitStack() as stack:
        for mount in step.mounts:
            match mount.kind:
                case "tmpfs":
                    found.tmpfs.append(Tmpfs(destination=mount.target, size=mount.size))
                case "secret":
                    _secret(mount, inputs, found)
                case "ssh":
                    await _agent(mount, inputs, found, stack)
                case "cache":
                    directory = await stack.enter_async_context(cache_directory(mount, step.user, inputs))
                    bind = BindMount(source=directory, destination=mount.target, read_only=mount.read_only)
                    found.binds.append(bind)
                case _:
                    found.shown[mount.target] = chain, source = await _shown(mount, inputs)
                    found.binds.append(await stack.enter_async_context(_bind(mount, chain, source, inputs)))
        yield found


def _secret(mount: RunMount, inputs: Inputs, found: Mounted) -> None:
    data = inputs.settings.secrets.get(mount.name)
    if data is None:
        if mount.required:
            raise NotFound(
                f"secret {mount.name}: not found",
                hint=f"give it with --secret id={mount.name},src=FILE",
                code="secret-missing",
            )
        return
    if mount.variable:
        found.env.append(f"{mount.variable}={os.fsdecode(data)}")
    if mount.target:
        mode = _SECRET_MODE if mount.mode is None else mount.mode
        found.files.append(
            MemoryFile(destination=mount.target, data=data, mode=mode, uid=mount.uid or 0, gid=mount.gid or 0)
        )


async def _agent(mount: RunMount, inputs: Inputs, found: Mounted, stack: AsyncExitStack) -> None:
    paths = inputs.settings.ssh.get(mount.name)
    if paths is None:
        if mount.required:
            raise NotFound(
                f"ssh agent {mount.name}: not found", hint=f"forward it with --ssh {mount.name}", code="ssh-missing"
            )
        return
    mode = _SOCKET_MODE if mount.mode is None else mount.mode
    directory = inputs.bench.directory / "ssh"
    socket = await stack.enter_async_context(
        agent_socket(paths, directory, mode=mode, uid=mount.uid or 0, gid=mount.gid or 0)
    )
    found.binds.append(BindMount(source=socket, destination=mount.target, read_only=False))
    if not any(item.startswith("SSH_AUTH_SOCK=") for item in found.env):
        found.env.append(f"SSH_AUTH_SOCK={mount.target}")


@asynccontextmanager
async def _bind(mount: RunMount, chain: tuple[Part, ...], source: str, inputs: Inputs) -> AsyncIterator[BindMount]:
    await inputs.bench.protect(inputs.lease, chain)
    tree = inputs.bench.view(chain) if mount.read_only else _discarded(chain, inputs)
    async with tree as root:
        resolved = await asyncio.to_thread(existing, root, source)
        if resolved is None:
            raise NotFound(f"mount source {mount.source} of {mount.target}: not found")
        yield BindMount(source=root / resolved, destination=mount.target, read_only=mount.read_only)


async def _shown(mount: RunMount, inputs: Inputs) -> tuple[tuple[Part, ...], str]:
    """The file system that is shown and the path in it.

    Files of the context are shown as a layer, so that ignored files are not there, all belongs to root and writing
    cannot reach the user's files.
    """
    if not is_context(mount.origin):
        return inputs.origins[mount.origin].chain, mount.source
    part = await write_selection((mount.source,), inputs, mount.origin)
    tree = await asyncio.to_thread(_is_directory, inputs.tree(mount.origin).root, mount.source)
    return (part,), "/" if tree else mount.source.rstrip("/").rpartition("/")[2]


@asynccontextmanager
async def _discarded(chain: tuple[Part, ...], inputs: Inputs) -> AsyncIterator[Path]:
    """The file system, writable; what is written is thrown away."""
    snapshots, key = inputs.bench.store.snapshots, new_id()
    target = inputs.bench.views / key[:16]
    lowers: list[Lower] = await inputs.bench.lowers(chain)
    try:
        await to_end(snapshots.prepare(key, lowers))
        await asyncio.to_thread(target.mkdir, parents=True)
        try:
            await to_end(snapshots.mount(key, target))
            yield target
        finally:
            await finish(inputs.bench.drop_view(target), what=f"unmount {target}")
    finally:
        await finish(snapshots.remove(key), what=f"remove snapshot {key}")


def existing(root: Path, path: str) -> str | None:
    """``path`` in ``root`` with its links followed; None when nothing is there."""
    resolved = resolve(root, path)
    return resolved if lstat(root, resolved) is not None else None


def _is_directory(root: Path, path: str) -> bool:
    return (root / resolve(root, path)).is_dir()
