"""The store of one engine: everything below its data root that is an image or part of one."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from tare.base.locks import KeyedLocks
from tare.errors import DataCorrupt, NotFound
from tare.model import Digest
from tare.store import gc
from tare.store.content import ContentStore
from tare.store.database import Database
from tare.store.fsck.blobs import DAMAGED, remove_any
from tare.store.fsck.check import StoreCheck
from tare.store.fsck.run import Parts
from tare.store.images import ImageStore
from tare.store.layer_blobs import LayerBlobs
from tare.store.layers import LayerStore
from tare.store.leases import Leases
from tare.store.origins import Origins
from tare.store.snapshotter import Snapshotter
from tare.store.space import disk_errors
from tare.store.unpacked import UnpackedSnapshotter, remove_tree

logger = logging.getLogger(__name__)


class Store:
    """Content, layers, snapshots, images and leases over one database; make one with :meth:`open`."""

    def __init__(self, db: Database, root: Path) -> None:
        self.db = db
        self.root = root
        self._locks = KeyedLocks()
        self._blobs = root / "blobs" / "sha256"
        self._layer_files = root / "layers"
        self._snapshot_root = root / "snapshots"
        self._staging = root / "staging"
        self.leases = Leases(db)
        self.content = ContentStore(db, self._blobs, self._staging, self._locks)
        self.layers = LayerStore(db, self._layer_files, self._staging, self._locks)
        self.layer_blobs = LayerBlobs(db)
        unpacked = UnpackedSnapshotter(db, self._snapshot_root, self.layers, self._locks)
        self.snapshots: Snapshotter = unpacked
        self.images = ImageStore(db, self.content, self.leases)
        self.origins = Origins(db)
        self._collecting = asyncio.Lock()
        self.check = StoreCheck(
            Parts(
                db=db,
                root=root,
                locks=self._locks,
                collecting=self._collecting,
                content=self.content,
                layers=self.layers,
                snapshots=unpacked,
                leases=self.leases,
                collect=self.collect,
            )
        )

    @property
    def staging(self) -> Path:
        """Where files are written before they get their names; emptied at the start."""
        return self._staging

    @classmethod
    async def open(cls, data_root: Path) -> Store:
        """Open or create the store at ``data_root`` and delete what a crash left half-made.

        Raises Conflict when another engine has it, Unsupported when a newer Tare wrote it, DataCorrupt.
        """
        data_root = await asyncio.to_thread(_make_root, data_root)
        db = await Database.open(data_root / "tare.db")
        store = cls(db, data_root)
        try:
            await store._recover()
        except BaseException:
            await db.close()
            raise
        return store

    async def close(self) -> None:
        """Close the database; idempotent."""
        await self.db.close()

    async def is_whole(self, image: Digest) -> bool:
        """Whether an image's configuration can be read and each of its layers has all of its file.

        For those who would get it: an image that is not is had again and thereby healed.
        """
        try:
            found = await self.images.get(image)
        except (NotFound, DataCorrupt):
            return False
        return all([await self.layers.is_whole(diff_id) for diff_id in set(found.diff_ids)])

    async def collect(self) -> int:
        """Delete what nothing refers to; returns the bytes of the files that went.

        Rows go first and durably, then files: a crash in between leaves files that the next start deletes.
        """
        async with self._collecting:
            garbage = await self.db.write(_delete_garbage, freeing=True)
            freed = 0
            for node, size in garbage:
                freed += await self._delete_files(node, size)
        return freed

    async def _delete_files(self, node: gc.Node, size: int) -> int:
        if node.kind == "snapshot":
            await asyncio.to_thread(remove_tree, self._snapshot_root / node.name)
            return size
        table, column = ("blobs", "digest") if node.kind == "blob" else ("layers", "diff_id")
        digest = Digest.parse(node.name)
        path = self.content.path(digest) if node.kind == "blob" else self.layers.path(digest)
        async with self._locks.hold(f"{node.kind} {node.name}"):
            query = f"SELECT 1 FROM {table} WHERE {column} = ?"  # noqa: S608 - names from the pair above
            if await self.db.read(lambda connection: connection.execute(query, (node.name,)).fetchone()) is not None:
                return 0  # written again meanwhile
            for one in (path, path.with_suffix(DAMAGED)):
                await asyncio.to_thread(remove_any, one)
        return size

    async def _recover(self) -> None:
        await self.leases.drop_all()
        fault = await self.db.read(_fault)
        if fault:
            logger.error("the database is damaged, so no file is deleted: %s; see `tare fsck`", fault)
            return
        # Rows are read from the tables: an index that has lost some would have whole layers deleted.
        blobs, layers = await self.db.read(
            lambda connection: (
                {row[0].partition(":")[2] for row in connection.execute("SELECT digest FROM blobs NOT INDEXED")},
                {
                    f"{row[0].partition(':')[2]}.tar"
                    for row in connection.execute("SELECT diff_id FROM layers NOT INDEXED")
                },
            )
        )
        for directory, known in ((self._staging, set()), (self._blobs, blobs), (self._layer_files, layers)):
            await asyncio.to_thread(_sweep, directory, known)
        await self.snapshots.recover()


def _make_root(root: Path) -> Path:
    root = root.absolute()
    with disk_errors(root):
        root.mkdir(mode=0o711, parents=True, exist_ok=True)
        (root / "blobs/sha256").mkdir(parents=True, exist_ok=True)
        for name in ("blobs", "layers", "snapshots", "staging"):
            (root / name).mkdir(exist_ok=True)
            # No user of the host may start a layer's setuid programs or open its device nodes (as in CVE-2021-41091).
            (root / name).chmod(0o700)
    return root


def _fault(connection: sqlite3.Connection) -> str:
    """What is wrong with the database file's structure, if anything."""
    try:
        (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        return str(error)
    return "" if answer == "ok" else str(answer)


def _sweep(directory: Path, known: Iterable[str]) -> None:
    """Delete the files that no row knows. Indexes beside a layer (``<hex>.<kind>``) live as long as its tar."""
    names = set(known)
    stems = {name.partition(".")[0] for name in names}
    for path in directory.iterdir():
        if path.name in names or (path.suffix not in ("", ".tar") and path.stem in stems):
            continue
        logger.info("deleting %s, which the database does not know", path)
        if path.is_dir() and not path.is_symlink():
            remove_tree(path)
        else:
            path.unlink(missing_ok=True)


def _delete_garbage(connection: sqlite3.Connection) -> list[tuple[gc.Node, int]]:
    garbage = gc.plan(connection)
    ordered: list[tuple[gc.Node, int]] = []
    snapshots = sorted((int(node.name) for node in garbage if node.kind == "snapshot"), reverse=True)
    for number in snapshots:  # a lower is older than what stands on it, so the newest goes first
        size = connection.execute("DELETE FROM snapshots WHERE id = ? RETURNING size", (number,)).fetchone()[0]
        ordered.append((gc.Node("snapshot", str(number)), size))
    for kind, statement in (
        ("layer", "DELETE FROM layers WHERE diff_id = ? RETURNING size"),
        ("blob", "DELETE FROM blobs WHERE digest = ? RETURNING size"),
    ):
        for node in garbage:
            if node.kind == kind:
                ordered.append((node, connection.execute(statement, (node.name,)).fetchone()[0]))
    return ordered
