"""Layers: uncompressed tars named by their own digest (the diffID of OCI image-spec, config.md)."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from tare.archive.compression import Compression, compressor, decompress
from tare.archive.expansion import Counted, Expanded, ExpansionLimits
from tare.base.locks import KeyedLocks
from tare.base.readers import Readable, VerifyingReader, copy_stream
from tare.errors import DataCorrupt, InvalidArgument, NotFound
from tare.model import Digest
from tare.store.database import Database
from tare.store.files import StagedFile, stage
from tare.store.incoming import LayerCheck
from tare.store.leases import insert_reference
from tare.store.placing import place

_SETTINGS = {"size": "bytes", "ratio": "ratio"}


@dataclass(frozen=True, slots=True)
class Layer:
    """A stored layer; ``size`` in bytes of the tar."""

    diff_id: Digest
    size: int


class LayerStore:
    """Layer files ``layers/<hex>.tar`` and their rows."""

    def __init__(self, db: Database, root: Path, staging: Path, locks: KeyedLocks) -> None:
        self._db = db
        self._root = root
        self._staging = staging
        self._locks = locks

    def path(self, diff_id: Digest) -> Path:
        """Where the layer's tar lies, whether or not it exists."""
        return self._root / f"{diff_id.hex}.tar"

    async def write(
        self, produce: Callable[[BinaryIO], None], *, lease: str | None = None, expected: Digest | None = None
    ) -> Layer:
        """Store the tar that ``produce`` writes; it runs in a thread. Idempotent by content.

        A damaged file of the same layer is replaced. Raises what ``produce`` raises, DataCorrupt when it is not the
        ``expected`` tar, and Exhausted; nothing is stored then.
        """
        staged = await stage(self._staging, produce, what=f"layer {expected or ''}".strip(), expected=expected)
        return await self.install(staged, lease)

    async def is_whole(self, diff_id: Digest) -> bool:
        """Whether the layer is stored and its file has the size that it must have; its bytes are not read.

        For those who would get a layer again that is here: of one whose file is gone or cut short only the row is here.
        """
        try:
            layer = await self.get(diff_id)
        except NotFound:
            return False
        return await asyncio.to_thread(self._has_file, diff_id, layer.size)

    def _has_file(self, diff_id: Digest, size: int) -> bool:
        try:
            status = self.path(diff_id).lstat()
        except OSError:
            return False
        return stat.S_ISREG(status.st_mode) and status.st_size == size

    async def import_stream(self, stream: Readable, expected: Digest | None, *, lease: str | None = None) -> Layer:
        """Store an uncompressed tar that comes from outside.

        Raises DataCorrupt when it is not the ``expected`` one, or its members are such as no layer may have
        (:func:`~tare.archive.tar_stream.iter_entries`); Exhausted.
        """
        members = LayerCheck()
        produce = partial(members.copy, stream)
        staged = await stage(self._staging, produce, what=f"layer {expected or ''}".strip(), expected=expected)
        members.settle(staged)
        return await self.install(staged, lease)

    async def import_compressed(
        self,
        blob: Path,
        expected: Digest,
        limits: ExpansionLimits,
        *,
        lease: str | None = None,
        observe: Callable[[int], None] | None = None,
    ) -> Layer:
        """Store the tar that a verified file holds, gzip, zstd or plain; its diffID has to be ``expected``.

        ``observe`` is told the bytes read of the file, in a thread. Raises DataCorrupt for damaged data and another
        diffID, InvalidArgument (``layer-bomb``) past the limits, Exhausted; nothing is stored then.
        """

        def refuse(excess: str, limit: str) -> InvalidArgument:
            setting = f"max_layer_{_SETTINGS[limit]}"
            return InvalidArgument(
                f"layer {expected}: it unpacks to {excess}",
                hint=f"if it is meant to, raise {setting} in the section images of the configuration",
                code="layer-bomb",
            )

        members = LayerCheck()

        def produce(sink: BinaryIO) -> None:
            with blob.open("rb", buffering=0) as source:
                compressed = Counted(source, observe)
                members.copy(Expanded(decompress(compressed), compressed, limits, refuse), sink)

        try:
            staged = await stage(self._staging, produce, what=f"layer {expected}", expected=expected)
        except DataCorrupt as error:
            raise DataCorrupt(
                f"{error.message}: what was transferred is not the layer that the image's configuration names",
                hint="whoever made the image has to make it again",
                code=error.code or "layer-differs",
            ) from error
        members.settle(staged)
        return await self.install(staged, lease)

    @asynccontextmanager
    async def compressed(
        self, diff_id: Digest, kind: Compression, observe: Callable[[int], None] | None = None
    ) -> AsyncIterator[StagedFile]:
        """The layer in a compressed form, for the time of the block; the same bytes each time.

        ``observe`` is told the bytes read of the tar, in a thread. Raises NotFound, DataCorrupt for a tar that is not
        what its name says, Exhausted.
        """
        what = f"layer {diff_id}"

        def produce(sink: BinaryIO) -> None:
            with self.path(diff_id).open("rb", buffering=0) as file, compressor(sink, kind) as stream:
                reader = VerifyingReader(Counted(file, observe), what=what)
                copy_stream(reader, stream)
                reader.verify(sha256=diff_id.hex)

        try:
            staged = await stage(self._staging, produce, what=what, durable=False)
        except FileNotFoundError as error:
            raise NotFound(f"no such layer: {diff_id}") from error
        except DataCorrupt as error:
            path = self.path(diff_id)
            raise DataCorrupt(
                f"{path}: {error.message}", hint="remove the image and get it again", code="layer-damaged"
            ) from error
        try:
            yield staged
        finally:
            await asyncio.to_thread(staged.discard)

    async def hold(self, diff_id: Digest, lease: str) -> bool:
        """Let ``lease`` hold a layer; False where the store has none."""
        return await self._hold(diff_id, lease, whole=False)

    async def hold_whole(self, diff_id: Digest, lease: str) -> bool:
        """As :meth:`hold`, but False also for a layer whose file is gone or has another size.

        For those who would get the layer if it were not here: so they heal it.
        """
        return await self._hold(diff_id, lease, whole=True)

    async def _hold(self, diff_id: Digest, lease: str, *, whole: bool) -> bool:
        def insert(connection: sqlite3.Connection) -> bool:
            row = connection.execute("SELECT size FROM layers WHERE diff_id = ?", (str(diff_id),)).fetchone()
            if row is None or (whole and not self._has_file(diff_id, row[0])):
                return False
            insert_reference(connection, lease, "layer", str(diff_id))
            return True

        return await self._db.write(insert, durable=False)

    async def get(self, diff_id: Digest) -> Layer:
        """The layer's row. Raises NotFound."""
        row = await self._db.read(
            lambda connection: connection.execute(
                "SELECT size FROM layers WHERE diff_id = ?", (str(diff_id),)
            ).fetchone()
        )
        if row is None:
            raise NotFound(f"no such layer: {diff_id}")
        return Layer(diff_id, row[0])

    async def sizes(self) -> dict[str, int]:
        """Bytes of the tar of every layer, by diffID."""
        return await self._db.read(
            lambda connection: dict(connection.execute("SELECT diff_id, size FROM layers").fetchall())
        )

    async def usage(self) -> int:
        """Bytes on disk of the layers that images have: their tars, and what has been unpacked of them."""

        def measure(connection: sqlite3.Connection) -> int:
            (size,) = connection.execute(
                "SELECT (SELECT coalesce(sum(size), 0) FROM layers WHERE diff_id IN (SELECT diff_id FROM image_layers))"
                " + (SELECT coalesce(sum(size), 0) FROM snapshots"
                " WHERE kind = 'layer' AND key IN (SELECT diff_id FROM image_layers))"
            ).fetchone()
            return int(size)

        return await self._db.read(measure)

    async def install(self, staged: StagedFile, lease: str | None) -> Layer:
        """Store a layer's complete file, which gets its final name; idempotent. Raises Exhausted."""
        diff_id = str(staged.digest)

        def insert(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO layers (diff_id, size, created) VALUES (?, ?, ?)"
                " ON CONFLICT (diff_id) DO UPDATE SET size = excluded.size",
                (diff_id, staged.size, time.time()),
            )
            if lease is not None:
                insert_reference(connection, lease, "layer", diff_id)

        try:
            async with self._locks.hold(f"layer {diff_id}"):
                query = "SELECT 1 FROM layers WHERE diff_id = ?"
                await place(self._db, staged, self.path(staged.digest), insert, query)
        finally:
            staged.discard()
        return Layer(staged.digest, staged.size)
