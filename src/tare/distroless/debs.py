"""The package cache: ``debs/<sha256>.deb`` on disk, one row each in the table ``debs``."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tare.base.together import together
from tare.distroless.fetch import Downloader
from tare.distroless.packages import Package
from tare.store.database import Database

Progress = Callable[[str, str], None]
"""Receives the name of a step and what it does now; called on the event loop, must not block."""


class DebCache:
    """Verified packages by digest. What is found damaged is fetched again."""

    def __init__(self, db: Database, cache_dir: Path) -> None:
        self._db = db
        self._root = cache_dir / "debs"

    def path(self, package: Package) -> Path:
        """Where the package's file is once it was fetched."""
        return self._root / f"{package.sha256}.deb"

    def verified(self, sha256: str) -> Path | None:
        """The file of the package with this digest (hexadecimal), hashed; ``None`` when it is not there. Blocking."""
        path = self._root / f"{sha256}.deb"
        try:
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256")
        except FileNotFoundError:
            return None
        return path if digest.hexdigest() == sha256 else None

    async def fetch(self, downloader: Downloader, packages: Sequence[Package], progress: Progress) -> None:
        """Have all ``packages`` in the cache, verified. Raises Unavailable, NotFound, DataCorrupt."""
        await asyncio.to_thread(self._root.mkdir, parents=True, exist_ok=True)
        missing = await asyncio.to_thread(
            lambda: [package for package in packages if self.verified(package.sha256) is None]
        )
        total = sum(package.size for package in missing)
        done = 0
        if missing:
            progress("packages", f"downloading {len(missing)} of {len(packages)} packages, {total / 1e6:.1f} MB")

        async def one(package: Package) -> None:
            nonlocal done
            await downloader.file(package.url, self.path(package), sha256=package.sha256, size=package.size)
            done += package.size
            progress("packages", f"{package.name} {package.version} ({done / 1e6:.1f} of {total / 1e6:.1f} MB)")

        await together(*(one(package) for package in missing))
        await self._record(packages)

    async def _record(self, packages: Sequence[Package]) -> None:
        now = time.time()
        rows = [(p.sha256, p.name, p.version, p.architecture, p.size, now) for p in packages]

        def upsert(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "INSERT INTO debs (sha256, name, version, architecture, size, last_used) VALUES (?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (sha256) DO UPDATE SET last_used = excluded.last_used",
                rows,
            )

        await self._db.write(upsert, durable=False)
