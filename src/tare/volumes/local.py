"""The ``local`` volume driver: directories ``<root>/<name>/_data``."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path

from tare.base.atomic import fsync_directory
from tare.base.locks import KeyedLocks
from tare.errors import Conflict, InternalError, InvalidArgument, NotFound, Unsupported
from tare.model import new_id
from tare.store.database import Database
from tare.store.space import disk_errors
from tare.volumes.model import ANONYMOUS_LABEL, Volume
from tare.volumes.snapshots import check_removable

__all__ = ["DRIVER", "LocalVolumes", "Volume"]

DRIVER = "local"
DATA = "_data"
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_DELETING = ".deleting-"  # not a valid name, so never a volume's directory
_QUERY = (
    "SELECT name, driver, created, anonymous, options, labels,"
    " (SELECT json_group_array(DISTINCT container) FROM container_volumes WHERE volume = volumes.name) FROM volumes"
)


class LocalVolumes:
    """The volumes of one engine."""

    def __init__(self, db: Database, root: Path) -> None:
        self._db = db
        self._root = root
        self._locks = KeyedLocks()

    async def recover(self) -> None:
        """Finish deletions that a crash cut short. Directories of data are never deleted because a row is missing."""
        await asyncio.to_thread(self._sweep)

    async def create(
        self,
        name: str | None,
        driver: str = "",
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Volume:
        """Make a volume, or return the one that has the name already. Without a name it is anonymous.

        Raises InvalidArgument for the name or an unknown option, NotFound for another driver, Unsupported for mount
        options, Conflict when the volume exists with other options, Exhausted.
        """
        _check_driver(driver)
        _check_options(options or {})
        anonymous = not name
        chosen = name or new_id()
        _check_name(chosen)
        all_labels = dict(labels or {})
        if anonymous:
            all_labels[ANONYMOUS_LABEL] = ""

        def insert(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO volumes VALUES (?, ?, ?, ?, ?, ?)",
                (chosen, DRIVER, time.time(), anonymous, json.dumps(dict(options or {})), json.dumps(all_labels)),
            )

        async with self._locks.hold(chosen):
            if (existing := await self._find(chosen)) is not None:
                if options and dict(existing.options) != dict(options):
                    raise Conflict(
                        f"create {chosen}: a volume with the same name exists with different options",
                        hint="remove it first or choose another name",
                    )
                return existing
            await asyncio.to_thread(self._make, chosen)
            try:
                await self._db.write(insert)
            except BaseException:
                await asyncio.to_thread(self._remove_if_empty, chosen)
                raise
        return await self.get(chosen)

    async def get(self, name: str) -> Volume:
        """The volume. Raises NotFound."""
        if (volume := await self._find(name)) is None:
            raise NotFound(f"get {name}: no such volume")
        return volume

    async def list(self) -> list[Volume]:
        """All volumes, sorted by name."""
        rows = await self._db.read(lambda connection: connection.execute(f"{_QUERY} ORDER BY name").fetchall())
        return [self._volume(row) for row in rows]

    async def remove(self, name: str, force: bool = False) -> None:
        """Delete a volume and its data; with ``force`` quiet when there is none.

        Raises NotFound, and Conflict naming the containers that have it (``force`` does not change that).
        """

        def delete(connection: sqlite3.Connection) -> bool:
            users = [
                row[0]
                for row in connection.execute(
                    "SELECT DISTINCT container FROM container_volumes WHERE volume = ? ORDER BY container", (name,)
                )
            ]
            if users:
                raise Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]", code="volume-in-use")
            check_removable(connection, name)
            return connection.execute("DELETE FROM volumes WHERE name = ?", (name,)).rowcount > 0

        async with self._locks.hold(name):
            if not await self._db.write(delete):
                if force:
                    return
                raise NotFound(f"get {name}: no such volume")
            await asyncio.to_thread(self._delete, name)

    def path(self, name: str) -> Path:
        """The directory with the volume's content, whether or not the volume exists. Raises InvalidArgument."""
        _check_name(name)
        return self._root / name / DATA

    async def usage(self, name: str) -> int:
        """Bytes on disk. Raises NotFound."""
        await self.get(name)
        return await asyncio.to_thread(_disk_usage, self.path(name))

    async def _find(self, name: str) -> Volume | None:
        row = await self._db.read(lambda connection: connection.execute(f"{_QUERY} WHERE name = ?", (name,)).fetchone())
        return self._volume(row) if row is not None else None

    def _volume(self, row: tuple[str, str, float, int, str, str, str]) -> Volume:
        name, driver, created, anonymous, options, labels, users = row
        return Volume(
            name=name,
            driver=driver,
            mountpoint=os.fspath(self._root / name / DATA),
            created=created,
            anonymous=bool(anonymous),
            options=json.loads(options),
            labels=json.loads(labels),
            users=tuple(sorted(json.loads(users))),
        )

    def _make(self, name: str) -> None:
        directory = self._root / name
        with disk_errors(self._root):
            self._root.mkdir(mode=0o701, parents=True, exist_ok=True)
            directory.mkdir(mode=0o701, exist_ok=True)
            data = directory / DATA
            if not data.exists():
                data.mkdir(mode=0o755)
                data.chmod(0o755)
            fsync_directory(self._root)

    def _remove_if_empty(self, name: str) -> None:
        for path in (self._root / name / DATA, self._root / name):
            try:
                path.rmdir()
            except OSError:
                return

    def _delete(self, name: str) -> None:
        doomed = self._root / f"{_DELETING}{name}"
        try:
            (self._root / name).rename(doomed)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise InternalError(f"{self._root / name}: cannot delete: {error.strerror}") from error
            shutil.rmtree(doomed)
            (self._root / name).rename(doomed)
        shutil.rmtree(doomed)

    def _sweep(self) -> None:
        self._root.mkdir(mode=0o701, parents=True, exist_ok=True)
        for path in self._root.iterdir():
            if path.name.startswith(_DELETING):
                shutil.rmtree(path)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or len(name) > 255:
        raise InvalidArgument(
            f'create {name}: "{name}" includes invalid characters for a local volume name,'
            ' only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed',
            hint="a host directory is named by its absolute path",
        )


def _check_driver(driver: str) -> None:
    if driver not in ("", DRIVER):
        raise NotFound(f'error looking up volume plugin {driver}: plugin "{driver}" not found')


def _check_options(options: Mapping[str, str]) -> None:
    for key in options:
        if key not in ("type", "o", "device", "size"):
            raise InvalidArgument(f'invalid option: "{key}"')
    if options:
        raise Unsupported("mount options of the local driver are not available in this version")


def _disk_usage(directory: Path) -> int:
    total = 0
    for parent, _, files in os.walk(directory):
        for path in (parent, *(os.path.join(parent, name) for name in files)):  # noqa: PTH118 - many short strings
            try:
                total += os.lstat(path).st_blocks * 512
            except FileNotFoundError:
                continue  # a container is writing there
    return total
