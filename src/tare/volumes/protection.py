"""Protected volumes: neither removal by force nor pruning takes them."""

from __future__ import annotations

import sqlite3
import time

from tare.errors import NotFound
from tare.store.database import Database


class Protections:
    """Which volumes are protected; the database itself refuses to delete their rows."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def protect(self, volume: str) -> None:
        """Protect a volume; doing it twice changes nothing. Raises NotFound."""

        def insert(connection: sqlite3.Connection) -> None:
            _check_exists(connection, volume)
            connection.execute("INSERT OR IGNORE INTO volume_protections VALUES (?, ?)", (volume, time.time()))

        await self._db.write(insert)

    async def unprotect(self, volume: str) -> None:
        """End the protection, if there is one. Raises NotFound."""

        def delete(connection: sqlite3.Connection) -> None:
            _check_exists(connection, volume)
            connection.execute("DELETE FROM volume_protections WHERE volume = ?", (volume,))

        await self._db.write(delete)

    async def names(self) -> frozenset[str]:
        """All protected volumes."""

        def query(connection: sqlite3.Connection) -> frozenset[str]:
            return frozenset(row[0] for row in connection.execute("SELECT volume FROM volume_protections"))

        return await self._db.read(query)


def _check_exists(connection: sqlite3.Connection, volume: str) -> None:
    if not connection.execute("SELECT 1 FROM volumes WHERE name = ?", (volume,)).fetchone():
        raise NotFound(f"get {volume}: no such volume")
