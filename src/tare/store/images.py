"""Images: configurations, their layers and their tags."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from tare.errors import Conflict, DataCorrupt, InvalidArgument, NotFound
from tare.model import Digest, Reference
from tare.oci.image import MEDIA_TYPE_CONFIG, ImageConfig, encode
from tare.store.content import ContentStore
from tare.store.database import Database
from tare.store.leases import Leases

_HEX_ID = re.compile(r"[0-9a-f]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A stored image; ``id`` is the digest of its configuration, ``size`` the sum of its layer tars in bytes.

    ``created`` is when it came into this store, ``tagged`` when it got the latest of its names, in seconds since the
    epoch; None without a name.
    """

    id: Digest
    config: ImageConfig
    tags: tuple[Reference, ...]
    size: int
    created: float
    tagged: float | None = None

    @property
    def diff_ids(self) -> tuple[Digest, ...]:
        """The layers, bottom first."""
        return tuple(Digest.parse(text) for text in self.config.rootfs.diff_ids)


@dataclass(frozen=True, slots=True)
class _Row:
    id: Digest
    size: int
    created: float
    tags: tuple[Reference, ...]
    tagged: float | None


class ImageStore:
    """The images of one engine."""

    def __init__(self, db: Database, content: ContentStore, leases: Leases) -> None:
        self._db = db
        self._content = content
        self._leases = leases

    async def create(self, config: ImageConfig, *, tag: Reference | None = None) -> Digest:
        """Store an image made of layers that are here already; idempotent, returns its ID.

        Raises NotFound for a missing layer.
        """
        return await self.create_from(encode(config), tag=tag)

    async def create_from(self, document: bytes, *, tag: Reference | None = None) -> Digest:
        """As :meth:`create`, from the configuration's own bytes, which decide the ID. Raises DataCorrupt."""
        config = _decode(document, "image configuration")
        async with self._leases.hold() as lease:
            digest = await self._content.write(document, MEDIA_TYPE_CONFIG, lease)

            def insert(connection: sqlite3.Connection) -> None:
                _insert_image(connection, digest, config.rootfs.diff_ids)
                if tag is not None:
                    _set_tag(connection, tag, digest)

            await self._db.write(insert)
        return digest

    async def tag(self, image: Digest, reference: Reference) -> None:
        """Let ``reference`` name the image; another image that had it loses it. Raises NotFound."""

        def update(connection: sqlite3.Connection) -> None:
            if connection.execute("SELECT 1 FROM images WHERE id = ?", (str(image),)).fetchone() is None:
                raise NotFound(f"No such image: {image}")
            _set_tag(connection, reference, image)

        await self._db.write(update)

    async def untag(self, reference: Reference) -> Digest:
        """Take a tag away; the image stays. Returns the image's ID. Raises NotFound."""

        def update(connection: sqlite3.Connection) -> Digest:
            row = connection.execute(
                "DELETE FROM tags WHERE reference = ? RETURNING image", (_key(reference),)
            ).fetchone()
            if row is None:
                raise NotFound(f"No such image: {reference.familiar()}")
            return Digest.parse(row[0])

        return await self._db.write(update)

    async def resolve(self, name: str) -> Image:
        """The image that a user means: ``name[:tag]``, ``name@digest``, an ID or the start of one; a name wins.

        Raises NotFound and, for a start that several IDs have, Conflict.
        """
        row = await self._db.read(lambda connection: _resolve(connection, name))
        return await self._load(row)

    async def get(self, digest: Digest) -> Image:
        """The image with this ID. Raises NotFound."""
        row = await self._db.read(lambda connection: _one(connection, str(digest)))
        if row is None:
            raise NotFound(f"No such image: {digest}")
        return await self._load(row)

    async def ids(self, names: Iterable[str]) -> dict[str, Digest]:
        """The IDs of the images that these names stand for, as :meth:`resolve` has it; what names none is left out."""

        def look(connection: sqlite3.Connection) -> dict[str, Digest]:
            found = {}
            for name in set(names):
                try:
                    found[name] = _resolve(connection, name).id
                except (NotFound, InvalidArgument, Conflict):
                    continue
            return found

        return await self._db.read(look)

    async def list(self) -> list[Image]:
        """All images, newest first."""
        rows = await self._db.read(lambda connection: _rows(connection, "%"))
        return [await self._load(row) for row in rows]

    async def remove(self, digest: Digest) -> None:
        """Delete an image and its tags; its layers go with the next collection.

        Raises NotFound, and Conflict naming the containers that use it.
        """

        def delete(connection: sqlite3.Connection) -> None:
            users = connection.execute(
                "SELECT substr(id, 1, 12), name FROM containers WHERE image = ? ORDER BY created", (str(digest),)
            ).fetchall()
            if users:
                names = ", ".join(f"{short} ({name.lstrip('/')})" for short, name in users)
                raise Conflict(f"image {digest.hex[:12]} is being used by container {names}", hint="remove it first")
            connection.execute("DELETE FROM tags WHERE image = ?", (str(digest),))
            if not connection.execute("DELETE FROM images WHERE id = ?", (str(digest),)).rowcount:
                raise NotFound(f"No such image: {digest}")

        await self._db.write(delete, freeing=True)

    async def remove_unnamed(self, digest: Digest, lease: str) -> None:
        """Delete an image that has no name and that nobody but ``lease`` uses; leave any other as it is."""

        def delete(connection: sqlite3.Connection) -> None:
            connection.execute(
                "DELETE FROM images WHERE id = :image"
                " AND NOT EXISTS (SELECT 1 FROM tags WHERE image = :image)"
                " AND NOT EXISTS (SELECT 1 FROM containers WHERE image = :image)"
                " AND NOT EXISTS (SELECT 1 FROM lease_references"
                " WHERE kind = 'image' AND object = :image AND lease <> :lease)",
                {"image": str(digest), "lease": lease},
            )

        await self._db.write(delete, durable=False)

    async def _load(self, row: _Row) -> Image:
        config = _decode(await self._content.read(row.id), str(row.id))
        return Image(id=row.id, config=config, tags=row.tags, size=row.size, created=row.created, tagged=row.tagged)


def _decode(document: bytes, what: str) -> ImageConfig:
    try:
        return msgspec.json.decode(document, type=ImageConfig)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataCorrupt(f"{what}: invalid image configuration: {error}") from error


def _key(reference: Reference) -> str:
    """A tag's canonical form; the digest of ``name:tag@digest`` is not part of it."""
    return f"{reference.name}:{reference.tag}" if reference.tag else str(reference)


def _insert_image(connection: sqlite3.Connection, digest: Digest, diff_ids: Iterable[str]) -> None:
    layers = list(diff_ids)
    total = 0
    for diff_id in layers:
        row = connection.execute("SELECT size FROM layers WHERE diff_id = ?", (diff_id,)).fetchone()
        if row is None:
            raise NotFound(f"no such layer: {diff_id}")
        total += row[0]
    now = time.time()
    if connection.execute("INSERT OR IGNORE INTO images VALUES (?, ?, ?)", (str(digest), now, total)).rowcount:
        connection.executemany(
            "INSERT INTO image_layers VALUES (?, ?, ?)",
            [(str(digest), position, diff_id) for position, diff_id in enumerate(layers)],
        )


def _set_tag(connection: sqlite3.Connection, reference: Reference, image: Digest) -> None:
    connection.execute(
        "INSERT INTO tags VALUES (?, ?, ?) ON CONFLICT (reference) DO UPDATE"
        " SET image = excluded.image, updated = excluded.updated",
        (_key(reference), str(image), time.time()),
    )


def _rows(connection: sqlite3.Connection, pattern: str) -> list[_Row]:
    found = connection.execute(
        "SELECT id, size, created, (SELECT json_group_array(reference) FROM tags WHERE image = images.id),"
        " (SELECT max(updated) FROM tags WHERE image = images.id)"
        " FROM images WHERE id LIKE ? ORDER BY created DESC, rowid DESC",
        (pattern,),
    ).fetchall()
    return [
        _Row(
            Digest.parse(key), size, created, tuple(Reference.parse(text) for text in sorted(json.loads(tags))), tagged
        )
        for key, size, created, tags, tagged in found
    ]


def _one(connection: sqlite3.Connection, digest: str) -> _Row | None:
    rows = _rows(connection, digest)
    return rows[0] if rows else None


def _resolve(connection: sqlite3.Connection, name: str) -> _Row:
    if not name:
        raise InvalidArgument("invalid reference format: the image name is empty")
    by_id = name.removeprefix("sha256:")
    if (name.startswith("sha256:") or len(by_id) == 64) and _HEX_ID.fullmatch(by_id):
        return _by_prefix(connection, by_id, f"sha256:{by_id}" if len(by_id) == 64 else name)
    try:
        reference = Reference.parse(name)
    except InvalidArgument:
        if _HEX_ID.fullmatch(by_id):
            return _by_prefix(connection, by_id, name)
        raise
    row = connection.execute("SELECT image FROM tags WHERE reference = ?", (_key(reference),)).fetchone()
    if row is not None and (image := _one(connection, row[0])) is not None:
        return image
    if reference.digest is not None and (image := _one(connection, str(reference.digest))) is not None:
        return image
    if _HEX_ID.fullmatch(name):
        return _by_prefix(connection, name, reference.familiar())
    raise NotFound(f"No such image: {reference.familiar()}")


def _by_prefix(connection: sqlite3.Connection, prefix: str, shown: str) -> _Row:
    rows = _rows(connection, f"sha256:{prefix}%")
    if not rows:
        raise NotFound(f"No such image: {shown}")
    if len(rows) > 1:
        raise Conflict(f"image ID {prefix} is ambiguous: {len(rows)} images start with it", hint="give more digits")
    return rows[0]
