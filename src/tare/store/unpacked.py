"""The snapshotter that unpacks layers into directories and stacks them with overlayfs."""

from __future__ import annotations

import asyncio
import ctypes
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tare.archive.changes import Change, list_changes
from tare.archive.diff import write_upper
from tare.archive.resource import write_changes
from tare.archive.tar_reader import extract_layer
from tare.archive.tar_writer import TarWriter
from tare.base import trees
from tare.base.locks import KeyedLocks, SharedLock
from tare.base.readers import Readable
from tare.base.shielding import finish
from tare.errors import Conflict, DataCorrupt, InternalError, NotFound
from tare.kernel import mounts
from tare.kernel.idmap import IdMap, container_maps, mount_mapped_overlay
from tare.kernel.private_mounts import in_private_mounts
from tare.model import Digest, new_id
from tare.store.database import Database
from tare.store.layers import LayerStore
from tare.store.leases import Leases
from tare.store.snapshotter import Lower
from tare.store.space import disk_errors
from tare.store.threads import Abort, run_undoable
from tare.store.usage import disk_usage

EMPTY = "empty"  # snapshots/empty: overlayfs needs a lower directory even where there is none
_STAGING = "stage-"
_REPAIR = "`tare fsck --repair` heals it, or says which image to get again"


@dataclass(frozen=True, slots=True)
class _Snapshot:
    id: int
    key: str
    kind: str
    diff_id: str | None
    size: int


class UnpackedSnapshotter:
    """Snapshots as directories ``<root>/<id>/{fs,upper,work}``; see :class:`~tare.store.snapshotter.Snapshotter`.

    A layer lies in ``fs``, whiteouts in overlay form; an active or committed one in ``upper``.
    """

    name = "unpacked"

    def __init__(self, db: Database, root: Path, layers: LayerStore, locks: KeyedLocks) -> None:
        self._db = db
        self._root = root
        self._layers = layers
        self._locks = locks
        self._leases = Leases(db)
        self.mounting = SharedLock()
        """Shared while directories of snapshots are being mounted, held alone while one is exchanged."""
        self.unfinished: set[str] = set()
        """Names below the root that are being made or deleted: they need no row."""

    async def ensure_layer(self, diff_id: Digest) -> Lower:
        """Unpack a layer unless it is; idempotent, single-flight. Raises NotFound, DataCorrupt, Exhausted."""
        key = str(diff_id)
        if await self._db.read(lambda connection: self._is_there(connection, key)):
            return Lower(key)
        layer = await self._layers.get(diff_id)
        async with self._locks.hold(f"layer {key}"):
            if await self._db.read(lambda connection: self._is_there(connection, key)):
                return Lower(key)
            async with self.unpacking(diff_id, layer.size) as (staging, size):
                try:
                    await self._insert(lambda connection, made: self._adopt(connection, made, key, staging, size))
                except sqlite3.IntegrityError as error:
                    raise NotFound(f"no such layer: {key}") from error
        return Lower(key)

    def _is_there(self, connection: sqlite3.Connection, key: str) -> bool:
        """Whether a snapshot has its row and its directory: without that nothing could be mounted."""
        found = _find(connection, key)
        return found is not None and self.content_path(found.id, found.kind).is_dir()

    @asynccontextmanager
    async def unpacking(self, diff_id: Digest, tar_size: int, content: str = "fs") -> AsyncIterator[tuple[Path, int]]:
        """A layer unpacked into the directory ``content`` of a new directory, and its bytes on disk.

        The new directory is deleted after the block unless it has been renamed. The caller holds the layer's lock.
        Raises NotFound, DataCorrupt, also for a tar that has not ``tar_size`` bytes, Exhausted.
        """
        staging = self._root / f"{_STAGING}{new_id()[:16]}"
        self.unfinished.add(staging.name)
        try:
            size = await run_undoable(
                lambda abort: self._unpack(diff_id, tar_size, staging / content, abort), lambda _: remove_tree(staging)
            )
            try:
                yield staging, size
            finally:
                await finish(asyncio.to_thread(trees.try_to_remove_tree, staging), what=f"delete {staging}")
        finally:
            self.unfinished.discard(staging.name)

    def _unpack(self, diff_id: Digest, tar_size: int, directory: Path, abort: Abort) -> int:
        with disk_errors(self._root):
            try:
                for path in (directory.parent, directory):
                    path.mkdir(mode=0o755)
                    path.chmod(0o755)
                try:
                    stream = self._layers.path(diff_id).open("rb", buffering=1 << 20)
                except FileNotFoundError as error:
                    raise NotFound(
                        f"no such layer: {diff_id}: its file is gone", hint=_REPAIR, code="layer-missing"
                    ) from error
                with stream:
                    if (size := os.fstat(stream.fileno()).st_size) != tar_size:
                        raise DataCorrupt(
                            f"layer {diff_id}: its file has {size} bytes, expected {tar_size}",
                            hint=_REPAIR,
                            code="layer-damaged",
                        )
                    extract_layer(_AbortableReader(stream, abort), directory)
                _sync_file_system(self._root)  # the row must not outlive a power failure that the files do not
                return disk_usage(directory, itself=False)
            except BaseException:
                trees.try_to_remove_tree(directory.parent)
                raise

    def _adopt(self, connection: sqlite3.Connection, made: list[int], key: str, staging: Path, size: int) -> None:
        found = _find(connection, key)
        if found is None:
            number = _insert(connection, key, "layer", diff_id=key, size=size)
            self._begin(made, number)
        elif self.content_path(found.id, found.kind).is_dir():
            return
        else:
            number = found.id
        self._make_way(number)
        staging.rename(self._directory(number))

    async def prepare(self, key: str, lowers: Sequence[Lower]) -> None:
        """Make an active snapshot. Raises Conflict when the key exists, NotFound for a lower."""

        def insert(connection: sqlite3.Connection, made: list[int]) -> None:
            if _find(connection, key) is not None:
                raise Conflict(f"snapshot {key} exists already", code="snapshot-exists")
            below = [_require_lower(connection, lower).id for lower in lowers]
            number = _insert(connection, key, "active")
            self._begin(made, number)
            connection.executemany(
                "INSERT INTO snapshot_lowers VALUES (?, ?, ?)",
                [(number, position, lower) for position, lower in enumerate(below)],
            )
            self._make_way(number)
            directory = self._directory(number)
            with disk_errors(self._root):
                for path in (directory, directory / "upper", directory / "work"):
                    path.mkdir(mode=0o755)
                    path.chmod(0o755)

        await self._insert(insert, durable=False)

    async def _insert(self, insert: Callable[[sqlite3.Connection, list[int]], None], *, durable: bool = True) -> None:
        """Run ``insert``, which makes rows and their directories: both are there afterwards, or neither."""
        made: list[int] = []
        try:
            await self._db.write(lambda connection: insert(connection, made), durable=durable)
        except BaseException:
            # On the writer's thread as well, as the numbers may be given out again.
            await finish(self._db.write(lambda connection: self._drop_unused(connection, made)), what="a snapshot")
            raise
        finally:
            self.unfinished.difference_update(map(str, made))

    def _begin(self, made: list[int], number: int) -> None:
        made.append(number)
        self.unfinished.add(str(number))

    def _drop_unused(self, connection: sqlite3.Connection, numbers: Sequence[int]) -> None:
        for number in numbers:
            if connection.execute("SELECT 1 FROM snapshots WHERE id = ?", (number,)).fetchone() is None:
                self._make_way(number)

    async def mount(self, key: str, target: Path, ids: tuple[int, int] | None = None) -> None:
        """Mount an active snapshot at ``target``, see Snapshotter. Raises NotFound, InternalError, Unsupported."""

        async with self._locks.hold(f"snapshot {key}"), self.mounting.shared():
            snapshot, lowers = await self._db.read(lambda connection: self._active(connection, key))
            directory = self._directory(snapshot.id)
            if ids is None:
                await self._mount(lowers, directory / "upper", directory / "work", target)
            else:
                await self._mount_mapped(lowers, directory, target, container_maps(*ids))

    async def _mount_mapped(self, lowers: Sequence[Path], snapshot: Path, target: Path, maps: Sequence[IdMap]) -> None:
        await run_undoable(
            lambda _: mount_mapped_overlay(lowers, snapshot, target, maps, empty=self._root / EMPTY),
            lambda _: mounts.unmount(target),
        )

    def _active(self, connection: sqlite3.Connection, key: str) -> tuple[_Snapshot, list[Path]]:
        snapshot = _require(connection, key)
        if snapshot.kind != "active":
            raise NotFound(f"no active snapshot {key}: it is {snapshot.kind}")
        rows = connection.execute(
            "SELECT s.id, s.kind FROM snapshot_lowers l JOIN snapshots s ON s.id = l.lower"
            " WHERE l.snapshot = ? ORDER BY l.position",
            (snapshot.id,),
        ).fetchall()
        return snapshot, [self.content_path(number, kind) for number, kind in rows]

    async def view(self, lowers: Sequence[Lower], target: Path) -> None:
        """Mount ``lowers`` read-only at ``target``. Raises NotFound, InternalError."""

        def load(connection: sqlite3.Connection) -> list[Path]:
            found = [_require_lower(connection, lower) for lower in lowers]
            return [self.content_path(snapshot.id, snapshot.kind) for snapshot in found]

        async with self.mounting.shared():
            paths = await self._db.read(load)
            await self._mount(paths, None, None, target)

    async def _mount(self, lowers: Sequence[Path], upper: Path | None, work: Path | None, target: Path) -> None:
        await run_undoable(
            lambda _: mounts.mount_overlay(lowers, upper, work, target, empty=self._root / EMPTY),
            lambda _: mounts.unmount(target),
        )

    async def unmount(self, target: Path) -> None:
        """Undo ``mount`` or ``view``; quiet when nothing is mounted there."""
        await asyncio.to_thread(mounts.unmount, target)

    async def commit(self, key: str) -> Lower:
        """Freeze an active snapshot. Raises NotFound, Conflict when it is mounted or frozen already."""
        async with self._locks.hold(f"snapshot {key}"):
            snapshot = await self._db.read(lambda connection: _require(connection, key))
            if snapshot.kind != "active":
                raise Conflict(f"snapshot {key} is {snapshot.kind} already", code="snapshot-frozen")
            upper = self.content_path(snapshot.id, snapshot.kind)
            size = await asyncio.to_thread(self._measure_unmounted, key, upper)
            await self._db.write(
                lambda connection: connection.execute(
                    "UPDATE snapshots SET kind = 'committed', size = ? WHERE id = ?", (size, snapshot.id)
                )
            )
            await asyncio.to_thread(trees.try_to_remove_tree, upper.parent / "work")
        return Lower(key)

    def _measure_unmounted(self, key: str, upper: Path) -> int:
        _refuse_mounted(key, upper)
        if not upper.is_dir():
            raise InternalError(f"snapshot {key}: {upper} is gone")
        return disk_usage(upper, itself=False)

    async def write_layer(self, lower: Lower) -> Digest:
        """Write a committed snapshot as a layer tar; idempotent. Raises NotFound, Exhausted."""
        async with self._locks.hold(f"snapshot {lower}"):
            snapshot = await self._db.read(lambda connection: _require_lower(connection, lower))
            if snapshot.diff_id is not None:
                known = Digest.parse(snapshot.diff_id)
                if snapshot.kind == "layer" or await self._layers.is_whole(known):
                    return known
            upper = self.content_path(snapshot.id, snapshot.kind)

            def produce(sink: BinaryIO) -> None:
                writer = TarWriter(sink)
                write_upper(upper, writer)
                writer.finish()

            async with self._leases.hold() as lease:
                layer = await self._layers.write(produce, lease=lease)
                diff_id = str(layer.diff_id)
                await self._db.write(
                    lambda connection: connection.execute(
                        "UPDATE snapshots SET diff_id = ? WHERE id = ?", (diff_id, snapshot.id)
                    )
                )
            return layer.diff_id

    async def changes(self, key: str, mount_points: Collection[str] = ()) -> list[Change]:
        """What an active snapshot changes in its lowers. Raises NotFound, InternalError."""
        async with self.mounting.shared():
            snapshot, lowers = await self._db.read(lambda connection: self._active(connection, key))
            upper = self.content_path(snapshot.id, snapshot.kind)
            return await in_private_mounts(self._comparison(snapshot, lowers, upper, mount_points))

    def _comparison(
        self, snapshot: _Snapshot, lowers: Sequence[Path], upper: Path, mount_points: Collection[str]
    ) -> Callable[[], list[Change]]:
        # The thread's own mounts may hide the work directory, which a mounted overlay holds by other means.
        target = self._directory(snapshot.id) / "work"

        def compare() -> list[Change]:
            mounts.mount_overlay(lowers, None, None, target, empty=self._root / EMPTY)
            return list_changes(upper, target, mount_points=mount_points)

        return compare

    async def write_changes(self, key: str, *, lease: str, mount_points: Collection[str] = ()) -> Digest:
        """Write what an active snapshot changes as a layer tar. Raises NotFound, Exhausted, InternalError."""
        changed = await self.changes(key, mount_points)
        wanted = {parent for change in changed for parent in _with_parents(change.path)}
        upper = await self.upper_path(key)

        def produce(sink: BinaryIO) -> None:
            writer = TarWriter(sink)
            write_changes(upper, writer, wanted.__contains__)
            writer.finish()

        return (await self._layers.write(produce, lease=lease)).diff_id

    async def upper_path(self, key: str) -> Path:
        """The directory with what an active or committed snapshot adds. Raises NotFound."""
        snapshot = await self._db.read(lambda connection: _require(connection, key))
        return self.content_path(snapshot.id, snapshot.kind)

    async def usage(self, key: str) -> int:
        """Bytes on disk of what the snapshot adds. Raises NotFound."""
        snapshot = await self._db.read(lambda connection: _require(connection, key))
        if snapshot.kind != "active":
            return snapshot.size
        return await asyncio.to_thread(disk_usage, self.content_path(snapshot.id, snapshot.kind), itself=False)

    async def remove(self, key: str) -> None:
        """Delete a snapshot; quiet when there is none. Raises Conflict while another stands on it or it is mounted."""
        async with self._locks.hold(f"snapshot {key}"):
            snapshot = await self._db.read(lambda connection: _find(connection, key))
            if snapshot is None:
                return
            if snapshot.kind == "active":
                await asyncio.to_thread(_refuse_mounted, key, self.content_path(snapshot.id, snapshot.kind))
            name = str(snapshot.id)
            self.unfinished.add(name)
            try:
                await self._db.write(lambda connection: _delete(connection, snapshot), durable=False, freeing=True)
                await asyncio.to_thread(remove_tree, self._directory(snapshot.id))
            finally:
                self.unfinished.discard(name)

    async def recover(self) -> None:
        """Delete directories that no row knows."""
        known = await self._db.read(
            lambda connection: {str(row[0]) for row in connection.execute("SELECT id FROM snapshots")}
        )
        await asyncio.to_thread(self._sweep, known)

    def _sweep(self, known: set[str]) -> None:
        (self._root / EMPTY).mkdir(mode=0o755, parents=True, exist_ok=True)
        for path in self._root.iterdir():
            if path.name not in known and path.name != EMPTY:
                remove_tree(path)

    def _directory(self, number: int) -> Path:
        return self._root / str(number)

    def content_path(self, number: int, kind: str) -> Path:
        """The directory that a snapshot's content lies in, whether or not it exists."""
        return self._directory(number) / ("fs" if kind == "layer" else "upper")

    def _make_way(self, number: int) -> None:
        """A rolled-back transaction may have left a directory whose number is given out again."""
        directory = self._directory(number)
        if directory.exists():
            remove_tree(directory)


def remove_tree(path: Path) -> None:
    """Delete a snapshot's directory; quiet when it is gone. Raises InternalError naming it."""
    try:
        trees.remove_tree(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise InternalError(f"{path}: cannot delete: {error.strerror}") from error


def _with_parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]


class _AbortableReader:
    def __init__(self, source: Readable, abort: Abort) -> None:
        self._source = source
        self._abort = abort

    def read(self, size: int = -1, /) -> bytes:
        self._abort.check()
        return self._source.read(size)


def _find(connection: sqlite3.Connection, key: str) -> _Snapshot | None:
    row = connection.execute("SELECT id, key, kind, diff_id, size FROM snapshots WHERE key = ?", (key,)).fetchone()
    return _Snapshot(*row) if row is not None else None


def _require(connection: sqlite3.Connection, key: str) -> _Snapshot:
    if (snapshot := _find(connection, key)) is None:
        raise NotFound(f"no such snapshot: {key}")
    return snapshot


def _require_lower(connection: sqlite3.Connection, lower: Lower) -> _Snapshot:
    snapshot = _require(connection, lower)
    if snapshot.kind == "active":
        raise NotFound(f"no such lower: snapshot {lower} is not committed")
    return snapshot


def _insert(connection: sqlite3.Connection, key: str, kind: str, *, diff_id: str | None = None, size: int = 0) -> int:
    cursor = connection.execute(
        "INSERT INTO snapshots (key, kind, diff_id, size, created) VALUES (?, ?, ?, ?, ?)",
        (key, kind, diff_id, size, time.time()),
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def _delete(connection: sqlite3.Connection, snapshot: _Snapshot) -> None:
    above = connection.execute(
        "SELECT s.key FROM snapshot_lowers l JOIN snapshots s ON s.id = l.snapshot WHERE l.lower = ?", (snapshot.id,)
    ).fetchall()
    if above:
        names = ", ".join(sorted({row[0] for row in above}))
        raise Conflict(f"snapshot {snapshot.key} is in use by {names}", code="snapshot-in-use")
    connection.execute("DELETE FROM snapshots WHERE id = ?", (snapshot.id,))


def _refuse_mounted(key: str, upper: Path) -> None:
    wanted = os.fspath(upper)
    for entry in mounts.mount_table():
        if entry.fstype == "overlay" and entry.super_option("upperdir") == wanted:
            raise Conflict(f"snapshot {key} is mounted at {entry.target}", code="snapshot-mounted")


def _sync_file_system(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(fd) < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), os.fspath(path))
    finally:
        os.close(fd)
