"""``commit``: an image from what a container has changed."""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec

from tare.base.shielding import finish
from tare.engine.clock import now
from tare.engine.container_files import MOUNT_POINTS
from tare.engine.events import Events
from tare.engine.image_names import check_new_name
from tare.engine.lifecycle import Lifecycle
from tare.engine.records import ContainerRecords
from tare.errors import Conflict, NotFound
from tare.model import ContainerStatus, Digest, Reference
from tare.model.container import Container, ContainerConfig
from tare.oci.image import ExecutionConfig, Healthcheck, History, ImageConfig, RootFS
from tare.store.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitRequest:
    """What to make; ``changes`` is laid over the container's own configuration. ``pause`` freezes it meanwhile.

    ``replacing``: ``changes`` is a configuration of its own, whose variables come before those of the container.
    """

    name: Reference | None = None
    author: str = ""
    comment: str = ""
    changes: ExecutionConfig = field(default_factory=ExecutionConfig)
    replacing: bool = False
    pause: bool = True


class Commits:
    """Makes images from containers."""

    def __init__(self, *, records: ContainerRecords, store: Store, lifecycle: Lifecycle, events: Events) -> None:
        self._records = records
        self._store = store
        self._lifecycle = lifecycle
        self._events = events

    async def commit(self, reference: str, request: CommitRequest) -> Digest:
        """Make an image with one more layer than the container's and return its ID.

        Raises NotFound, Conflict while the container is being removed, Exhausted.
        """
        if request.name is not None:
            check_new_name(request.name, "refusing to create a tag with a digest reference")
        container = await self._records.get(reference)
        if container.state.status in (ContainerStatus.REMOVING, ContainerStatus.DEAD):
            raise Conflict(f"You cannot commit container {container.id} which is being removed", code="removing")
        parent = await self._store.images.get(Digest.parse(container.image_id))
        async with self._store.leases.hold() as lease:
            async with self._frozen(container, wanted=request.pause):
                layer = await self._write_layer(container, lease)
            document = _document(parent.config, container, request, layer)
            image = await self._store.images.create(document, tag=request.name)
        shown = request.name.familiar() if request.name else ""
        labels = document.config.labels or {}
        self._events.publish("image", "create", str(image), {**labels, "name": str(image)})
        if request.name is not None:
            self._events.publish("image", "tag", str(image), {**labels, "name": shown})
        self._lifecycle.emit(
            container, "commit", {"comment": request.comment, "imageID": str(image), "imageRef": shown}
        )
        return image

    async def _write_layer(self, container: Container, lease: str) -> Digest | None:
        snapshots = self._store.snapshots
        if not await snapshots.changes(container.id, MOUNT_POINTS):
            return None
        return await snapshots.write_changes(container.id, lease=lease, mount_points=MOUNT_POINTS)

    @asynccontextmanager
    async def _frozen(self, container: Container, *, wanted: bool) -> AsyncIterator[None]:
        if not wanted or container.state.status != ContainerStatus.RUNNING:
            yield
            return
        frozen = False
        with contextlib.suppress(Conflict):  # it has ended, or somebody else has paused it
            await self._lifecycle.pause(container.id)
            frozen = True
        try:
            yield
        finally:
            if frozen:
                await finish(self._thaw(container.id), what=f"unpause {container.name}")

    async def _thaw(self, container_id: str) -> None:
        with contextlib.suppress(Conflict, NotFound):
            await self._lifecycle.unpause(container_id)


def _document(parent: ImageConfig, container: Container, request: CommitRequest, layer: Digest | None) -> ImageConfig:
    moment = now()
    step = History(
        created=moment,
        created_by=" ".join(container.config.cmd or []),
        author=request.author,
        comment=request.comment,
        empty_layer=layer is None,
    )
    layers = [*parent.rootfs.diff_ids, *([str(layer)] if layer is not None else [])]
    return ImageConfig(
        architecture=parent.architecture,
        os=parent.os,
        variant=parent.variant,
        created=moment,
        author=request.author,
        config=merge(execution_config(container.config), request.changes, leading=request.replacing),
        rootfs=RootFS(diff_ids=layers),
        history=[*parent.history, step],
    )


def execution_config(config: ContainerConfig) -> ExecutionConfig:
    """What of a container's configuration belongs into an image's."""
    health = config.healthcheck
    return ExecutionConfig(
        user=config.user,
        exposed_ports=config.exposed_ports,
        env=config.env,
        entrypoint=config.entrypoint,
        cmd=config.cmd,
        volumes=config.volumes,
        working_dir=config.working_dir,
        labels=config.labels or None,
        stop_signal=config.stop_signal,
        healthcheck=msgspec.convert(msgspec.to_builtins(health), Healthcheck) if health is not None else None,
        on_build=config.on_build,
        shell=config.shell,
    )


def merge(base: ExecutionConfig, changes: ExecutionConfig, *, leading: bool = False) -> ExecutionConfig:
    """``base`` after Dockerfile instructions that gave ``changes``; an entrypoint without a command drops that.

    With ``leading`` the variables of ``changes`` come first.
    """
    known, given = ({item.partition("=")[0]: item for item in one.env or []} for one in (base, changes))
    named = given | {name: item for name, item in known.items() if name not in given} if leading else known | given
    directory = changes.working_dir and posixpath.normpath(posixpath.join(base.working_dir or "/", changes.working_dir))
    return ExecutionConfig(
        user=changes.user or base.user,
        exposed_ports={**(base.exposed_ports or {}), **(changes.exposed_ports or {})} or None,
        env=list(named.values()) or None,
        entrypoint=base.entrypoint if changes.entrypoint is None else changes.entrypoint,
        cmd=base.cmd if changes.cmd is None and changes.entrypoint is None else changes.cmd,
        volumes={**(base.volumes or {}), **(changes.volumes or {})} or None,
        working_dir=directory or base.working_dir,
        labels={**(base.labels or {}), **(changes.labels or {})} or None,
        stop_signal=changes.stop_signal or base.stop_signal,
        healthcheck=changes.healthcheck or base.healthcheck,
        on_build=[*(base.on_build or []), *(changes.on_build or [])] or None,
        shell=base.shell,
    )
