"""Images: configurations, their layers and their tags."""

from __future__ import annotations

import json
import logging
import re
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from tare.errors import Conflict, DataCorrupt, InvalidArgument, NotFound
from tare.model import Digest, Platform, Reference
from tare.oci.image import MEDIA_TYPE_CONFIG, ImageConfig, encode
from tare.store.content import ContentStore
from tare.store.database import Database
from tare.store.leases import Leases

logger = logging.getLogger(__name__)

_HEX_ID = re.compile(r"[0-9a-f]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A stored image; ``id`` is the digest of its configuration, ``size`` the sum of its layer tars in bytes.

    ``created`` is when it came into this store, ``tagged`` when it got the latest of its names, in seconds since the
    epoch; None without a name. ``digests`` are the names with a digest that registries know it by.
    """

    id: Digest
    config: ImageConfig
    tags: tuple[Reference, ...]
    size: int
    created: float
    digests: tuple[Reference, ...] = ()
    tagged: float | None = None

    @property
    def platform(self) -> Platform:
        """What the configuration says it is for."""
        return self.config.platform

    @property
    def diff_ids(self) -> tuple[Digest, ...]:
        """The layers, bottom first."""
        return tuple(Digest.parse(text) for text in self.config.rootfs.diff_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownAs:
    """What a registry knows an image by.

    ``repository`` is the canonical name (domain and path), ``digest`` that of the manifest or of the index that the
    registry answers with, ``manifest`` that of the image's own manifest. Both are blobs of the store.
    """

    repository: str
    digest: Digest
    manifest: Digest


@dataclass(frozen=True, slots=True)
class NewImage:
    """The bytes of an image's configuration, and the names that it gets."""

    document: bytes
    tags: tuple[Reference, ...] = ()


@dataclass(frozen=True, slots=True)
class _Row:
    id: Digest
    size: int
    created: float
    tags: tuple[Reference, ...]
    digests: tuple[Reference, ...]
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

    async def create_from(
        self, document: bytes, *, tag: Reference | None = None, beside: bool = False, known_as: KnownAs | None = None
    ) -> Digest:
        """As :meth:`create`, from the configuration's own bytes, which decide the ID.

        ``beside``: see :meth:`tag`. With ``known_as``, images of the same index keep the tag. Raises DataCorrupt.
        """
        config = _decode(document, "image configuration")
        async with self._leases.hold() as lease:
            digest = await self._content.write(document, MEDIA_TYPE_CONFIG, lease)
            kept = await self._beside(tag, config.platform) if tag is not None and beside else ()

            def insert(connection: sqlite3.Connection) -> None:
                _insert_image(connection, digest, config.rootfs.diff_ids)
                if known_as is not None:
                    _set_digest(connection, known_as, digest)
                if tag is not None:
                    _set_tag(connection, tag, digest, [*kept, *_siblings(connection, known_as)])

            await self._db.write(insert)
        return digest

    async def create_all(self, new: Sequence[NewImage]) -> list[dict[Reference, Digest]]:
        """Store several images and name them: all or, when anything goes wrong, none.

        Images for different platforms have a name together, of the same platform the last one. Returns for each the
        names that another image had, with that image's ID. Raises DataCorrupt, and NotFound for a missing layer.
        """
        configs = [_decode(item.document, "image configuration") for item in new]
        async with self._leases.hold() as lease:
            digests = [await self._content.write(item.document, MEDIA_TYPE_CONFIG, lease) for item in new]

            def insert(connection: sqlite3.Connection) -> list[dict[Reference, Digest]]:
                bearers: dict[Reference, dict[Platform, Digest]] = {}
                for item, config, digest in zip(new, configs, digests, strict=True):
                    _insert_image(connection, digest, config.rootfs.diff_ids)
                    for name in item.tags:
                        bearers.setdefault(name, {})[config.platform] = digest
                taken: dict[Reference, Digest] = {}
                for name, images in bearers.items():
                    several = list(images.values())
                    former = [row.id for row in _tagged(connection, name) if row.id not in several]
                    if former:
                        taken[name] = former[0]
                    for digest in several:
                        _set_tag(connection, name, digest, several)
                return [{name: taken[name] for name in item.tags if name in taken} for item in new]

            return await self._db.write(insert)

    async def know(self, image: Digest, known_as: KnownAs, *, tag: Reference | None = None) -> None:
        """Note what a registry knows the image by, and name it beside those of the same index. Raises NotFound."""

        def insert(connection: sqlite3.Connection) -> None:
            if connection.execute("SELECT 1 FROM images WHERE id = ?", (str(image),)).fetchone() is None:
                raise NotFound(f"No such image: {image}")
            _set_digest(connection, known_as, image)
            if tag is not None:
                _set_tag(connection, tag, image, _siblings(connection, known_as))

        await self._db.write(insert)

    async def known_as(self, image: Digest) -> list[KnownAs]:
        """What registries know an image by, the last seen first."""
        rows = await self._db.read(
            lambda connection: connection.execute(
                "SELECT repository, digest, manifest FROM image_digests WHERE image = ? ORDER BY updated DESC",
                (str(image),),
            ).fetchall()
        )
        return [
            KnownAs(repository=repository, digest=Digest.parse(digest), manifest=Digest.parse(manifest))
            for repository, digest, manifest in rows
        ]

    async def tag(self, image: Digest, reference: Reference, *, beside: bool = False) -> None:
        """Let ``reference`` name the image; other images that had it lose it.

        With ``beside``, images for other platforms keep it: the name stands for one image of each platform, as an
        index of a registry does. Raises NotFound.
        """
        kept = await self._beside(reference, (await self.get(image)).platform) if beside else ()

        def update(connection: sqlite3.Connection) -> None:
            if connection.execute("SELECT 1 FROM images WHERE id = ?", (str(image),)).fetchone() is None:
                raise NotFound(f"No such image: {image}")
            _set_tag(connection, reference, image, kept)

        await self._db.write(update)

    async def untag(self, reference: Reference, image: Digest) -> None:
        """Take a tag, or a digest of a repository, away from one image, which stays. Raises NotFound."""

        def update(connection: sqlite3.Connection) -> None:
            if reference.digest is not None:
                gone = connection.execute(
                    "DELETE FROM image_digests WHERE repository = ? AND digest = ? AND image = ?",
                    (reference.name, str(reference.digest), str(image)),
                )
            else:
                parameters = (_key(reference), str(image))
                gone = connection.execute("DELETE FROM tags WHERE reference = ? AND image = ?", parameters)
            if not gone.rowcount:
                raise NotFound(f"No such image: {reference.familiar()}")

        await self._db.write(update)

    async def resolve(self, name: str, platform: Platform | None = None, *, damaged: bool = False) -> Image:
        """The image that a user means: ``name[:tag]``, ``name@digest``, an ID or the start of one; a name wins.

        Where a name stands for several platforms it is the image for ``platform``, else for this machine, else the
        youngest one: the result may be for another platform than the one asked for. With ``damaged`` an image whose
        configuration cannot be read is found as well, with an empty one: enough to remove it. Raises NotFound,
        DataCorrupt and, for a start that several IDs have, Conflict.
        """
        rows = await self._db.read(lambda connection: _resolve(connection, name))
        if len(rows) == 1:
            return await self._load(rows[0], damaged=damaged)
        return _choose([await self._load(row, damaged=damaged) for row in rows], platform)

    async def named(self, reference: Reference, *, damaged: bool = False) -> list[Image]:
        """All images that have this name, for different platforms, the last one that got it first.

        ``damaged``: see :meth:`resolve`.
        """
        rows = await self._db.read(lambda connection: _tagged(connection, reference))
        return [await self._load(row, damaged=damaged) for row in rows]

    async def _beside(self, reference: Reference, platform: Platform) -> list[Digest]:
        return [image.id for image in await self.named(reference, damaged=True) if image.platform != platform]

    async def get(self, digest: Digest, *, damaged: bool = False) -> Image:
        """The image with this ID. Raises NotFound, DataCorrupt; ``damaged``: see :meth:`resolve`."""
        row = await self._db.read(lambda connection: _one(connection, str(digest)))
        if row is None:
            raise NotFound(f"No such image: {digest}")
        return await self._load(row, damaged=damaged)

    async def names(self) -> list[tuple[Reference, Digest]]:
        """Every name with the image that has it, sorted by name."""
        rows = await self._db.read(
            lambda connection: connection.execute("SELECT reference, image FROM tags ORDER BY reference").fetchall()
        )
        return [(Reference.parse(text, default_tag=""), Digest.parse(image)) for text, image in rows]

    async def in_repository(self, name: str) -> tuple[list[tuple[Reference, Digest]], bool]:
        """The tags of a repository (domain and path) with their images, and whether it has any tag or digest here."""

        def query(connection: sqlite3.Connection) -> tuple[list[tuple[Reference, Digest]], bool]:
            found = connection.execute(
                "SELECT reference, image FROM tags WHERE substr(reference, 1, length(:name) + 1) = :name || ':'"
                " ORDER BY reference",
                {"name": name},
            ).fetchall()
            digests = connection.execute("SELECT 1 FROM image_digests WHERE repository = ?", (name,)).fetchone()
            tags = [(Reference.parse(text), Digest.parse(image)) for text, image in found]
            return tags, bool(tags or digests)

        return await self._db.read(query)

    async def ids(self, names: Iterable[str]) -> dict[str, set[Digest]]:
        """The IDs of all images that each of these names stands for; what names none is left out."""

        def look(connection: sqlite3.Connection) -> dict[str, set[Digest]]:
            found = {}
            for name in set(names):
                try:
                    found[name] = {row.id for row in _resolve(connection, name)}
                except (NotFound, InvalidArgument, Conflict):
                    continue
            return found

        return await self._db.read(look)

    async def related(self, image: Image) -> list[Image]:
        """All images whose bottom layer is the image's, and those without layers: its parents and children are here."""
        if not image.diff_ids:
            return await self.list()

        def look(connection: sqlite3.Connection) -> list[_Row]:
            found = connection.execute(
                "SELECT image FROM image_layers WHERE position = 0 AND diff_id = ?"
                " UNION SELECT id FROM images WHERE id NOT IN (SELECT image FROM image_layers)",
                (str(image.diff_ids[0]),),
            ).fetchall()
            wanted = {key for (key,) in found}
            return [row for row in _rows(connection, "%") if str(row.id) in wanted]

        return await self._load_whole(await self._db.read(look))

    async def _load_whole(self, rows: Iterable[_Row]) -> list[Image]:
        found = []
        for row in rows:
            try:
                found.append(await self._load(row))
            except (NotFound, DataCorrupt) as error:
                logger.warning("image %s is left out: %s; see `tare fsck`", row.id, error)
        return found

    async def list(self) -> list[Image]:
        """All images, newest first; without those whose configuration is damaged, which must not hide the others."""
        return await self._load_whole(await self._db.read(lambda connection: _rows(connection, "%")))

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
                " AND NOT EXISTS (SELECT 1 FROM image_digests WHERE image = :image)"
                " AND NOT EXISTS (SELECT 1 FROM containers WHERE image = :image)"
                " AND NOT EXISTS (SELECT 1 FROM lease_references"
                " WHERE kind = 'image' AND object = :image AND lease <> :lease)",
                {"image": str(digest), "lease": lease},
            )

        await self._db.write(delete, durable=False)

    async def _load(self, row: _Row, *, damaged: bool = False) -> Image:
        try:
            config = _decode(await self._content.read(row.id), str(row.id))
        except (NotFound, DataCorrupt):
            if not damaged:
                raise
            config = ImageConfig(architecture="", os="")
        return Image(
            id=row.id,
            config=config,
            tags=row.tags,
            size=row.size,
            created=row.created,
            digests=row.digests,
            tagged=row.tagged,
        )


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


def _set_tag(connection: sqlite3.Connection, reference: Reference, image: Digest, kept: Sequence[Digest] = ()) -> None:
    connection.execute(
        "DELETE FROM tags WHERE reference = ? AND image NOT IN (SELECT value FROM json_each(?))",
        (_key(reference), json.dumps([str(digest) for digest in kept])),
    )
    connection.execute("INSERT OR REPLACE INTO tags VALUES (?, ?, ?)", (_key(reference), str(image), time.time()))


def _choose(images: Sequence[Image], platform: Platform | None) -> Image:
    """The image for the platform that is asked for, else for this machine, else the first."""
    for wanted in (platform, Platform.host()):
        for image in images:
            if wanted is not None and image.platform.satisfies(wanted):
                return image
    return images[0]


def _tagged(connection: sqlite3.Connection, reference: Reference) -> list[_Row]:
    found = connection.execute(*_named(reference)).fetchall()
    return [row for (key,) in found if (row := _one(connection, key)) is not None]


def _siblings(connection: sqlite3.Connection, known_as: KnownAs | None) -> list[Digest]:
    """The images behind the same index."""
    if known_as is None:
        return []
    found = connection.execute(
        "SELECT image FROM image_digests WHERE repository = ? AND digest = ?",
        (known_as.repository, str(known_as.digest)),
    ).fetchall()
    return [Digest.parse(image) for (image,) in found]


def _set_digest(connection: sqlite3.Connection, known_as: KnownAs, image: Digest) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO image_digests VALUES (?, ?, ?, ?, ?)",
        (known_as.repository, str(known_as.digest), str(image), str(known_as.manifest), time.time()),
    )


def _rows(connection: sqlite3.Connection, pattern: str) -> list[_Row]:
    found = connection.execute(
        "SELECT id, size, created, (SELECT json_group_array(reference) FROM tags WHERE image = images.id),"
        " (SELECT json_group_array(repository || '@' || digest) FROM image_digests WHERE image = images.id),"
        " (SELECT max(updated) FROM tags WHERE image = images.id)"
        " FROM images WHERE id LIKE ? ORDER BY created DESC, rowid DESC",
        (pattern,),
    ).fetchall()
    return [
        _Row(Digest.parse(key), size, created, _references(tags), _references(digests), tagged)
        for key, size, created, tags, digests, tagged in found
    ]


def _references(document: str) -> tuple[Reference, ...]:
    return tuple(Reference.parse(text) for text in sorted(json.loads(document)))


def _one(connection: sqlite3.Connection, digest: str) -> _Row | None:
    rows = _rows(connection, digest)
    return rows[0] if rows else None


def _resolve(connection: sqlite3.Connection, name: str) -> list[_Row]:
    if not name:
        raise InvalidArgument("invalid reference format: the image name is empty")
    by_id = name.removeprefix("sha256:")
    if (name.startswith("sha256:") or len(by_id) == 64) and _HEX_ID.fullmatch(by_id):
        return [_by_prefix(connection, by_id, f"sha256:{by_id}" if len(by_id) == 64 else name)]
    try:
        reference = Reference.parse(name)
    except InvalidArgument:
        if _HEX_ID.fullmatch(by_id):
            return [_by_prefix(connection, by_id, name)]
        raise
    if tagged := _tagged(connection, reference):
        return tagged
    if reference.digest is not None and (image := _one(connection, str(reference.digest))) is not None:
        return [image]
    if _HEX_ID.fullmatch(name):
        return [_by_prefix(connection, name, reference.familiar())]
    raise NotFound(f"No such image: {reference.familiar()}")


def _named(reference: Reference) -> tuple[str, tuple[str, ...]]:
    """The query for the images that have a name; with a digest, a tag counts for nothing, as in Docker."""
    if reference.digest is not None:
        return (
            "SELECT image FROM image_digests WHERE repository = ? AND digest = ? ORDER BY updated DESC, rowid DESC",
            (reference.name, str(reference.digest)),
        )
    return "SELECT image FROM tags WHERE reference = ? ORDER BY updated DESC, rowid DESC", (_key(reference),)


def _by_prefix(connection: sqlite3.Connection, prefix: str, shown: str) -> _Row:
    rows = _rows(connection, f"sha256:{prefix}%")
    if not rows:
        raise NotFound(f"No such image: {shown}")
    if len(rows) > 1:
        raise Conflict(f"image ID {prefix} is ambiguous: {len(rows)} images start with it", hint="give more digits")
    return rows[0]
