"""An engine with an image, whose containers go after each test."""

from __future__ import annotations

from collections.abc import Iterator

import docker as docker_py
import pytest
from engine_process import EngineProcess


@pytest.fixture
def host(engine: EngineProcess, busybox: str) -> Iterator[EngineProcess]:
    """The session's engine with the image ``busybox``; containers made by the test are removed after it."""
    assert busybox
    yield engine
    remove_containers(engine)


def remove_containers(engine: EngineProcess) -> None:
    """Remove every container of an engine with its anonymous volumes."""
    if names := engine.text("ps", "-aq").split():
        engine.docker("rm", "-f", "-v", *names)


@pytest.fixture
def client(host: EngineProcess) -> Iterator[docker_py.DockerClient]:
    """Docker's Python library, connected to the session's engine."""
    connected = docker_py.DockerClient(base_url=host.host, timeout=60)
    yield connected
    connected.close()
