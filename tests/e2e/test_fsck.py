"""``tare fsck`` beside a working engine: what it says, what it heals, its exit statuses."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from engine_process import EngineProcess, add_file
from registry_server import RegistryServer
from tare.client.sync import connect

pytestmark = [pytest.mark.root, pytest.mark.e2e]


@pytest.fixture(scope="module")
def built(engine: EngineProcess, busybox: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    """The engine with the image ``checked`` on ``busybox``: a RUN and a COPY."""
    assert busybox
    context = tmp_path_factory.mktemp("fsck")
    (context / "data").write_bytes(b"d" * 100_000)
    (context / "Dockerfile").write_text("FROM busybox\nRUN echo made > /made\nCOPY data /data\n")
    engine.tare("build", "-q", "-t", "checked", str(context))
    yield engine
    engine.remove_containers()
    engine.docker("rmi", "-f", "checked")


def layer_of(engine: EngineProcess, image: str, index: int) -> str:
    layers = json.loads(engine.text("image", "inspect", image, "--format", "{{json .RootFS.Layers}}"))
    return str(layers[index]).removeprefix("sha256:")


def tar_of(engine: EngineProcess, image: str, index: int) -> Path:
    return engine.data_root / "layers" / f"{layer_of(engine, image, index)}.tar"


def query(engine: EngineProcess, text: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(engine.data_root / "tare.db", timeout=10)) as connection, connection:
        return connection.execute(text).fetchall()


def unpacked(engine: EngineProcess, image: str, index: int) -> Path:
    key = f"sha256:{layer_of(engine, image, index)}"
    ((number,),) = query(engine, f"SELECT id FROM snapshots WHERE key = '{key}' AND kind = 'layer'")
    return engine.data_root / "snapshots" / str(number) / "fs"


def check(engine: EngineProcess, *arguments: str) -> tuple[int, list[dict[str, Any]], dict[str, Any]]:
    """Exit status, problems and the whole document of ``fsck --json``."""
    done = engine.tare("fsck", "--json", *arguments, check=False)
    document = json.loads(done.stdout)
    return done.returncode, document["problems"], document


def test_a_store_that_is_whole(built: EngineProcess) -> None:
    built.docker("run", "--rm", "checked", "true")
    done = built.tare("fsck", "--deep", "--repair")
    assert done.stdout.decode().rstrip().endswith("nothing is wrong") and not done.stderr
    assert built.tare("fsck", "-q").stdout == b""
    status, problems, document = check(built)
    assert (status, problems, document["clean"]) == (0, [], True)
    assert document["checked"]["layers"] >= 3 and document["checked"]["images"] >= 2
    assert document["bytes"] > tar_of(built, "busybox", 0).stat().st_size
    with connect(built.host) as connection:
        events = list(connection.stream(lambda client: client.system.fsck(deep=True)))
    assert [event["event"] for event in events[-1:]] == ["result"] and events[-1]["clean"] and events[-1]["deep"]
    assert {event["event"] for event in events[:-1]} == {"progress"}


def test_what_a_running_container_stands_on_is_healed_once_it_stops(built: EngineProcess) -> None:
    built.docker("run", "-d", "--name", "stands", "checked", "sleep", "1000")
    made = unpacked(built, "checked", 2) / "data"
    made.write_bytes(b"rot")
    status, (problem,), _ = check(built)
    assert (status, problem["code"], problem["state"]) == (1, "snapshot-damaged", "found")
    assert "/data has 3 bytes, expected 100000" in problem["cause"]
    done = built.tare("fsck", "--repair", check=False)
    assert done.returncode == 1 and "stop container stands and repair again" in done.stdout.decode()
    assert made.read_bytes() == b"rot"
    built.docker("rm", "-f", "stands")
    status, (problem,), _ = check(built, "--repair")
    assert (status, problem["state"]) == (0, "repaired")
    assert built.docker("run", "--rm", "checked", "cat", "/data").stdout == b"d" * 100_000
    assert check(built, "--deep")[:2] == (0, [])


def test_a_layer_that_a_step_has_left_is_written_anew(built: EngineProcess) -> None:
    tar = tar_of(built, "checked", 1)
    whole = tar.read_bytes()
    tar.write_bytes(whole[: len(whole) // 2])
    done = built.tare("fsck", check=False)
    assert done.returncode == 1
    said = done.stdout.decode()
    assert f"layer {tar.stem[:12]}: its file has the digest" in said and "used by:   image checked:latest" in said
    assert "build checked:latest again (Dockerfile:2 makes the layer)" in said
    assert "`tare fsck --repair` heals what can be healed" in said
    assert check(built, "--repair")[0] == 0
    assert tar.read_bytes() == whole


def foreign_tar() -> bytes:
    """A root file system that is not packed as Tare would: no directory gives the same bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("z", "a"):
            add_file(archive, name, name.encode() * 1000)
    return buffer.getvalue()


def test_a_layer_from_outside_is_named_and_healed_by_getting_it_again(built: EngineProcess) -> None:
    first = built.docker("import", "-", "outside", stdin=foreign_tar()).stdout.decode().strip()
    built.docker("create", "--name", "unpacks", "outside", "/z")
    archive = built.docker("save", "outside").stdout
    tar = tar_of(built, "outside", 0)
    tar.write_bytes(b"rot")
    status, (problem,), document = check(built, "--repair")
    assert (status, problem["code"], problem["state"], document["left"]) == (1, "layer-damaged", "left", 1)
    assert problem["used_by"] == ["image outside:latest", "container unpacks"]
    assert problem["fix"] == "pull, load or import outside:latest again"
    assert not tar.exists() and tar.with_suffix(".damaged").read_bytes() == b"rot"
    built.docker("load", stdin=archive)
    assert check(built, "--repair")[:2] == (0, [])
    assert not tar.with_suffix(".damaged").exists()
    tar.unlink()
    second = built.docker("import", "-", "outside", stdin=foreign_tar()).stdout.decode().strip()
    assert check(built, "--repair")[:2] == (0, [])
    built.docker("rm", "unpacks")
    built.docker("rmi", "-f", first, second)


def test_what_was_pulled_is_healed_by_the_command_that_is_named(built: EngineProcess, tmp_path: Path) -> None:
    with RegistryServer() as registry:
        name = f"{registry.address}/fsck:1"
        (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /only-here\n")
        built.tare("build", "-q", "-t", name, str(tmp_path))
        built.docker("push", "-q", name)
        built.docker("rmi", name)
        built.docker("builder", "prune", "-af")
        built.docker("pull", "-q", name)
        tar = tar_of(built, name, 0)
        shutil.move(tar, tmp_path / "away")
        _, (problem,), _ = check(built, "--repair")
        command = problem["fix"].removeprefix("pull it again with `tare ").removesuffix("`").split()
        assert command[0] == "pull" and command[1].startswith(f"{registry.address}/fsck@sha256:")
        built.tare(*command)
        assert tar.read_bytes() == (tmp_path / "away").read_bytes()
        assert check(built)[:2] == (0, [])
        built.docker("rmi", "-f", built.text("images", "-q", name))


def test_an_image_without_its_configuration_is_loaded_again_or_removed(built: EngineProcess) -> None:
    identifier = built.docker("import", "-", "torn", stdin=foreign_tar()).stdout.decode().strip()
    archive = built.docker("save", "torn").stdout
    blob = built.data_root / "blobs/sha256" / identifier.removeprefix("sha256:")
    blob.write_bytes(b"rot")
    assert "busybox" in built.text("images", "--format", "{{.Repository}}").split()
    status, (problem,), _ = check(built, "--repair")
    assert (status, problem["code"], problem["used_by"]) == (1, "blob-damaged", ["image torn:latest"])
    built.docker("load", stdin=archive)
    status, problems, _ = check(built)
    assert problems == [] and status == 0 and blob.is_file()
    blob.unlink()
    assert f"Deleted: {identifier}" in built.text("rmi", "torn")
    assert check(built)[:2] == (0, [])


def test_exit_statuses_when_nothing_can_be_checked(built: EngineProcess, tmp_path: Path) -> None:
    nobody = [*built.tare_command("fsck")]
    nobody[nobody.index(built.host)] = f"unix://{tmp_path}/none"
    done = subprocess.run(nobody, capture_output=True, check=False, env=built.environment())
    assert done.returncode == 2 and b"cannot connect to the Tare engine" in done.stderr
    assert built.tare("fsck", "--wrong", check=False).returncode == 125
