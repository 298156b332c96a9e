"""Snapshots of volumes: a row and a directory each, made durable before they exist.

A directory is complete before its row is written and outlives its row: a crash leaves a directory without a row, which
the next start deletes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tare.base.atomic import fsync_directory
from tare.base.trees import remove_tree
from tare.errors import Conflict, InternalError, InvalidArgument, NotFound
from tare.kernel.filesystem import exchange
from tare.model import new_id
from tare.store.database import Database

logger = logging.getLogger(__name__)

DATA = "data"
_FOLDER = ".snapshots"  # not a valid volume name; beside the volumes, so that reflinks and renames work
_VOLUME = "volume"
_UNFINISHED = ".unfinished"
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
_COLUMNS = "volume, name, directory, created, automatic, method, size, frozen"
_Row = tuple[str, str, str, float, int, str, int, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a volume held at a moment.

    ``created`` in seconds since the epoch, ``size`` in bytes on disk (reflinked data are shared with the volume),
    ``frozen`` the seconds for which containers stood still; ``automatic`` when a restore has made it of what it
    replaced. ``method`` is ``reflink``, ``copy`` or ``moved``.
    """

    volume: str
    name: str
    directory: str
    created: float
    automatic: bool
    method: str
    size: int
    frozen: float


class SnapshotStore:
    """The snapshots of one engine's volumes; ``root`` is where the local driver's volumes are."""

    def __init__(self, db: Database, root: Path) -> None:
        self._db = db
        self._volumes = root
        self._root = root / _FOLDER

    async def recover(self) -> None:
        """Finish or undo restores that a crash cut short, delete what no row knows."""

        def pending(connection: sqlite3.Connection) -> list[tuple[str, str, int]]:
            query = "SELECT directory, volume, pending_inode FROM volume_snapshots WHERE pending_inode IS NOT NULL"
            return connection.execute(query).fetchall()

        for directory, volume, inode in await self._db.read(pending):
            swapped = await asyncio.to_thread(_has_inode, self.volume_data(volume), inode)
            await self._db.write(_complete(directory) if swapped else _forget(directory))

        def known(connection: sqlite3.Connection) -> tuple[set[str], set[str]]:
            directories = {row[0] for row in connection.execute("SELECT directory FROM volume_snapshots")}
            return directories, {row[0] for row in connection.execute("SELECT name FROM volumes")}

        directories, volumes = await self._db.read(known)
        await asyncio.to_thread(self._sweep, directories, volumes)

    def volume_data(self, volume: str) -> Path:
        """The directory of a volume's content."""
        return self._volumes / volume / "_data"

    def content(self, snapshot: Snapshot) -> Path:
        """The directory of what the snapshot holds."""
        return self._root / snapshot.directory / DATA

    def make_directory(self) -> Path:
        """A new directory for content that has no row yet: a snapshot's, a volume's, or one for :meth:`discard`.

        Blocks; raises OSError.
        """
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory = self._root / new_id()[:16]
        directory.mkdir(mode=0o700)
        (directory / DATA).mkdir(mode=0o700)
        return directory

    def discard(self, directory: Path) -> None:
        """Delete such a directory; quiet when it is gone. Blocks."""
        if directory.exists():
            remove_tree(directory)

    async def add(self, snapshot: Snapshot) -> None:
        """Write the row of a directory that is complete. Raises Conflict for a name that is taken, NotFound."""
        await asyncio.to_thread(self._settle, snapshot.directory)
        await self._db.write(lambda connection: _insert(connection, snapshot, None))

    async def list(self, volume: str) -> list[Snapshot]:
        """A volume's snapshots, oldest first."""

        def query(connection: sqlite3.Connection) -> list[_Row]:
            text = f"SELECT {_COLUMNS} FROM volume_snapshots WHERE volume = ? AND pending_inode IS NULL ORDER BY id"  # noqa: S608
            return connection.execute(text, (volume,)).fetchall()

        return [_snapshot(row) for row in await self._db.read(query)]

    async def is_known(self, directory: Path) -> bool:
        """Whether a snapshot has this directory."""
        query, values = "SELECT 1 FROM volume_snapshots WHERE directory = ?", (directory.name,)
        return await self._db.read(lambda connection: connection.execute(query, values).fetchone()) is not None

    async def usage(self) -> dict[str, tuple[int, int]]:
        """Number and bytes of the snapshots, by volume."""

        def query(connection: sqlite3.Connection) -> list[tuple[str, int, int]]:
            text = "SELECT volume, count(*), sum(size) FROM volume_snapshots GROUP BY volume"
            return connection.execute(text).fetchall()

        return {volume: (count, size) for volume, count, size in await self._db.read(query)}

    async def without_content(self) -> tuple[Snapshot, ...]:
        """The snapshots whose directory is gone; those that are being deleted are none any more."""
        text = f"SELECT {_COLUMNS} FROM volume_snapshots WHERE pending_inode IS NULL ORDER BY volume, id"  # noqa: S608
        rows = await self._db.read(lambda connection: connection.execute(text).fetchall())
        found = []
        for snapshot in map(_snapshot, rows):
            there = await asyncio.to_thread(self.content(snapshot).is_dir)
            if not there and await self.is_known(self._root / snapshot.directory):
                found.append(snapshot)
        return tuple(found)

    async def get(self, volume: str, name: str) -> Snapshot:
        """One snapshot. Raises NotFound."""
        found = await self.list(volume)
        for snapshot in found:
            if snapshot.name == name:
                return snapshot
        there = f"it has {', '.join(one.name for one in found)}" if found else "it has none"
        raise NotFound(f"no such snapshot: {volume} has no snapshot {name}", hint=there, code="no-such-snapshot")

    async def check_free(self, volume: str, name: str) -> None:
        """Raise InvalidArgument for a name that cannot be one, Conflict for one that is taken."""
        if not _NAME.fullmatch(name):
            raise InvalidArgument(
                f'"{name}" is not a valid snapshot name', hint="letters, digits, _ . and -, at most 128, no - first"
            )
        if name in {snapshot.name for snapshot in await self.list(volume)}:
            raise _taken(volume, name)

    async def remove(self, volume: str, name: str) -> Snapshot:
        """Delete a snapshot and its files; returns what it was. Raises NotFound."""
        snapshot = await self.get(volume, name)
        await self._db.write(_forget(snapshot.directory))
        await asyncio.to_thread(self.discard, self._root / snapshot.directory)
        return snapshot

    async def swap(self, snapshot: Snapshot, check: Callable[[sqlite3.Connection], None]) -> None:
        """Put the content of ``snapshot.directory`` in its volume's place, in one step.

        What the volume held becomes the content of ``snapshot``. ``check`` runs in the transaction, in which no
        container can be made, and refuses by raising: the new content is deleted then. A crash at any point leaves the
        old or the new content in place, and nothing of the old content is lost.
        """
        new, old = self._root / snapshot.directory / DATA, self.volume_data(snapshot.volume)
        inode = (await asyncio.to_thread(new.stat)).st_ino

        def swap(connection: sqlite3.Connection) -> None:
            check(connection)
            exchange(os.fspath(new), os.fspath(old))
            fsync_directory(old.parent)
            fsync_directory(new.parent)
            _complete(snapshot.directory)(connection)

        try:
            await asyncio.to_thread(self._settle, snapshot.directory)
            await self._db.write(lambda connection: _insert(connection, snapshot, inode))
            await self._db.write(swap)
        except BaseException:
            # Undone unless the swap took place and only its last statement failed: then the next start completes it.
            if not await asyncio.to_thread(_has_inode, old, inode):
                await self._db.write(_forget(snapshot.directory))
                await asyncio.to_thread(self.discard, new.parent)
            raise

    def install(self, directory: Path, volume: str) -> None:
        """Make the content of ``directory`` that of a volume without a row; :meth:`installed` comes after its row.

        Blocks. Raises Conflict when the volume's directory exists.
        """
        place, made = self._volumes / volume, directory / _VOLUME
        if place.exists():
            raise Conflict(
                f"{place} exists, but no volume of that name", hint="look what is in it, and delete or rename it"
            )
        made.mkdir(mode=0o701)
        (made / _UNFINISHED).touch()
        (directory / DATA).rename(made / "_data")
        fsync_directory(made)
        made.rename(place)  # at once with its mark: a directory without one would stay after a crash
        fsync_directory(self._volumes)
        directory.rmdir()

    def installed(self, volume: str) -> None:
        """The volume has its row now. Blocks."""
        (self._volumes / volume / _UNFINISHED).unlink(missing_ok=True)

    def uninstall(self, volume: str) -> None:
        """Undo :meth:`install`. Blocks."""
        if (self._volumes / volume / _UNFINISHED).exists():
            remove_tree(self._volumes / volume)

    def _settle(self, directory: str) -> None:
        fsync_directory(self._root / directory)
        fsync_directory(self._root)
        fsync_directory(self._volumes)

    def _sweep(self, directories: set[str], volumes: set[str]) -> None:
        if self._root.is_dir():
            for path in self._root.iterdir():
                if path.name not in directories:
                    _delete(path)
        if not self._volumes.is_dir():
            return
        for path in self._volumes.iterdir():
            if (path / _UNFINISHED).exists():
                if path.name in volumes:
                    self.installed(path.name)
                else:
                    _delete(path)


def _delete(path: Path) -> None:
    """Delete what a crash has left; what cannot go now, as somebody still writes there, is left to the next start."""
    try:
        remove_tree(path)
    except OSError as error:
        logger.warning("%s, which belongs to nothing, stays until the next start: %s", path, error)


def check_removable(connection: sqlite3.Connection, volume: str) -> None:
    """Raise Conflict when ``volume`` is protected or has snapshots; part of the transaction that deletes its row."""
    if connection.execute("SELECT 1 FROM volume_protections WHERE volume = ?", (volume,)).fetchone():
        raise Conflict(
            f"remove {volume}: volume is protected", hint=f"tare volume unprotect {volume}", code="volume-protected"
        )
    rows = connection.execute("SELECT name FROM volume_snapshots WHERE volume = ? ORDER BY id", (volume,)).fetchall()
    if rows:
        names = ", ".join(row[0] for row in rows)
        raise Conflict(
            f"remove {volume}: volume has snapshots - [{names}]",
            hint=f"tare volume snapshot rm --all {volume}",
            code="volume-has-snapshots",
        )


def _insert(connection: sqlite3.Connection, snapshot: Snapshot, inode: int | None) -> None:
    if not connection.execute("SELECT 1 FROM volumes WHERE name = ?", (snapshot.volume,)).fetchone():
        raise NotFound(f"get {snapshot.volume}: no such volume")
    values = (
        snapshot.volume, snapshot.name, snapshot.directory, snapshot.created, snapshot.automatic, snapshot.method,
        snapshot.size, snapshot.frozen, inode,
    )  # fmt: skip
    try:
        connection.execute(
            f"INSERT INTO volume_snapshots ({_COLUMNS}, pending_inode) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
            values,
        )
    except sqlite3.IntegrityError as error:
        raise _taken(snapshot.volume, snapshot.name) from error


def _complete(directory: str) -> Callable[[sqlite3.Connection], None]:
    def complete(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE volume_snapshots SET pending_inode = NULL WHERE directory = ?", (directory,))

    return complete


def _forget(directory: str) -> Callable[[sqlite3.Connection], None]:
    def forget(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM volume_snapshots WHERE directory = ?", (directory,))

    return forget


def _taken(volume: str, name: str) -> Conflict:
    return Conflict(
        f"{volume} already has a snapshot {name}", hint="choose another name or remove it", code="snapshot-name-in-use"
    )


def _has_inode(path: Path, inode: int) -> bool:
    try:
        return path.stat().st_ino == inode
    except FileNotFoundError:
        raise InternalError(f"{path}: the volume's content is missing") from None


def _snapshot(row: _Row) -> Snapshot:
    volume, name, directory, created, automatic, method, size, frozen = row
    return Snapshot(
        volume=volume,
        name=name,
        directory=directory,
        created=created,
        automatic=bool(automatic),
        method=method,
        size=size,
        frozen=frozen,
    )
