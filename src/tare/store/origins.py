"""What builds know of the layers that they made; goes with the image."""

from __future__ import annotations

import sqlite3

import msgspec

from tare.model import Digest
from tare.store.database import Database


class LayerOrigin(msgspec.Struct, omit_defaults=True, frozen=True, kw_only=True):
    """The instruction that wrote a layer: its stage and line; ``source`` is the stage that ``COPY --from`` names."""

    stage: str = ""
    text: str = ""
    file: str = ""
    line: int = 0
    source: str = ""


class StageOrigin(msgspec.Struct, omit_defaults=True, frozen=True, kw_only=True):
    """A stage of the build: ``left`` are the bytes that it made and the image does not have."""

    name: str
    left: int = 0


class ImageOrigin(msgspec.Struct, omit_defaults=True, frozen=True, kw_only=True):
    """A build: ``base`` names the image that the first ``below`` layers are of; the others have an origin each."""

    base: str = ""
    below: int = 0
    layers: list[LayerOrigin] = []
    stages: list[StageOrigin] = []


class Origins:
    """The origins of images that were built here."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def save(self, image: Digest, origin: ImageOrigin) -> None:
        """Keep the origin of a stored image; the last build of it counts. An image that has gone is passed over."""
        document = msgspec.json.encode(origin).decode()

        def insert(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO image_origins SELECT id, ? FROM images WHERE id = ?"
                " ON CONFLICT (image) DO UPDATE SET document = excluded.document",
                (document, str(image)),
            )

        await self._db.write(insert, durable=False)

    async def load(self, image: Digest) -> ImageOrigin | None:
        """The origin of an image; None where it was not built here."""
        row = await self._db.read(
            lambda connection: connection.execute(
                "SELECT document FROM image_origins WHERE image = ?", (str(image),)
            ).fetchone()
        )
        return msgspec.json.decode(row[0], type=ImageOrigin) if row else None
