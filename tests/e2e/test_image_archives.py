"""Images as archives, through Docker's command line, Tare's, docker-py, Tare's client and skopeo."""

from __future__ import annotations

import io
import json
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker as docker_py
import pytest

from engine_process import EngineProcess, UnixConnection
from image_archives import Layout, digest, docker_archive, layer, tar_of
from tare.client.progress import Progress
from tare.client.sync import connect
from tare.errors import NotFound
from terminal import Terminal

pytestmark = [pytest.mark.root, pytest.mark.e2e]

SMALL = layer("small")


@pytest.fixture
def built(host: EngineProcess, tmp_path: Path) -> Iterator[str]:
    """The identifier of an image of two layers, named ``archived:1`` and ``archived:2``."""
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN mkdir /srv/ && echo saved > /srv/word\nCMD cat /srv/word\n")
    host.docker("build", "-q", "-t", "archived:1", "-t", "archived:2", str(tmp_path))
    (tmp_path / "Dockerfile").unlink()
    yield host.text("inspect", "--format", "{{.Id}}", "archived:1")
    host.docker("rmi", "-f", *set(host.text("images", "-q", "archived").split()), check=False)


def forget(host: EngineProcess) -> None:
    host.docker("rmi", "archived:1", "archived:2")


def test_docker_saves_and_loads(host: EngineProcess, built: str, tmp_path: Path) -> None:
    archive = tmp_path / "archive.tar"
    host.docker("save", "-o", str(archive), "archived:1", "archived:2")
    piped = host.docker("save", "archived").stdout
    assert piped == archive.read_bytes()
    events = host.start_docker("events", "--since", "0", "--until", str(int(time.time()) + 1), "--filter", "event=save")
    assert f"image save {built}" in events.communicate()[0].decode()
    forget(host)
    assert host.text("load", "-i", str(archive)) == "Loaded image: archived:1\nLoaded image: archived:2"
    assert host.text("inspect", "--format", "{{.Id}}", "archived:2") == built
    assert host.text("run", "--rm", "archived:2") == "saved"
    host.docker("tag", "busybox", "archived:1")
    told = host.docker("load", stdin=piped).stdout.decode().splitlines()
    busybox = host.text("inspect", "--format", "{{.Id}}", "busybox")
    assert told[0] == f"The image archived:1 already exists, renaming the old one with ID {busybox} to empty string"
    by_id = host.docker("save", built).stdout
    forget(host)
    assert host.docker("load", "-q", stdin=by_id).stdout.decode() == f"Loaded image ID: {built}\n"
    host.docker("rmi", built)


def test_tare_saves_and_loads(host: EngineProcess, built: str, tmp_path: Path) -> None:
    archive = tmp_path / "archive.tar"
    host.tare("save", "-o", str(archive), "archived")
    assert oct(archive.stat().st_mode) == "0o100600"
    assert host.tare("image", "save", "archived", "--platform", "linux/amd64").stdout == archive.read_bytes()
    forget(host)
    assert host.tare("load", "-i", str(archive)).stdout == b"Loaded image: archived:1\nLoaded image: archived:2\n"
    forget(host)
    assert host.tare("image", "load", stdin=archive.read_bytes()).stdout.count(b"Loaded image") == 2
    assert host.text("inspect", "--format", "{{.Id}}", "archived:1") == built


def test_what_tare_refuses_at_once(host: EngineProcess, built: str, tmp_path: Path, terminals: list[Terminal]) -> None:
    kept = tmp_path / "kept"
    kept.write_text("kept")
    for arguments, words in (
        (
            ("save", "-o", "/nowhere/x", "archived:1"),
            "failed to save image: invalid output path: stat /nowhere: no such file or directory",
        ),
        (("save", "-o", f"{kept}/x", "archived:1"), f"invalid output path: stat {kept}: not a directory"),
        (("save", "-o", "/dev/null", "archived:1"), "failed to save image: cannot write to a character device file"),
        (("save", "-o", str(tmp_path), "archived:1"), "failed to save image: cannot write to a directory"),
        (("save", "-o", str(kept), "archived:1", "nothing:1"), "reference does not exist"),
        (("save", "-o", str(kept), "--platform", "linux/arm64", "archived:1"), "no suitable export target found"),
        (("load", "-i", "/nowhere/x"), "open /nowhere/x: no such file or directory"),
        (("load", "--platform", "a/b/c/d"), "invalid platform"),
    ):
        answer = host.tare(*arguments, check=False)
        assert (answer.returncode, words in answer.stderr.decode()) == (1, True), answer
    assert kept.read_text() == "kept"
    for command, words in ((("save", "archived:1"), b"cowardly refusing"), (("load",), b"but stdin is empty")):
        terminals.append(Terminal(host.tare_command(*command), host.environment()))
        terminals[-1].until(words)


def test_a_terminal_sees_the_layers_come(host: EngineProcess, tmp_path: Path, terminals: list[Terminal]) -> None:
    archive = tmp_path / "archive.tar"
    archive.write_bytes(tar_of(docker_archive([SMALL], ["archived:1"])))
    terminals.append(Terminal(host.tare_command("load", "-i", str(archive)), host.environment()))
    terminals[-1].until(digest(SMALL)[7:19].encode())
    terminals[-1].until(b"Loading layer")
    terminals[-1].until(b"kB in ")
    terminals[-1].until(b"Loaded image: archived:1")
    assert terminals.pop().close() == 0
    host.docker("rmi", "archived:1")


def test_docker_py(client: docker_py.DockerClient, built: str) -> None:
    image = client.images.get("archived:1")
    data = b"".join(image.save(named=True))
    client.images.remove(built, force=True)
    assert [item.id for item in client.images.load(data)] == [built]
    assert client.images.get("archived:1").tags == ["archived:1"]


def test_the_client_library(host: EngineProcess, built: str) -> None:
    async def save(client: Any) -> bytes:
        async with await client.images.save(["archived:1"]) as response:
            return bytes(await response.read())

    async def load(client: Any) -> list[Progress]:
        async def body() -> Any:
            yield data

        return [message async for message in client.images.load(body(), platform="linux/amd64", quiet=True)]

    with connect(host.host) as connection:
        data = connection.run(save)
        assert connection.run(load) == [Progress("Loaded image: archived:1")]
        with pytest.raises(NotFound) as raised:
            connection.run(lambda client: client.images.save(["archived:1"], platform="linux/arm64"))
        assert raised.value.code == "platform-missing"
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert json.load(archive.extractfile("manifest.json"))[0]["RepoTags"] == ["archived:1"]  # type: ignore[arg-type]


def ask(host: EngineProcess, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    connection = UnixConnection(host.socket)
    try:
        connection.request(method, path, body or None, {"Content-Type": "application/x-tar"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


ARM, BOTH = '{"os":"linux","architecture":"arm64"}', "platform=%7B%22os%22%3A%22linux%22%7D&platform=%7B%7D"


def test_the_api(host: EngineProcess, built: str) -> None:
    quoted = "".join(f"%{byte:02x}" for byte in ARM.encode())
    for path, status, message in (
        ("/v1.51/images/none/get", 404, "No such image: none"),
        ("/v1.51/images/none:1/get", 404, "reference does not exist"),
        (f"/v1.51/images/archived:1/get?platform={quoted}", 404, "no suitable export target found for platform"),
        (f"/v1.47/images/archived:1/get?platform={quoted}", 200, ""),  # came with 1.48
        ("/v1.51/images/archived:1/get?platform=linux/amd64", 400, "failed to parse platform: "),
        (f"/v1.51/images/archived:1/get?{BOTH}", 400, "multiple platform parameters not supported"),
    ):
        answered, body = ask(host, "GET", path)
        assert (answered, answered == 200 or json.loads(body)["message"].startswith(message)) == (status, True), body
    status, body = ask(host, "POST", "/v1.51/images/load", b"garbage" * 1000)
    assert (status, json.loads(body)["code"]) == (500, "archive-damaged")
    status, body = ask(host, "POST", "/v1.51/images/load", tar_of(docker_archive([SMALL], ["archived:3"])))
    assert (status, [json.loads(line).get("stream") for line in body.splitlines()][-1]) == (
        200,
        "Loaded image: archived:3\n",
    )


def test_several_platforms(host: EngineProcess) -> None:
    made = Layout()
    images = [made.image([SMALL], architecture=name) for name in ("amd64", "arm64")]
    made.name(made.index(images), full="docker.io/library/archived:1")
    archive = tar_of(made.all())
    told = host.docker("load", "--platform", "linux/arm64", stdin=archive).stdout.decode()
    assert told == "Loaded image: archived:1\nNot loaded, as they are for other platforms: linux/amd64\n"
    one = host.docker("save", "archived:1").stdout
    assert host.docker("load", stdin=archive).stdout == b"Loaded image: archived:1\n"
    assert len(host.text("images", "-q", "archived").split()) == 2
    assert host.tare("save", "--platform", "linux/arm64", "archived:1").stdout == one
    both = host.tare("save", "archived:1").stdout
    host.docker("rmi", "archived:1")
    assert host.docker("load", stdin=both).stdout == b"Loaded image: archived:1\n"
    assert len(host.text("images", "-q", "archived").split()) == 2
    host.docker("rmi", "archived:1")


def test_a_client_that_goes_in_the_middle(host: EngineProcess) -> None:
    """Nothing of what it sent stays, and the next one is served."""
    big = layer("big", 8 << 20)
    archive = tar_of(docker_archive([big], ["archived:1"]))
    staging = host.data_root / "staging"
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(host.socket))
        head = f"POST /v1.51/images/load HTTP/1.1\r\nHost: x\r\nContent-Length: {len(archive)}\r\n\r\n"
        connection.sendall(head.encode() + archive[: 4 << 20])
        answer = b""
        while b"Loading layer" not in answer:
            answer += connection.recv(4096)
        assert any(path.name.startswith("stage-") for path in staging.iterdir())
    assert host.docker("load", stdin=archive).stdout == b"Loaded image: archived:1\n"
    host.docker("rmi", "archived:1")


def test_skopeo(host: EngineProcess, built: str, tmp_path: Path) -> None:
    """What Tare saves skopeo reads; what skopeo writes of it Tare loads, with the same identifier."""
    skopeo = shutil.which("skopeo")
    assert skopeo is not None, "no skopeo: run `make setup`"

    def copy(source: str, destination: str) -> None:
        subprocess.run([skopeo, "copy", "-q", source, destination], check=True, capture_output=True)

    saved, archive, layout = (str(tmp_path / name) for name in ("saved.tar", "archive.tar", "layout.tar"))
    host.docker("save", "-o", saved, "archived:1")
    for place in (f"docker-archive:{saved}:archived:1", f"oci-archive:{saved}:1"):
        found = subprocess.run([skopeo, "inspect", "--config", "--raw", place], capture_output=True, check=True).stdout
        assert digest(found) == built
    copy(f"docker-archive:{saved}:archived:1", f"docker-archive:{archive}:archived:3")
    copy(f"oci-archive:{saved}:1", f"oci-archive:{layout}:archived:4")
    assert host.text("load", "-i", archive) == "Loaded image: archived:3"
    assert host.text("load", "-i", layout) == "Loaded image: archived:4"
    assert host.text("inspect", "--format", "{{.Id}}", "archived:3", "archived:4").split() == [built, built]
