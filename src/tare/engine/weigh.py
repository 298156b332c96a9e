"""What an image weighs: bytes, files, and what it carries that an application does not need."""

from __future__ import annotations

import asyncio
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from tare.archive.compression import compressed_size
from tare.base.atomic import write_atomic
from tare.store.images import Image
from tare.store.store import Store

SHELLS = frozenset(["sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "csh", "tcsh", "fish", "rbash", "busybox"])
PACKAGE_MANAGERS = frozenset(
    (
        *("apt", "apt-get", "aptitude", "dpkg", "rpm", "yum", "dnf", "microdnf", "apk", "pacman", "zypper"),
        *("pip", "pip3", "npm", "yarn", "pnpm", "gem", "cargo", "mvn", "conda"),
    )
)


class Contents(msgspec.Struct, kw_only=True):
    """What was found in a root file system; the lists hold absolute paths inside it."""

    files: int = 0
    directories: int = 0
    size: int = 0
    shells: list[str] = []
    package_managers: list[str] = []
    setuid: list[str] = []


class Weigher:
    """Weighs images; what it finds is kept, as an image never changes."""

    def __init__(self, store: Store, cache: Path, scratch: Path) -> None:
        self._store = store
        self._cache = cache
        self._scratch = scratch

    async def weigh(self, image: Image) -> dict[str, Any]:
        """Size of layers and files in bytes, compressed (gzip) transfer size, counts, findings by name."""
        contents = await self._contents(image)
        compressed = 0
        for diff_id in image.diff_ids:
            compressed += await self._compressed(str(diff_id), self._store.layers.path(diff_id))
        return {
            "id": str(image.id),
            "tags": [tag.familiar() for tag in image.tags],
            "size": image.size,
            "compressed": compressed,
            "layers": len(image.diff_ids),
            **msgspec.to_builtins(contents, str_keys=True) | {"content_size": contents.size, "size": image.size},
        }

    async def _contents(self, image: Image) -> Contents:
        kept = self._cache / f"{image.id.hex}.json"
        if await asyncio.to_thread(kept.exists):
            return msgspec.json.decode(await asyncio.to_thread(kept.read_bytes), type=Contents)
        lowers = [await self._store.snapshots.ensure_layer(diff_id) for diff_id in image.diff_ids]
        await asyncio.to_thread(self._scratch.mkdir, parents=True, exist_ok=True)
        target = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="weigh-", dir=self._scratch))
        try:
            await self._store.snapshots.view(lowers, target)
            contents = await asyncio.to_thread(survey, target)
        finally:
            await self._store.snapshots.unmount(target)
            await asyncio.to_thread(target.rmdir)
        await asyncio.to_thread(self._cache.mkdir, parents=True, exist_ok=True)
        await asyncio.to_thread(write_atomic, kept, msgspec.json.encode(contents), durable=False)
        return contents

    async def _compressed(self, diff_id: str, path: Path) -> int:
        def known(connection: Any) -> int | None:
            row = connection.execute("SELECT compressed_size FROM layers WHERE diff_id = ?", (diff_id,)).fetchone()
            return row[0] if row else None

        size = await self._store.db.read(known)
        if size is None:
            size = await asyncio.to_thread(compressed_size, path, "gzip")
            value = size
            await self._store.db.write(
                lambda connection: connection.execute(
                    "UPDATE layers SET compressed_size = ? WHERE diff_id = ?", (value, diff_id)
                ),
                durable=False,
            )
        return size


def survey(root: Path) -> Contents:
    """Walk a root file system. Hard links count once in ``size``, every name counts in ``files``."""
    found = Contents()
    seen: set[tuple[int, int]] = set()
    for directory, names, files in os.walk(root):
        found.directories += len(names)
        inside = directory[len(str(root)) :]
        for name in files:
            path = f"{inside}/{name}"
            info = os.lstat(f"{directory}/{name}")
            found.files += 1
            executable = stat.S_ISLNK(info.st_mode) or info.st_mode & 0o111
            if executable and inside.rpartition("/")[2] in ("bin", "sbin", "busybox"):
                if name in SHELLS:
                    found.shells.append(path)
                if name in PACKAGE_MANAGERS:
                    found.package_managers.append(path)
            if not stat.S_ISREG(info.st_mode):
                continue
            if info.st_mode & (stat.S_ISUID | stat.S_ISGID):
                found.setuid.append(path)
            if info.st_nlink > 1:
                key = (info.st_dev, info.st_ino)
                if key in seen:
                    continue
                seen.add(key)
            found.size += info.st_size
    for listing in (found.shells, found.package_managers, found.setuid):
        listing.sort()
    return found
