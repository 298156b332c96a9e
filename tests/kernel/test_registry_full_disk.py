"""A blob that does not fit on the disk: what fits stays, and is not fetched again."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostile_registry import content, hostile_registry
from registry_parts import Blob, ClientMaker, nothing, repository_name
from tare.errors import Exhausted
from tare.registry.settings import RegistrySettings

pytestmark = pytest.mark.root

BLOB = Blob(os.urandom(6 << 20))
DOMAIN = "registry.test"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    mounted = tmp_path / "disk"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3M", "tmpfs", mounted], check=True)
    yield mounted
    subprocess.run(["umount", mounted], check=True)


async def test_goes_on_once_there_is_space(disk: Path) -> None:
    maker = ClientMaker(disk / "downloads")
    try:
        async with hostile_registry() as server:
            path = f"/v2/app/one/blobs/{BLOB.digest}"
            server.on("GET", path, content(BLOB.data))
            repository = maker({DOMAIN: RegistrySettings(endpoint=server.url)}).repository(repository_name(DOMAIN))
            with pytest.raises(Exhausted) as caught:
                await repository.download(BLOB.descriptor, nothing)
            assert caught.value.code == "no-space"
            assert maker.clock.pauses == []
            (partial,) = (disk / "downloads").iterdir()
            kept = partial.stat().st_size
            assert kept > 1 << 20
            assert BLOB.data.startswith(partial.read_bytes())
            remount = ["mount", "-o", "remount,size=16M", disk]
            await asyncio.to_thread(subprocess.run, remount, check=True)
            found = await repository.download(BLOB.descriptor, nothing)
            assert found.read_bytes() == BLOB.data
            assert server.asked[-1].headers["Range"] == f"bytes={kept}-"
    finally:
        await maker.close()
