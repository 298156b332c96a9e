"""In which compressed forms registries have the layers of this store: what need not be transferred again."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass

from tare.model import Digest
from tare.store.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerBlob:
    """A layer as a registry has it: ``digest`` and ``size`` (bytes) of the form of ``media_type``.

    ``repository`` is the canonical name (domain and path) of where it was seen.
    """

    digest: Digest
    size: int
    media_type: str
    repository: str


class LayerBlobs:
    """What is known of layers in registries; goes with the layer."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def add(self, *blobs: tuple[Digest, LayerBlob]) -> None:
        """Remember in which forms repositories have layers, by diffID, as somebody has seen who looked at the bytes.

        What is not in the store is passed over.
        """
        rows = [
            (blob.repository, str(blob.digest), blob.size, blob.media_type, time.time(), str(diff_id))
            for diff_id, blob in blobs
        ]

        def insert(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "INSERT OR REPLACE INTO layer_blobs SELECT diff_id, ?, ?, ?, ?, ? FROM layers WHERE diff_id = ?", rows
            )

        await self._db.write(insert, durable=False)

    async def confirm(self, *blobs: tuple[Digest, LayerBlob]) -> None:
        """As :meth:`add` for forms that somebody claims: only those that are known from elsewhere are taken."""
        rows = [(blob.repository, time.time(), str(diff_id), str(blob.digest)) for diff_id, blob in blobs]

        def insert(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "INSERT OR REPLACE INTO layer_blobs SELECT diff_id, ?, digest, size, media_type, ? FROM layer_blobs"
                " WHERE diff_id = ? AND digest = ? LIMIT 1",
                rows,
            )

        await self._db.write(insert, durable=False)

    async def forget(self, diff_id: Digest, blob: LayerBlob) -> None:
        """The repository has it no longer."""
        await self._db.write(
            lambda connection: connection.execute(
                "DELETE FROM layer_blobs WHERE diff_id = ? AND repository = ? AND digest = ?",
                (str(diff_id), blob.repository, str(blob.digest)),
            ),
            durable=False,
        )

    async def of_layer(self, diff_id: Digest) -> list[LayerBlob]:
        """All forms of a layer and where they were seen, the last seen first."""
        rows = await self._db.read(
            lambda connection: connection.execute(
                "SELECT digest, size, media_type, repository FROM layer_blobs WHERE diff_id = ? ORDER BY seen DESC",
                (str(diff_id),),
            ).fetchall()
        )
        return [
            LayerBlob(digest=Digest.parse(digest), size=size, media_type=media_type, repository=repository)
            for digest, size, media_type, repository in rows
        ]

    async def layer_of(self, digest: Digest) -> Digest | None:
        """The diffID of the stored layer that has this form somewhere, if there is one."""
        row = await self._db.read(
            lambda connection: connection.execute(
                "SELECT diff_id FROM layer_blobs WHERE digest = ?", (str(digest),)
            ).fetchone()
        )
        return Digest.parse(row[0]) if row else None
