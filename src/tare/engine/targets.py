"""What debugging looks at: a container, running or at rest, or an image; its root file system shown in a directory.

A running container is seen from inside: a copy of its root mount with all that is mounted there, live. One at rest is
mounted for the time, with its volumes; its start, its removal, and the end of a run dismiss who looks. Of an image
there is a writable copy that is thrown away. Nothing is written unless that was asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from tare.base.locks import KeyedLocks
from tare.base.shielding import finish, to_end
from tare.build.builder import Builder
from tare.engine.container_root import RestingRoots, copy_with_mounts
from tare.engine.paths import EnginePaths
from tare.engine.records import ContainerRecords
from tare.engine.sandbox import Sandboxes
from tare.errors import Conflict, InvalidArgument, NotFound, TareError
from tare.kernel.idmap import DetachedMount
from tare.kernel.joining import ProcessNamespaces
from tare.kernel.mounts import unmount_below
from tare.kernel.private_mounts import in_private_mounts
from tare.model import ContainerStatus, new_id, short_id
from tare.model.container import Container
from tare.store.images import Image
from tare.store.store import Store

Kind = Literal["container", "image", "step"]
KINDS: tuple[Kind, ...] = ("container", "image", "step")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What was named: a container, an image, or a build step (of which there is only the ``name``)."""

    kind: Kind
    name: str
    container: Container | None = None
    image: Image | None = None

    @property
    def title(self) -> str:
        """For messages: ``container web``."""
        return self.name if self.kind == "step" else f"{self.kind} {self.name}"

    @property
    def env(self) -> tuple[str, ...]:
        """The environment that it gives its processes, as ``NAME=value``."""
        if self.container is not None:
            return tuple(self.container.config.env or ())
        return tuple(self.image.config.config.env or ()) if self.image is not None else ()


class Visitor(Protocol):
    """Who looks: told to leave, and of what it cannot see."""

    notes: tuple[str, ...]

    def leave(self, why: str) -> None:
        """See :data:`tare.engine.visitors.Leave`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A target that is visible. ``namespaces`` are those of a container's process; None when nothing runs.

    ``files`` are the container's own resolv.conf, hosts and hostname by their places.
    """

    namespaces: ProcessNamespaces | None
    files: dict[str, Path]


class Targets:
    """Finds targets and shows them."""

    def __init__(
        self,
        *,
        records: ContainerRecords,
        store: Store,
        sandboxes: Sandboxes,
        resting: RestingRoots,
        locks: KeyedLocks,
        paths: EnginePaths,
        builder: Builder,
    ) -> None:
        self._records = records
        self._store = store
        self._sandboxes = sandboxes
        self._resting = resting
        self._locks = locks
        self._paths = paths
        self._builder = builder

    async def find(self, name: str, kind: str = "") -> Target:
        """What a user means by ``name``: ``step:…`` is a build step; else a container, an image or a step, the first of
        these that there is.

        ``kind`` leaves only one of the three. Raises NotFound, InvalidArgument, Conflict for an identifier's beginning
        that several have.
        """
        if kind and kind not in KINDS:
            raise InvalidArgument(f"invalid type {kind!r}", hint="container, image or step")
        if not name:
            raise InvalidArgument("no container, image or step was named")
        for wanted in (kind,) if kind else ("step",) if name.startswith("step:") else KINDS:
            try:
                return await self._find(name, wanted)
            except NotFound:
                if kind or name.startswith("step:"):
                    raise
            except InvalidArgument:
                if wanted == "container" or kind or name.startswith("step:"):
                    raise  # a name that is no image's or step's is not there
        raise NotFound(
            f"no such container, image or step: {name}",
            hint="tare ps -a, tare images and tare debug --ls list what there is",
            code="no-such-target",
        )

    async def _find(self, name: str, kind: str) -> Target:
        if kind == "container":
            container = await self._records.get(name)
            return Target(kind="container", name=container.name, container=container)
        if kind == "image":
            image = await self._store.images.resolve(name)
            title = image.tags[0].familiar() if image.tags else short_id(str(image.id))
            return Target(kind="image", name=title, image=image)
        return Target(kind="step", name=(await self._builder.find_step(name)).reference)

    @asynccontextmanager
    async def shown(self, target: Target, place: Path, visitor: Visitor, *, write: bool) -> AsyncIterator[Shown]:
        """The target's root at the empty directory ``place`` for the length of the block; writable only with ``write``.

        :meth:`Visitors.visiting` and the mounts of a container end with the block. Raises Conflict for a container
        that is being removed or ends at this moment, NotFound, Unsupported.
        """
        async with AsyncExitStack() as stack:
            if target.image is not None:
                shown = await self._show_image(target.image, place, stack, write=write)
            else:
                assert target.container is not None
                shown = await self._show_container(target.container, place, visitor, stack, write=write)
            yield shown

    async def _show_image(self, image: Image, place: Path, stack: AsyncExitStack, *, write: bool) -> Shown:
        snapshots, key = self._store.snapshots, new_id()
        lease = await stack.enter_async_context(self._store.leases.hold())
        await self._store.leases.add(lease, "image", str(image.id))
        lowers = [await snapshots.ensure_layer(diff_id) for diff_id in image.diff_ids]
        if write:
            stack.push_async_callback(finish, snapshots.remove(key), what=f"snapshot {key}")
            await to_end(snapshots.prepare(key, lowers))
        stack.push_async_callback(finish, snapshots.unmount(place), what=f"image at {place}")
        await to_end(snapshots.mount(key, place) if write else snapshots.view(lowers, place))
        return Shown(namespaces=None, files={})

    async def _show_container(
        self, container: Container, place: Path, visitor: Visitor, stack: AsyncExitStack, *, write: bool
    ) -> Shown:
        stack.push_async_callback(finish, asyncio.to_thread(unmount_below, place), what=f"root at {place}")
        async with self._locks.hold(container.id):
            container = await self._records.get(container.id)
            status = ContainerStatus(container.state.status)
            if status in (ContainerStatus.REMOVING, ContainerStatus.DEAD):
                raise Conflict(f"container {container.name} is being removed", code="removing")
            stack.enter_context(self._sandboxes.visitors.visiting(container.id, visitor.leave))
            if status.is_live:
                namespaces = await asyncio.to_thread(ProcessNamespaces.of_process, container.state.pid, container.id)
                stack.enter_context(namespaces)
                tree = await asyncio.to_thread(namespaces.copy_root)
            else:
                namespaces = None
                tree = await self._resting_tree(container, visitor, stack)
            await to_end(asyncio.to_thread(_attach, tree, place, write=write))
        files = await self._sandboxes.name_files(container) if namespaces is not None else {}
        return Shown(namespaces=namespaces, files=files)

    async def _resting_tree(self, container: Container, visitor: Visitor, stack: AsyncExitStack) -> DetachedMount:
        """The root of a container that does not run; without its volumes when they cannot be had, which is noted."""
        await self._resting.enter(container)
        stack.push_async_callback(finish, self._resting.leave(container.id), what=f"files of {container.id[:12]}")
        root = self._paths.rootfs(container.id)
        names = {f"/etc/{name}": self._paths.container(container.id) / name for name in ("resolv.conf", "hosts")}
        try:
            whole = await self._resting.prepared(container)
            return await in_private_mounts(lambda: copy_with_mounts(root, whole, names))
        except (TareError, OSError) as error:
            visitor.notes += (f"volumes and bind mounts are not shown: {error}",)
            bare = msgspec.structs.replace(container, mounts=[])
            return await in_private_mounts(lambda: copy_with_mounts(root, bare, {}))


def _attach(tree: DetachedMount, place: Path, *, write: bool) -> None:
    with tree:
        if not write:
            tree.make_read_only()
        tree.attach(place)
