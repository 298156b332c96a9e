"""The service on a disk that is too small."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tare.base.locks import KeyedLocks
from tare.engine.events import Events
from tare.engine.paths import EnginePaths
from tare.engine.quiesce import Quiescer
from tare.engine.records import ContainerRecords
from tare.engine.volume_copies import VolumeCopies, local_directory
from tare.engine.volume_files import VolumeFiles
from tare.errors import Exhausted, NotFound, Unsupported
from tare.kernel.cgroups import detect
from tare.store.database import Database
from tare.volumes.catalogue import VolumeCatalogue
from tare.volumes.model import Volume
from tare.volumes.snapshots import SnapshotStore

pytestmark = pytest.mark.root

DISK = "6M"
CONTENT = os.urandom(4 << 20)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    mounted = tmp_path / "disk"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", mounted], check=True)
    yield mounted
    subprocess.run(["umount", mounted], check=True)


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await Database.open(tmp_path / "tare.db")
    yield opened
    await opened.close()


@pytest.fixture
def volumes(db: Database, disk: Path) -> VolumeCatalogue:
    return VolumeCatalogue(db, disk / "volumes")


@pytest.fixture
def copies(db: Database, disk: Path, tmp_path: Path, volumes: VolumeCatalogue) -> VolumeCopies:
    paths = EnginePaths(tmp_path, tmp_path / "run")
    quiescer = Quiescer(db, ContainerRecords(db), KeyedLocks(), detect(), paths)
    events = Events()
    return VolumeCopies(volumes, SnapshotStore(db, disk / "volumes"), quiescer, VolumeFiles(volumes, events), events)


async def test_a_full_disk_leaves_nothing(copies: VolumeCopies, volumes: VolumeCatalogue, disk: Path) -> None:
    volume = await volumes.create("data")
    Path(volume.mountpoint, "file").write_bytes(CONTENT)
    for work in (copies.snapshot("data", "one"), copies.clone("data", "copy")):
        with pytest.raises(Exhausted, match="No space left on device"):
            await work
    with pytest.raises(Exhausted):
        await anext(copies.backup("data"))
    assert await copies.list("data") == [] and list((disk / "volumes/.snapshots").iterdir()) == []
    assert [one.name for one in await volumes.list()] == ["data"] and not (disk / "volumes/copy").exists()
    assert Path(volume.mountpoint, "file").read_bytes() == CONTENT


async def test_a_volume_without_directory(copies: VolumeCopies, volumes: VolumeCatalogue) -> None:
    volume = await volumes.create("data")
    os.rmdir(volume.mountpoint)
    with pytest.raises(NotFound, match="is no directory"):
        await copies.snapshot("data")


def volume(driver: str, **options: str) -> Volume:
    return Volume(
        name="v", driver=driver, mountpoint="/v/_data", created=0.0, anonymous=False, options=options, labels={}
    )


def test_where_volumes_are() -> None:
    assert local_directory(volume("local")) == Path("/v/_data")
    assert local_directory(volume("local", type="none", o="bind", device="/srv")) == Path("/srv")
    for other in (volume("s3"), volume("local", type="nfs", o="addr=a", device=":/x"), volume("local", type="tmpfs")):
        with pytest.raises(Unsupported, match="not in a directory of this host") as error:
            local_directory(other)
        assert error.value.code == "volume-not-local"
