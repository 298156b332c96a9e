"""The database: one SQLite file in WAL mode, the only truth about objects and their references.

Transactions are plain functions of a connection. They run on threads of their own, so that neither SQL nor fsync blocks
the event loop: writers one after the other, readers beside them on what was committed last.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import TypeVar

from tare.errors import Conflict, DataCorrupt, Exhausted, Unsupported
from tare.store.reserve import Reserve

T = TypeVar("T")
_FULL = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE})

Transaction = Callable[[sqlite3.Connection], T]


class Database:
    """An open database; make one with :meth:`open`, end it with :meth:`close`.

    A lock on ``<path>.lock`` keeps a second engine away from the same data root.
    """

    def __init__(self, path: Path, lock_fd: int) -> None:
        self.path = path
        self._lock_fd = lock_fd
        self._reserve = Reserve(path.with_name(f"{path.name}.reserve"))
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="db-write", initializer=self._connect)
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="db-read", initializer=self._connect)
        self._connections: dict[int, sqlite3.Connection] = {}

    @classmethod
    async def open(cls, path: Path) -> Database:
        """Open or create the database and bring its schema up to date.

        Raises Conflict when another engine has it, Unsupported when a newer Tare wrote it, DataCorrupt when it is no
        database.
        """
        lock_fd = await asyncio.to_thread(_take_lock, path)
        database = cls(path, lock_fd)
        try:
            await database._call(database._writer, _migrate)
        except sqlite3.DatabaseError as error:
            await database.close()
            raise DataCorrupt(f"{path}: {error}", hint="restore it from a backup") from error
        except BaseException:
            await database.close()
            raise
        return database

    async def read(self, transaction: Transaction[T]) -> T:
        """Run ``transaction`` on a consistent view; it must not write."""
        return await self._call(self._reader, lambda connection: _in_transaction(connection, "BEGIN", transaction))

    async def write(self, transaction: Transaction[T], *, durable: bool = True, freeing: bool = False) -> T:
        """Run ``transaction``, commit it, or roll everything back when it raises. Raises Exhausted on a full disk.

        With ``durable`` the commit survives a power failure when this returns; without, it may be undone by one, but
        never torn, and a killed process loses nothing either way. ``freeing``: it leads to more space, and may use what
        is kept for that when the disk is full; it may run twice then.
        """

        def work(connection: sqlite3.Connection) -> T:
            connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            try:
                result = _in_transaction(connection, "BEGIN IMMEDIATE", transaction)
            except Exhausted:
                if not (freeing and self._reserve.release()):
                    raise
                return _in_transaction(connection, "BEGIN IMMEDIATE", transaction)
            self._reserve.regain()
            return result

        return await self._call(self._writer, work)

    async def close(self) -> None:
        """Finish what is queued and close; idempotent."""
        for pool in (self._reader, self._writer):
            await asyncio.to_thread(pool.shutdown)
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    async def _call(self, pool: ThreadPoolExecutor, work: Transaction[T]) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(pool, lambda: work(self._own_connection()))

    def _connect(self) -> None:
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA busy_timeout=10000")
        connection.execute("PRAGMA foreign_keys=ON")
        self._connections[threading.get_ident()] = connection

    def _own_connection(self) -> sqlite3.Connection:
        return self._connections[threading.get_ident()]


def _take_lock(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    lock_fd = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock_fd)
        raise Conflict(
            f"{path.parent} is in use by another engine", hint="stop it, or choose another --data-root"
        ) from error
    # Containers' environments are in it: nobody else may read. The write-ahead log takes its mode from it.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    path.chmod(0o600)
    return lock_fd


def _in_transaction(connection: sqlite3.Connection, begin: str, transaction: Transaction[T]) -> T:
    connection.execute(begin)
    try:
        result = transaction(connection)
        connection.execute("COMMIT")
    except BaseException as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode in _FULL:
            raise Exhausted(
                "the database cannot grow: no space left below the data root", hint="free space there", code="no-space"
            ) from error
        raise
    return result


def _migrate(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    scripts = sorted(
        (item for item in resources.files("tare.store.schema").iterdir() if item.name.endswith(".sql")),
        key=lambda item: item.name,
    )
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > len(scripts):
        raise Unsupported(
            f"the database has schema {version}, this Tare knows {len(scripts)}",
            hint="a newer Tare wrote it: use that version",
            code="database-newer",
        )
    for number, script in enumerate(scripts[version:], version + 1):
        statements = f"BEGIN IMMEDIATE;\n{script.read_text()}\nPRAGMA user_version={number};\nCOMMIT;"
        try:
            connection.executescript(statements)
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
