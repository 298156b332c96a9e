from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tare.errors import Conflict, InvalidArgument, NotFound, Unsupported
from tare.store.database import Database
from tare.volumes.catalogue import VolumeCatalogue
from tare.volumes.live_mounts import boot_id


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await Database.open(tmp_path / "tare.db")
    yield opened
    await opened.close()


@pytest.fixture
def volumes(db: Database, tmp_path: Path) -> VolumeCatalogue:
    return VolumeCatalogue(db, tmp_path / "volumes")


async def use(db: Database, volume: str, container: str) -> None:
    def insert(connection: object) -> None:
        execute = connection.execute  # type: ignore[attr-defined]
        execute("INSERT OR IGNORE INTO blobs VALUES ('sha256:0', 1, 'm', 0)")
        execute("INSERT OR IGNORE INTO images VALUES ('sha256:0', 0, 0)")
        execute("INSERT INTO containers VALUES (?, ?, 'sha256:0', 'running', 0, '{}')", (container, container))
        for destination in ("/a", "/b"):
            execute("INSERT INTO container_volumes VALUES (?, ?, ?)", (container, volume, destination))

    await db.write(insert)


async def test_a_volume_is_a_directory(volumes: VolumeCatalogue, tmp_path: Path) -> None:
    volume = await volumes.create("data", labels={"a": "b"})
    assert (volume.name, volume.driver, volume.labels, volume.anonymous) == ("data", "local", {"a": "b"}, False)
    path = volumes.path("data")
    assert str(path) == volume.mountpoint == str(tmp_path / "volumes/data/_data")
    assert path.stat().st_mode & 0o7777 == 0o755 and path.parent.stat().st_mode & 0o7777 == 0o701
    assert await volumes.get("data") == volume == (await volumes.list())[0]


async def test_creating_again_returns_the_same_and_keeps_the_data(volumes: VolumeCatalogue) -> None:
    first = await volumes.create("data", labels={"a": "1"})
    (volumes.path("data") / "kept").write_text("x")
    assert await volumes.create("data", "local", {}, {"a": "2"}) == first
    assert (volumes.path("data") / "kept").exists()


async def test_anonymous_volumes(volumes: VolumeCatalogue) -> None:
    volume = await volumes.create(None)
    assert len(volume.name) == 64 and volume.anonymous
    assert volume.labels == {"com.docker.volume.anonymous": ""}


@pytest.mark.parametrize("name", ["-", "-a", ".a", "..", "a/b", "a b", "/abs", "ä1", "a\n", "x" * 256, ".deleting-x"])
async def test_invalid_names(volumes: VolumeCatalogue, name: str) -> None:
    with pytest.raises(InvalidArgument, match="includes invalid characters for a local volume name"):
        await volumes.create(name)
    with pytest.raises(InvalidArgument):
        volumes.path(name)


async def test_other_drivers_and_options(volumes: VolumeCatalogue) -> None:
    with pytest.raises(NotFound, match=r'^create data: error looking up volume plugin nfs: plugin "nfs" not found'):
        await volumes.create("data", "nfs")
    for options, message in (
        ({"type": "tmpfs"}, 'missing required option: "device"'),
        ({"colour": "red"}, 'invalid option: "colour"'),
        ({"size": "1m"}, "quota size requested but no quota support"),
        ({"uid": "x"}, 'invalid value for option "uid"'),
        ({"mode": "8"}, 'invalid value for option "mode"'),
        ({"type": "nfs", "device": ":/x", "mount-timeout": "soon"}, 'invalid value for option "mount-timeout"'),
        ({"type": "nfs", "device": ":/x", "mount-retries": "-1"}, 'invalid value for option "mount-retries"'),
    ):
        with pytest.raises(InvalidArgument) as refused:
            await volumes.create("data", options=options)
        assert refused.value.message.startswith(f"create data: {message}")
    with pytest.raises(Unsupported, match="uid, gid and mode are not for volumes of type ext4"):
        await volumes.create("data", options={"type": "ext4", "device": "/dev/x", "uid": "1"})
    assert await volumes.list() == []


async def test_users_keep_a_volume(volumes: VolumeCatalogue, db: Database) -> None:
    await volumes.create("data")
    for container in ("c2", "c1"):
        await use(db, "data", container)
    assert (await volumes.get("data")).users == ("c1", "c2")
    for force in (False, True):
        with pytest.raises(Conflict, match=r"^remove data: volume is in use - \[c1, c2\]") as refused:
            await volumes.remove("data", force)
        assert refused.value.code == "volume-in-use"
        assert "c1 is running: tare rm -f c1; c2 is running: tare rm -f c2" in refused.value.hint
    assert volumes.path("data").is_dir()


async def test_removing(volumes: VolumeCatalogue) -> None:
    await volumes.create("data")
    (volumes.path("data") / "d").mkdir()
    await volumes.remove("data")
    assert not volumes.path("data").parent.exists()
    with pytest.raises(NotFound, match="get data: no such volume"):
        await volumes.remove("data")
    await volumes.remove("data", force=True)
    with pytest.raises(NotFound):
        await volumes.get("data")


async def test_recovery_ends_deletions_and_keeps_unknown_data(volumes: VolumeCatalogue, tmp_path: Path) -> None:
    await volumes.create("kept")
    for directory in (".deleting-old", "unknown", "removed", "kept"):
        (tmp_path / "volumes" / directory / "_data/d").mkdir(parents=True)
    (tmp_path / "volumes/begun/_data").mkdir(parents=True)
    for note in (".doomed-removed", ".doomed-kept", ".doomed-gone"):
        (tmp_path / "volumes" / note).touch()
    await volumes.recover()
    assert {path.name for path in (tmp_path / "volumes").iterdir()} == {"unknown", "kept"}
    assert (volumes.path("kept") / "d").is_dir()


async def test_a_volume_that_a_crash_took_does_not_come_back_with_its_name(volumes: VolumeCatalogue) -> None:
    await volumes.create("data")
    (volumes.path("data") / "d").mkdir()
    await volumes.local.doom("data")
    await volumes.records.delete("data")  # and here the engine ends
    await volumes.recover()
    await volumes.create("data")
    assert list(volumes.path("data").iterdir()) == []


async def test_a_volume_stays_while_a_container_is_made_with_it(volumes: VolumeCatalogue) -> None:
    with volumes.claim("data", "c1"), volumes.claim("data", "c2"):
        await volumes.create("data", anonymous=True)
        for claimant in ("", "c1"):
            with pytest.raises(Conflict) as refused:
                await volumes.remove("data", force=True, claimant=claimant)
            assert refused.value.code == "volume-in-use"
        assert "in use - [c2]" in refused.value.message
    assert (await volumes.get("data")).anonymous
    with volumes.claim("data", "c1"):
        await volumes.remove("data", claimant="c1")
    await volumes.create("data")
    await volumes.remove("data")


async def test_usage(volumes: VolumeCatalogue) -> None:
    await volumes.create("data")
    empty = await volumes.usage("data")
    (volumes.path("data") / "f").write_bytes(bytes(100_000))
    assert await volumes.usage("data") >= empty + 100_000
    with pytest.raises(NotFound):
        await volumes.usage("none-such")


async def test_recovery_forgets_mounts_of_earlier_boots_and_of_containers_that_are_gone(
    volumes: VolumeCatalogue, db: Database
) -> None:
    await volumes.create("data", options={"type": "tmpfs", "device": "tmpfs"})
    await use(db, "data", "c1")
    await volumes.records.begin_mount("data", "c1", boot_id())
    await volumes.records.begin_mount("data", "ghost", boot_id())
    await volumes.records.begin_mount("data", "c1-before", "another boot")
    await volumes.recover()
    assert [row.reference for row in await volumes.records.mounts()] == ["c1"]


async def test_a_mounted_volume_is_kept(volumes: VolumeCatalogue) -> None:
    await volumes.create("data", options={"type": "tmpfs", "device": "tmpfs"})
    await volumes.records.begin_mount("data", "c1", boot_id())
    with pytest.raises(Conflict, match=r"^remove data: volume is in use - \[c1\]"):
        await volumes.remove("data", force=True)
    await volumes.release("c1")
    await volumes.remove("data")


async def test_a_guard_keeps_a_volume(volumes: VolumeCatalogue) -> None:
    def guard(connection: object, name: str) -> None:
        if name == "precious":
            raise Conflict(f"remove {name}: protected")

    volumes.add_guard(guard)
    await volumes.create("precious")
    await volumes.create("other")
    await volumes.remove("other")
    with pytest.raises(Conflict, match="protected"):
        await volumes.remove("precious", force=True)
    assert volumes.path("precious").is_dir()


async def test_a_name_that_another_driver_has(volumes: VolumeCatalogue, db: Database) -> None:
    await volumes.records.insert("data", "array", {}, {}, anonymous=False)
    with pytest.raises(Conflict, match="driver 'array' already has volume 'data': volume name must be unique"):
        await volumes.create("data", "local")
    found = await volumes.get("data")
    assert found.driver == "array" and 'plugin "array" not found' in str(found.status["error"])
    await volumes.remove("data", force=True)


async def test_a_directory_that_somebody_has_deleted(volumes: VolumeCatalogue) -> None:
    await volumes.create("data")
    volumes.path("data").rmdir()
    with pytest.raises(NotFound, match=r"volume data: its directory .*/data/_data is gone") as gone:
        await volumes.mount("data", "c1")
    assert gone.value.code == "volume-data-missing"
