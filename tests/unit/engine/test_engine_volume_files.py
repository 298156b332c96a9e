"""Copies of a volume's files beside its removal and its restore."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tare.engine.events import Events
from tare.engine.volume_files import VolumeFiles
from tare.errors import Conflict, InvalidArgument, NotFound
from tare.store.database import Database
from tare.volumes.catalogue import VolumeCatalogue


@pytest.fixture
async def volumes(tmp_path: Path) -> AsyncIterator[VolumeCatalogue]:
    db = await Database.open(tmp_path / "tare.db")
    yield VolumeCatalogue(db, tmp_path / "volumes")
    await db.close()


@pytest.fixture
async def files(volumes: VolumeCatalogue) -> VolumeFiles:
    volume = await volumes.create("data")
    Path(volume.mountpoint, "f").write_text("text")
    return VolumeFiles(volumes, Events())


async def test_nothing_is_written_while_a_volume_is_restored(files: VolumeFiles) -> None:
    with files.closed("data"):
        with pytest.raises(Conflict, match="copy to data: volume is being restored") as refused:
            await files.write("data", "/", io.BytesIO())
        assert refused.value.code == "volume-in-use"
        assert (await files.stat("data", "/f")).size == 4
    await files.write("data", "/", io.BytesIO(bytes(1024)))


async def test_a_volume_that_is_read_is_kept(files: VolumeFiles, volumes: VolumeCatalogue) -> None:
    async with files.read("data", "/f", rename="g") as (found, chunks):
        assert found.name == "f"
        with pytest.raises(Conflict, match="remove data: volume is in use - its files are being copied"):
            await volumes.remove("data", force=True)
        with files.closed("data"):
            assert (await anext(chunks))[:2] == b"g\0"
    await volumes.remove("data")
    with pytest.raises(NotFound, match="no such volume"):
        await files.stat("data", "/f")


async def test_a_directory_that_somebody_deleted(files: VolumeFiles, volumes: VolumeCatalogue) -> None:
    path = volumes.path("data")
    (path / "f").unlink()
    path.rmdir()
    with pytest.raises(NotFound, match=r"its directory .* is gone") as gone:
        await files.stat("data", "/f")
    assert gone.value.code == "volume-data-missing"


@pytest.mark.parametrize("name", ["..", "a/b", "/"])
async def test_names_in_a_tar(files: VolumeFiles, name: str) -> None:
    with pytest.raises(InvalidArgument, match="not the name of a file"):
        async with files.read("data", "/f", rename=name):
            pass


async def test_files_that_stand_in_the_way(files: VolumeFiles) -> None:
    for path, message in (("/f/x", "lstat /f/x: not a directory"), ("/f\0", "lstat /f\0: invalid argument")):
        with pytest.raises(InvalidArgument, match=message) as refused:
            await files.stat("data", path)
        assert refused.value.code == "file-operation"
