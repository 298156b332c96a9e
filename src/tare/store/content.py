"""Blobs: manifests, configurations and whatever else is named by its digest."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path
from typing import BinaryIO

from tare.base.locks import KeyedLocks
from tare.base.readers import CHUNK, Readable
from tare.errors import DataCorrupt, NotFound
from tare.model import Digest
from tare.store.database import Database
from tare.store.files import StagedFile, stage
from tare.store.leases import insert_reference
from tare.store.placing import place

DEFAULT_BLOB_LIMIT = 16 << 30  # bytes of a blob whose size nobody announced


class ContentStore:
    """Blob files ``blobs/sha256/<hex>`` and their rows."""

    def __init__(self, db: Database, root: Path, staging: Path, locks: KeyedLocks) -> None:
        self._db = db
        self._root = root
        self._staging = staging
        self._locks = locks

    def path(self, digest: Digest) -> Path:
        """Where the blob lies, whether or not it exists."""
        return self._root / digest.hex

    async def write(self, data: bytes, media_type: str, lease: str | None = None) -> Digest:
        """Store ``data``; idempotent. Raises Exhausted."""

        def produce(sink: BinaryIO) -> None:
            sink.write(data)

        staged = await stage(self._staging, produce, what="blob")
        return await self._install(staged, media_type, lease)

    async def ingest(
        self,
        stream: Readable,
        media_type: str,
        expected: Digest | None,
        size: int | None,
        *,
        lease: str | None = None,
    ) -> Digest:
        """Store a blocking stream, verified while it is written.

        Raises DataCorrupt when digest or size differ from what is expected, Exhausted.
        """
        what = f"blob {expected}" if expected is not None else "blob"
        limit = size if size is not None else DEFAULT_BLOB_LIMIT

        def produce(sink: BinaryIO) -> None:
            total = 0
            while chunk := stream.read(CHUNK):
                total += len(chunk)
                if total > limit:
                    raise DataCorrupt(f"{what}: more than the expected {limit} bytes")
                sink.write(chunk)
            if size is not None and total != size:
                raise DataCorrupt(f"{what}: {total} bytes, expected {size}")

        staged = await stage(self._staging, produce, what=what, expected=expected)
        return await self._install(staged, media_type, lease)

    async def read(self, digest: Digest) -> bytes:
        """The blob's bytes, verified. Raises NotFound, DataCorrupt."""
        try:
            data = await asyncio.to_thread(self.path(digest).read_bytes)
        except FileNotFoundError as error:
            raise NotFound(f"no such blob: {digest}") from error
        if Digest.of(data) != digest:
            raise DataCorrupt(
                f"{self.path(digest)}: content does not match its name", hint="`tare fsck` says how to get it again"
            )
        return data

    async def typed(self, digest: Digest) -> tuple[str, bytes]:
        """The blob's media type and bytes, verified. Raises NotFound, DataCorrupt."""
        row = await self._db.read(
            lambda connection: connection.execute(
                "SELECT media_type FROM blobs WHERE digest = ?", (str(digest),)
            ).fetchone()
        )
        if row is None:
            raise NotFound(f"no such blob: {digest}")
        return row[0], await self.read(digest)

    async def _install(self, staged: StagedFile, media_type: str, lease: str | None) -> Digest:
        digest = str(staged.digest)

        def insert(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO blobs VALUES (?, ?, ?, ?) ON CONFLICT (digest) DO UPDATE SET size = excluded.size",
                (digest, staged.size, media_type, time.time()),
            )
            if lease is not None:
                insert_reference(connection, lease, "blob", digest)

        try:
            async with self._locks.hold(f"blob {digest}"):
                query = "SELECT 1 FROM blobs WHERE digest = ?"
                await place(self._db, staged, self.path(staged.digest), insert, query)
        finally:
            staged.discard()
        return staged.digest
