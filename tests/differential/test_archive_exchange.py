"""Images go from Tare to Docker and Podman and back as archives, and are the same.

With a real Docker (``scripts/reference-docker.sh start``) and a real Podman (``scripts/reference-podman.sh``), where
they are there.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine_process import CHECKOUT, EngineProcess, docker_program
from image_archives import docker_archive, layer, tar_of

pytestmark = [pytest.mark.root, pytest.mark.e2e]

DOCKER = Path("/run/tare-reference-docker/docker.sock")
PODMAN = CHECKOUT / ".tools" / "reference-podman" / "podman"
NAMES = ("archives-exchange:1", "archives-exchange:2")

Run = Callable[..., bytes]


@pytest.fixture
def host(engine: EngineProcess, busybox: str) -> Iterator[EngineProcess]:
    """The session's engine."""
    assert busybox
    yield engine
    engine.remove_containers()


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[Run]:
    """The reference Docker, whose images of the test go again."""
    if not DOCKER.exists():
        pytest.skip("no reference Docker: scripts/reference-docker.sh start")
    environment = {"PATH": os.environ["PATH"], "DOCKER_CONFIG": str(tmp_path)}

    def run(*arguments: str, check: bool = True) -> bytes:
        command = [docker_program(), "-H", f"unix://{DOCKER}", *arguments]
        return subprocess.run(command, check=check, capture_output=True, env=environment, timeout=60).stdout

    yield run
    run("rmi", "-f", *NAMES, check=False)


@pytest.fixture
def podman(tmp_path: Path) -> Iterator[Run]:
    """Podman with a store of its own."""
    program = shutil.which("podman") or (str(PODMAN) if PODMAN.exists() else None)
    if program is None:
        pytest.skip("no Podman: scripts/reference-podman.sh")
    top = tempfile.mkdtemp(prefix="tare-podman")  # its paths must be short
    places = [f"--{name}={top}/{name}" for name in ("root", "runroot", "tmpdir")]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}

    def run(*arguments: str) -> bytes:
        options = ["--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--events-backend=none"]
        command = [program, *places, *options, *arguments]
        return subprocess.run(command, check=True, capture_output=True, env=environment, timeout=60).stdout

    yield run
    shutil.rmtree(top)


@pytest.fixture
def built(host: EngineProcess, tmp_path: Path) -> Iterator[str]:
    """An image with two names; gives its identifier."""
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM busybox\nRUN mkdir /srv && echo kept > /srv/word\nENV A=1\n")
    host.docker("build", "-q", *(word for name in NAMES for word in ("-t", name)), str(context))
    yield host.text("inspect", "--format", "{{.Id}}", NAMES[0])
    for pattern in ("archives-exchange", "localhost/archives-exchange"):
        if found := set(host.text("images", "-q", pattern).split()):
            host.docker("rmi", "-f", *found)


def documents(archive: Path) -> dict[str, bytes]:
    """The members that are no layers, by path."""
    with tarfile.open(archive) as opened:
        files = {item.name: opened.extractfile(item) for item in opened if item.isfile() and item.size < 1 << 20}
        return {name: file.read() for name, file in files.items() if file is not None}


def test_docker_and_back(host: EngineProcess, docker: Run, built: str, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.tar", tmp_path / "theirs.tar"
    host.docker("save", "-o", str(ours), *NAMES)
    said = docker("load", "-i", str(ours))
    assert docker("image", "inspect", "--format", "{{.Id}}", *NAMES).decode().split() == [built, built]
    assert docker("run", "--rm", "--network", "none", NAMES[1], "cat", "/srv/word") == b"kept\n"
    docker("save", "-o", str(theirs), *NAMES)
    mine, other = documents(ours), documents(theirs)
    for name in ("manifest.json", "index.json", "oci-layout", "repositories"):
        assert mine[name] == other[name]
    assert mine.keys() <= other.keys()  # Docker's has v1 configurations besides, which nothing refers to
    host.docker("rmi", *NAMES)
    assert host.docker("load", "-i", str(theirs)).stdout == said
    assert host.text("inspect", "--format", "{{.Id}}", *NAMES).split() == [built, built]
    assert host.text("run", "--rm", "--network", "none", NAMES[0], "cat", "/srv/word") == "kept"


def test_what_docker_says_of_names(host: EngineProcess, docker: Run, tmp_path: Path) -> None:
    """The lines about names are the same, byte for byte, whatever had the name before."""
    first, second = layer("first"), layer("second")
    archives = {
        "named": docker_archive([first], list(NAMES)),
        "moved": docker_archive([second], [NAMES[1]]),
        "unnamed": docker_archive([first], None),
        "empty": {"manifest.json": b"[]"},
    }
    for name, members in archives.items():
        (tmp_path / name).write_bytes(tar_of(members))
        said = [
            docker("load", "-q", "-i", str(tmp_path / name)),
            host.docker("load", "-q", "-i", str(tmp_path / name)).stdout,
        ]
        assert said[0] == said[1], name
    host.docker("rmi", *NAMES)


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive", "oci-dir"])
def test_podman_and_back(host: EngineProcess, podman: Run, built: str, tmp_path: Path, form: str) -> None:
    ours, theirs = tmp_path / "ours.tar", tmp_path / "theirs"
    host.docker("save", "-o", str(ours), NAMES[0])
    layers = host.text("inspect", "--format", "{{.RootFS.Layers}}", NAMES[0])
    host.docker("rmi", *NAMES)
    name = podman("load", "-q", "-i", str(ours)).decode().strip().removeprefix("Loaded image: ")
    (known,) = json.loads(podman("image", "inspect", name))
    assert (f"sha256:{known['Id']}", f"[{' '.join(known['RootFS']['Layers'])}]") == (built, layers)
    podman("save", "-q", "--format", form, "-o", str(theirs), name)
    data = theirs.read_bytes() if theirs.is_file() else packed(theirs)
    said = host.docker("load", stdin=data).stdout.decode()
    assert said == f"Loaded image: {name.removeprefix('docker.io/library/')}\n"
    loaded = host.text("inspect", "--format", "{{.Id}}", name)
    assert loaded == built or form != "docker-archive"  # in a layout Podman keeps what OCI has of the configuration
    assert host.text("run", "--rm", "--network", "none", name, "cat", "/srv/word") == "kept"


def packed(directory: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(directory, ".")
    return buffer.getvalue()
