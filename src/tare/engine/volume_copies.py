"""Snapshots, clones, restores and backups of volumes."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from tare.archive.compression import Compression
from tare.base.locks import KeyedLocks
from tare.base.readers import Readable
from tare.base.shielding import finish
from tare.engine.events import Events
from tare.engine.quiesce import Quiescer
from tare.engine.volume_files import VolumeFiles
from tare.errors import Conflict, InvalidArgument, NotFound, Unsupported
from tare.model.container import Container
from tare.store.space import disk_errors
from tare.store.threads import Abort, run_undoable
from tare.store.usage import disk_usage
from tare.volumes.backup import MANIFEST, Header, read_backup, write_backup, write_manifest
from tare.volumes.catalogue import Volume, VolumeCatalogue
from tare.volumes.copying import TreeCopy
from tare.volumes.model import ANONYMOUS_LABEL
from tare.volumes.snapshots import DATA, Snapshot, SnapshotStore

T = TypeVar("T")

_CATCH_UP_SECONDS = 0.5  # a first pass that took longer is followed by another one before anything is frozen
_RUNNING = ("running", "paused", "restarting")


class VolumeCopies:
    """The service; each operation has its volume to itself."""

    def __init__(
        self,
        volumes: VolumeCatalogue,
        store: SnapshotStore,
        quiescer: Quiescer,
        files: VolumeFiles,
        events: Events,
    ) -> None:
        self._volumes = volumes
        self._files = files
        self._store = store
        self._quiescer = quiescer
        self._events = events
        self._locks = KeyedLocks()

    async def recover(self) -> None:
        """Thaw containers, finish or undo what a crash has cut short; before containers are adopted."""
        await self._quiescer.recover()
        await self._store.recover()

    async def list(self, name: str) -> list[Snapshot]:
        """The volume's snapshots, oldest first. Raises NotFound."""
        await self._volumes.get(name)
        return await self._store.list(name)

    async def usage(self) -> dict[str, tuple[int, int]]:
        """Number and bytes of the snapshots, by volume."""
        return await self._store.usage()

    async def snapshot(self, name: str, snapshot_name: str = "") -> Snapshot:
        """Keep what the volume holds now; the name is chosen from the time (UTC) when none is given.

        Raises NotFound, Conflict for a name that is taken, InvalidArgument, Unsupported for volumes without a directory
        on this host, Unavailable when a container cannot be frozen, Exhausted. Nothing is left behind then.
        """
        volume = await self._volumes.get(name)
        source = local_directory(volume)
        async with self._locks.hold(name):
            chosen = snapshot_name or await self._free_name(name, "")
            await self._store.check_free(name, chosen)
            async with self._new_directory() as directory:
                copied, frozen, size = await self._copy_still(volume, source, directory / DATA)
                snapshot = _new(volume, chosen, directory, method=copied.method, size=size, frozen=frozen)
                await self._store.add(snapshot)
        self._events.publish("volume", "snapshot", name, {"driver": volume.driver, "snapshot": chosen})
        return snapshot

    async def remove(self, name: str, snapshot_name: str) -> Snapshot:
        """Delete a snapshot. Raises NotFound."""
        async with self._locks.hold(name):
            await self._volumes.get(name)
            return await self._store.remove(name, snapshot_name)

    async def clone(self, name: str, new_name: str, snapshot_name: str = "") -> Volume:
        """Make a volume of what another one holds, or held when ``snapshot_name`` was taken.

        Raises as :meth:`snapshot`, Conflict when the new name is taken.
        """
        if not new_name:
            raise InvalidArgument("a clone needs a name")
        async with self._hold(name, new_name):
            volume = await self._volumes.get(name)
            await self._check_new(new_name)
            async with self._new_directory() as directory:
                if snapshot_name:
                    snapshot = await self._store.get(name, snapshot_name)
                    await self._copy_calm(self._store.content(snapshot), directory / DATA)
                else:
                    await self._copy_still(volume, local_directory(volume), directory / DATA)
                labels = {key: value for key, value in volume.labels.items() if key != ANONYMOUS_LABEL}
                return await self._install(directory, new_name, labels)

    async def restore(self, name: str, snapshot_name: str) -> Snapshot:
        """Give the volume what it held when the snapshot was taken; answers the snapshot of what it held until now.

        Raises NotFound, Conflict naming the containers that run with it, Unsupported for volumes whose directory is not
        the engine's own, Exhausted.
        """
        async with self._locks.hold(name):
            volume = await self._volumes.get(name)
            snapshot = await self._store.get(name, snapshot_name)
            await self._check_restorable(volume)
            async with self._new_directory() as directory:
                await self._copy_calm(self._store.content(snapshot), directory / DATA)
                return await self._swap(volume, directory)

    async def backup(
        self, name: str, *, compression: Compression = Compression.NONE, snapshot_name: str = ""
    ) -> AsyncGenerator[bytes, None]:
        """The bytes of a backup: of a snapshot, or of what the volume holds now. Raises as :meth:`snapshot`."""
        async with self._new_directory() as directory:
            content, manifest = directory / DATA, directory / MANIFEST
            async with self._locks.hold(name):
                volume = await self._volumes.get(name)
                if snapshot_name:
                    await self._copy_calm(self._store.content(await self._store.get(name, snapshot_name)), content)
                else:
                    await self._copy_still(volume, local_directory(volume), content)
            header = Header(name, volume.labels)
            await _in_thread(directory, lambda check: write_manifest(content, manifest, header, check))
            async for data in write_backup(content, manifest, compression):
                yield data

    async def restore_backup(self, name: str, stream: Readable) -> Snapshot | None:
        """Give the volume what a backup holds, and make it when there is none; answers what it held until now.

        Raises DataCorrupt for a backup that is damaged, incomplete or none, and as :meth:`restore`. Nothing has changed
        then.
        """
        async with self._locks.hold(name):
            volume = await self._find(name)
            if volume is None:
                await self._check_new(name)
            else:
                await self._check_restorable(volume)
            async with self._new_directory() as directory:
                header = await _in_thread(directory, lambda check: read_backup(stream, directory, check))
                if volume is not None:
                    return await self._swap(volume, directory)
                labels = {key: value for key, value in header.labels.items() if key != ANONYMOUS_LABEL}
                await self._install(directory, name, labels)
                return None

    async def _find(self, name: str) -> Volume | None:
        try:
            return await self._volumes.get(name)
        except NotFound:
            return None

    async def _check_new(self, name: str) -> None:
        self._volumes.path(name)
        if await self._find(name) is not None:
            raise Conflict(
                f"create {name}: a volume of that name exists",
                hint=f"choose another name, or remove it with `tare volume rm {name}`",
                code="volume-name-in-use",
            )

    async def _check_restorable(self, volume: Volume) -> None:
        if local_directory(volume) != self._store.volume_data(volume.name):
            raise Unsupported(
                f"restore {volume.name}: its directory {local_directory(volume)} is not the engine's own",
                hint=f"clone the snapshot to a new volume: tare volume clone --snapshot NAME {volume.name} NEW",
                code="volume-not-own",
            )
        _refuse_running(volume.name, await self._quiescer.users(volume.name))

    @asynccontextmanager
    async def _new_directory(self) -> AsyncIterator[Path]:
        """A directory that goes when the block fails, or leaves it unused. Raises Exhausted."""
        with disk_errors(self._store.volume_data("")):
            directory = await asyncio.to_thread(self._store.make_directory)
        try:
            yield directory
        finally:
            # Deleted unless it was renamed away or has become a snapshot.
            await finish(self._discard(directory), what=f"delete {directory}")

    async def _discard(self, directory: Path) -> None:
        if not await self._store.is_known(directory):
            await asyncio.to_thread(self._store.discard, directory)

    @asynccontextmanager
    async def _hold(self, *names: str) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for name in sorted(set(names)):
                await stack.enter_async_context(self._locks.hold(name))
            yield

    async def _copy_still(self, volume: Volume, source: Path, target: Path) -> tuple[TreeCopy, float, int]:
        """Copy a volume in use: first beside its users, then what is left while they stand still."""
        if not await asyncio.to_thread(source.is_dir):
            raise NotFound(f"volume {volume.name}: {source} is no directory", hint="its storage is not mounted")
        copy = TreeCopy(str(source), str(target))
        begin = time.monotonic()
        await _run(copy, copy.running_pass, target)
        if time.monotonic() - begin > _CATCH_UP_SECONDS:
            await _run(copy, copy.running_pass, target)
        frozen = await self._quiescer.still(volume.name, lambda: _run(copy, copy.frozen_pass, target))
        with disk_errors(target):
            return copy, frozen, await asyncio.to_thread(copy.finish)

    async def _copy_calm(self, source: Path, target: Path) -> None:
        """Copy what nobody writes."""
        copy = TreeCopy(str(source), str(target))
        await _run(copy, copy.running_pass, target)
        with disk_errors(target):
            await asyncio.to_thread(copy.finish)

    async def _install(self, directory: Path, name: str, labels: Mapping[str, str]) -> Volume:
        await asyncio.to_thread(self._store.install, directory, name)
        try:
            volume = await self._volumes.create(name, labels=labels)
        except BaseException:
            await finish(asyncio.to_thread(self._store.uninstall, name), what=f"undo volume {name}")
            raise
        await asyncio.to_thread(self._store.installed, name)
        self._events.publish("volume", "create", name, {"driver": volume.driver})
        return volume

    async def _swap(self, volume: Volume, directory: Path) -> Snapshot:
        size = await asyncio.to_thread(disk_usage, Path(volume.mountpoint))
        name = await self._free_name(volume.name, "before-restore-")
        kept = _new(volume, name, directory, method="moved", size=size, automatic=True)

        async def swap(held: frozenset[str]) -> None:
            await self._store.swap(kept, lambda connection: _check_users(connection, volume.name, held))

        with self._files.closed(volume.name):
            await self._quiescer.held(volume.name, swap)
        self._events.publish("volume", "restore", volume.name, {"driver": volume.driver, "previous": name})
        return kept

    async def _free_name(self, volume: str, prefix: str) -> str:
        taken = {snapshot.name for snapshot in await self._store.list(volume)}
        base = f"{prefix}{datetime.now(UTC):%Y%m%d-%H%M%S}"
        return next(name for name in (base, *(f"{base}-{n}" for n in range(2, len(taken) + 3))) if name not in taken)


def local_directory(volume: Volume) -> Path:
    """Where a volume's data are on this host, mounted or not. Raises Unsupported for volumes that are elsewhere."""
    kind, flags = volume.options.get("type", ""), volume.options.get("o", "").split(",")
    if volume.driver == "local" and not volume.options.get("device") and kind in ("", "none"):
        return Path(volume.mountpoint)
    if volume.driver == "local" and kind in ("", "none", "bind") and {"bind", "rbind"} & set(flags):
        return Path(volume.options["device"])
    place = f"driver {volume.driver}" if volume.driver != "local" else f"type {kind or 'device'}"
    raise Unsupported(
        f"volume {volume.name}: its data are not in a directory of this host ({place})",
        hint="copy it with the means of its storage",
        code="volume-not-local",
    )


async def _run(copy: TreeCopy, work: Callable[[], None], target: Path) -> None:
    def run(check: Callable[[], None]) -> None:
        copy.check = check
        work()

    await _in_thread(target, run)


async def _in_thread(target: Path, work: Callable[[Callable[[], None]], T]) -> T:
    """Run ``work``, which writes below ``target`` and often calls what it is given: so it can end early."""

    def run(abort: Abort) -> T:
        with disk_errors(target):
            return work(abort.check)

    return await run_undoable(run, lambda _: None)


def _check_users(connection: sqlite3.Connection, volume: str, held: frozenset[str]) -> None:
    query = (
        "SELECT c.id, c.name, c.status FROM containers c WHERE c.id IN"
        " (SELECT container FROM container_volumes WHERE volume = ?) ORDER BY c.name"
    )
    rows = connection.execute(query, (volume,)).fetchall()
    _refuse(
        volume, [(name, status) for identifier, name, status in rows if status in _RUNNING or identifier not in held]
    )


def _refuse_running(volume: str, users: list[Container]) -> None:
    _refuse(volume, sorted((one.name, one.state.status) for one in users if one.state.status in _RUNNING))


def _refuse(volume: str, users: list[tuple[str, str]]) -> None:
    if users:
        named = ", ".join(f"{name} ({status})" for name, status in users)
        raise Conflict(
            f"restore {volume}: volume is in use by containers that run - [{named}]",
            hint=f"tare stop {' '.join(name for name, _ in users)}",
            code="volume-in-use",
        )


def _new(
    volume: Volume,
    name: str,
    directory: Path,
    *,
    method: str,
    size: int,
    frozen: float = 0.0,
    automatic: bool = False,
) -> Snapshot:
    return Snapshot(
        volume=volume.name,
        name=name,
        directory=directory.name,
        created=time.time(),
        automatic=automatic,
        method=method,
        size=size,
        frozen=frozen,
    )
