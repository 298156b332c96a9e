"""Health in the database: the last results of each container's checks, and the status in its document."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from tare.engine.records import ContainerRecords
from tare.model.container import Container, ContainerState, HealthState
from tare.store.database import Database

KEPT_RESULTS = 5


class CheckResult(msgspec.Struct, rename="pascal", frozen=True, kw_only=True):
    """One check (API ``HealthcheckResult``): times in RFC 3339; exit code 0 is healthy, -1 is "could not be run"."""

    start: str
    end: str
    exit_code: int
    output: str


_decoder = msgspec.json.Decoder(list[CheckResult])


class HealthRecords:
    """Reads and writes what is known of containers' health."""

    def __init__(self, database: Database, records: ContainerRecords) -> None:
        self._database = database
        self._records = records

    async def log(self, container_id: str) -> list[CheckResult]:
        """The last results, oldest first."""

        def transaction(connection: sqlite3.Connection) -> list[CheckResult]:
            row = connection.execute("SELECT log FROM container_health WHERE container = ?", (container_id,)).fetchone()
            return [] if row is None else _decoder.decode(row[0])

        return await self._database.read(transaction)

    async def write_log(self, container_id: str, results: Sequence[CheckResult]) -> None:
        """Store the last results; quiet when the container has been removed meanwhile."""
        text = msgspec.json.encode(list(results)).decode()

        def transaction(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO container_health (container, log) SELECT id, ? FROM containers WHERE id = ?"
                " ON CONFLICT (container) DO UPDATE SET log = excluded.log",
                (text, container_id),
            )

        await self._database.write(transaction, durable=False)

    async def set_health(self, container_id: str, health: HealthState) -> Container:
        """Store status and streak. Raises NotFound."""

        def changed(state: ContainerState) -> None:
            state.health = health

        return await self._records.set_state(container_id, changed)
