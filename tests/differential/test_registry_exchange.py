"""A real Docker pulls from ``tare registry serve`` over TLS and runs what it got.

With a Docker of ``scripts/reference-docker.sh start``, where there is one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import bcrypt
import pytest

from certificates import Authority
from engine_process import EngineProcess, docker_program
from served_registry import ServedRegistry

pytestmark = [pytest.mark.root, pytest.mark.e2e]

DOCKER = Path("/run/tare-reference-docker/docker.sock")
HOST = "10.213.0.1"  # as that Docker sees it
TRUSTED = Path("/etc/docker/certs.d")

Run = Callable[..., str]


@pytest.fixture
def docker(tmp_path: Path) -> Run:
    """The reference Docker."""
    if not DOCKER.exists():
        pytest.skip("no reference Docker: scripts/reference-docker.sh start")
    environment = {"PATH": os.environ["PATH"], "DOCKER_CONFIG": str(tmp_path / "config")}

    def run(*arguments: str, check: bool = True, stdin: str | None = None) -> str:
        command = [docker_program(), "-H", f"unix://{DOCKER}", *arguments]
        return subprocess.run(
            command, check=check, capture_output=True, text=True, input=stdin, env=environment, timeout=60
        ).stdout

    return run


@pytest.fixture
def registry(engine: EngineProcess, busybox: str, docker: Run, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Opens a registry with a compression; gives its address, which Docker trusts and is logged in to."""
    assert busybox
    authority = Authority(tmp_path)
    server = authority.issue("server", subject_names=f"IP:{HOST}")
    users = tmp_path / "users"
    users.write_text(f"ann:{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}\n")
    opened: list[tuple[ServedRegistry, Path]] = []

    def serve(compression: str) -> str:
        secured = ("--tls-cert", str(server.certificate), "--tls-key", str(server.key), "--htpasswd", str(users))
        served = ServedRegistry(engine, "--address", f"{HOST}:0", *secured, "--compress", compression)
        trusted = TRUSTED / served.address
        opened.append((served, trusted))
        trusted.mkdir(parents=True)
        (trusted / "ca.crt").write_bytes(authority.certificate.read_bytes())
        docker("login", "-u", "ann", "--password-stdin", served.address, stdin="secret")
        return served.address

    yield serve
    for served, trusted in opened:
        shutil.rmtree(trusted, ignore_errors=True)
        assert served.end() == 0
    with contextlib.suppress(OSError):  # others have something in it, or it was not there
        TRUSTED.rmdir()


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_docker_pulls_and_runs(
    engine: EngineProcess, docker: Run, registry: Callable[[str], str], compression: str
) -> None:
    name = f"{registry(compression)}/busybox:latest"
    try:
        said = docker("pull", name)
        pulled = docker("image", "inspect", "-f", "{{.Id}} {{index .RepoDigests 0}}", name).split()
        assert pulled[0] == engine.text("image", "inspect", "-f", "{{.Id}}", "busybox")
        assert f"Digest: {pulled[1].partition('@')[2]}" in said
        assert docker("run", "--rm", "--network", "none", name, "echo", "hello") == "hello\n"
        assert "up to date" in docker("pull", name)
        assert "digest:" not in docker("push", name, check=False), "nothing is written"
    finally:
        docker("rmi", "-f", name, check=False)
