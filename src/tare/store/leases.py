"""Leases keep objects that are in flight from being collected."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

from tare.base.shielding import finish
from tare.errors import NotFound
from tare.model import new_id
from tare.store.database import Database

LeaseKind = Literal["blob", "layer", "snapshot", "image"]


def insert_reference(connection: sqlite3.Connection, lease: str, kind: LeaseKind, name: str) -> None:
    """Let ``lease`` hold an object, inside a transaction. Raises NotFound when the lease has ended."""
    if connection.execute("SELECT 1 FROM leases WHERE id = ?", (lease,)).fetchone() is None:
        raise NotFound(f"no such lease: {lease}")
    connection.execute("INSERT OR IGNORE INTO lease_references VALUES (?, ?, ?)", (lease, kind, name))


class Leases:
    """Makes, extends and ends leases. They end with the engine at the latest."""

    def __init__(self, db: Database) -> None:
        self._db = db

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[str]:
        """A lease for the time of the block; gives its identifier."""
        lease = new_id()
        await self._db.write(
            lambda connection: connection.execute("INSERT INTO leases VALUES (?, ?)", (lease, time.time())),
            durable=False,
        )
        try:
            yield lease
        finally:
            await finish(self._drop(lease), what=f"end lease {lease}")

    async def add(self, lease: str, kind: LeaseKind, name: str) -> None:
        """Hold one more object: digest of a blob, layer or image, key of a snapshot. Raises NotFound for the lease."""
        await self._db.write(lambda connection: insert_reference(connection, lease, kind, name), durable=False)

    async def drop_all(self) -> None:
        """End every lease: at start all of them belong to engines that are gone."""
        await self._db.write(lambda connection: connection.execute("DELETE FROM leases"))

    async def _drop(self, lease: str) -> None:
        await self._db.write(
            lambda connection: connection.execute("DELETE FROM leases WHERE id = ?", (lease,)),
            durable=False,
            freeing=True,
        )
