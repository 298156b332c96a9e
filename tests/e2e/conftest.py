"""An engine with an image, whose containers go after each test."""

from __future__ import annotations

from collections.abc import Iterator

import docker as docker_py
import pytest

from engine_process import EngineProcess
from terminal import Terminal


@pytest.fixture(scope="module")
def own(busybox_tar: bytes) -> Iterator[EngineProcess]:
    """An engine of the module's own with the image ``busybox``, which may be killed."""
    engine = EngineProcess.make()
    engine.import_busybox(busybox_tar)
    yield engine
    engine.stop()


@pytest.fixture
def host(engine: EngineProcess, busybox: str) -> Iterator[EngineProcess]:
    """The session's engine with the image ``busybox``; containers made by the test are removed after it."""
    assert busybox
    yield engine
    engine.remove_containers()


@pytest.fixture
def client(host: EngineProcess) -> Iterator[docker_py.DockerClient]:
    """Docker's Python library, connected to the session's engine."""
    connected = docker_py.DockerClient(base_url=host.host, timeout=60)
    yield connected
    connected.close()


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    """Terminals that a test puts here are closed after it."""
    opened: list[Terminal] = []
    yield opened
    for terminal in opened:
        terminal.kill()
