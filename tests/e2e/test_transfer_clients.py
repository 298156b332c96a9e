"""Pulls and pushes by our command line and client library: credentials, progress on a terminal, interruption."""

from __future__ import annotations

import io
import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import docker as docker_py
import pytest

from engine_process import Completed, EngineProcess
from faulty_registry import Blob, FaultyRegistry, layer_tar
from registry_server import RegistryServer
from tare.client.progress import Progress
from tare.client.registry_auth import RegistryAuth
from tare.client.sync import connect
from tare.errors import NotFound, Unauthorized
from terminal import Terminal

pytestmark = [pytest.mark.root, pytest.mark.e2e, pytest.mark.timeout(120)]

ANN = {"username": "ann", "password": "pa:ss wörd/+"}


@pytest.fixture(scope="module")
def registry() -> Iterator[RegistryServer]:
    with RegistryServer(users={ANN["username"]: ANN["password"]}) as server:
        yield server


@pytest.fixture
def name(host: EngineProcess, registry: RegistryServer) -> Iterator[str]:
    """A further name of ``busybox``, in the registry that wants a login; it goes after the test."""
    full = f"{registry.address}/private/app:1"
    host.docker("tag", "busybox", full)
    yield full
    host.docker("rmi", "-f", full, check=False)


def tare(host: EngineProcess, config: Path, *arguments: str, stdin: str = "") -> Completed:
    environ = {"DOCKER_CONFIG": str(config), "BUILDKIT_PROGRESS": "plain"}
    return host.tare(*arguments, stdin=stdin.encode(), environ=environ, check=False)


def test_private_images(host: EngineProcess, registry: RegistryServer, name: str, tmp_path: Path) -> None:
    refused = tare(host, tmp_path, "push", name)
    assert refused.returncode == 1
    assert b"no basic auth credentials" in refused.stderr
    assert refused.stdout.splitlines()[0] == f"The push refers to repository [{name[:-2]}]".encode()
    login = tare(host, tmp_path, "login", "-u", "ann", "--password-stdin", registry.address, stdin=ANN["password"])
    assert login.returncode == 0, login
    pushed = tare(host, tmp_path, "push", name)
    assert pushed.returncode == 0, pushed
    lines = pushed.stdout.decode().splitlines()
    assert re.fullmatch(r"1: digest: sha256:[0-9a-f]{64} size: \d+", lines[-1]), lines
    assert {line.partition(": ")[2] for line in lines[1:-1]} == {"Preparing", "Pushed"}, "no steps of bars"
    digest = lines[-1].split()[2]
    assert f"1         {digest}" in tare(host, tmp_path, "images", "--digests", name[:-2]).stdout.decode()
    assert tare(host, tmp_path, "push", "-q", name).stdout == f"{name}\n".encode()

    # A pull, a run and a build find the credentials, the image without them is not to be had.
    host.docker("rmi", name)
    anonymous = tare(host, tmp_path / "none", "pull", name)
    assert anonymous.returncode == 1
    assert b"Error response from daemon: " in anonymous.stderr
    assert b"no basic auth credentials" in anonymous.stderr
    pulled = tare(host, tmp_path, "pull", name[:-2] + ":1")
    assert pulled.stdout.decode().splitlines()[-3:] == [
        f"Digest: {digest}", f"Status: Downloaded newer image for {name}", name
    ]  # fmt: skip
    host.docker("rmi", name)
    ran = tare(host, tmp_path, "run", "--rm", name, "echo", "here")
    assert (ran.returncode, ran.stdout) == (0, b"here\n"), ran
    assert f"Unable to find image '{name}' locally" in ran.stderr.decode()
    host.docker("rmi", name)
    built = tare(host, tmp_path, "build", "-q", "-", stdin=f"FROM {name}\nENV A=b\n")
    assert built.returncode == 0, built
    host.docker("rmi", built.stdout.decode().strip())
    assert ANN["password"] not in host.log


def test_client_library(host: EngineProcess, registry: RegistryServer, name: str) -> None:
    auth = RegistryAuth(**ANN, server=registry.address)
    repository = name[:-2]
    with connect(host.host) as connection:
        pushed = list(connection.stream(lambda client: client.images.push(repository, "1", auth=auth)))
        assert pushed[0] == Progress(f"The push refers to repository [{repository}]")
        assert pushed[-1].aux["Tag"] == "1"
        found = connection.run(lambda client: client.registries.distribution(name, auth=auth))
        assert found["Descriptor"]["digest"] == pushed[-1].aux["Digest"]
        pulled = list(connection.stream(lambda client: client.images.pull(repository, "1", auth=auth)))
        assert pulled[-1].status == f"Status: Image is up to date for {name}"
        wrong = RegistryAuth(username="ann", password="wr0ng", server=registry.address)
        for other, words in ((wrong, "unauthorized: authentication required"), (RegistryAuth(), "no basic auth cred")):
            with pytest.raises(Unauthorized, match=words):
                list(connection.stream(lambda client, other=other: client.images.pull(repository, "1", auth=other)))
        with pytest.raises(NotFound, match="manifest unknown"):
            list(connection.stream(lambda client: client.images.pull(repository, "nosuch", auth=auth)))


def test_docker_py(client: docker_py.DockerClient, registry: RegistryServer, name: str) -> None:
    with pytest.raises(docker_py.errors.APIError, match="401 Unauthorized"):
        client.login("ann", "wr0ng", registry=registry.address, dockercfg_path="/nowhere")
    answer = client.login(**ANN, registry=registry.address, dockercfg_path="/nowhere")
    assert answer == {"IdentityToken": "", "Status": "Login Succeeded"}
    told = list(client.images.push(name[:-2], "1", stream=True, decode=True))
    assert told[-1]["aux"]["Tag"] == "1"
    client.images.remove(name)
    assert client.images.pull(name[:-2], "1").tags.count(name) == 1
    client.images.remove(name)
    built, _ = client.images.build(fileobj=io.BytesIO(f"FROM {name}\nENV A=b\n".encode()), rm=True)
    built.remove()


def test_pull_on_a_terminal_that_is_interrupted_and_taken_up_again(
    host: EngineProcess, terminals: list[Terminal], tmp_path: Path
) -> None:
    with FaultyRegistry() as server:
        first, second = layer_tar("a", os.urandom(200_000)), layer_tar("b", b"b")
        manifest = server.put_image("app:1", [first, second])
        held = manifest["layers"][0]["digest"]
        gate = threading.Event()
        server.blobs[held] = Blob(server.blobs[held].data, gate=gate)
        name = f"{server.address}/app:1"
        command = host.tare_command("pull", name)
        environment = host.environment() | {"DOCKER_CONFIG": str(tmp_path), "TERM": "xterm"}
        terminal = Terminal(command, environment, size=(24, 80))
        terminals.append(terminal)
        server.wait_for(held)
        terminal.until(b"Pulling from app")
        terminal.until(b"/2 done")
        terminal.process.send_signal(signal.SIGINT)
        terminal.until(f"pull of {name} canceled".encode())
        assert terminal.close() == 130
        assert host.docker("inspect", name, check=False).returncode == 1, "nothing half-made has the name"

        gate.set()
        terminal = Terminal(command, environment, size=(24, 80))
        terminals.append(terminal)
        seen = terminal.until(f"Status: Downloaded newer image for {name}".encode()).decode()
        terminal.until(name.encode())
        assert terminal.close() == 0
        last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen[seen.rindex("1: Pulling from app") :]).split("\r\n")
        names = [layer["digest"][7:19] for layer in manifest["layers"]]
        assert [line.split()[:2] for line in last[1:3]] == [["✔", layer] for layer in names], last
        host.docker("rmi", name)
