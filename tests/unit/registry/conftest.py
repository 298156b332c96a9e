"""Registries, real and hostile, and clients of them whose time is made of numbers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from certificates import Authority
from registry_parts import ClientMaker
from registry_server import RegistryServer


@pytest.fixture
async def make_client(tmp_path: Path) -> AsyncIterator[ClientMaker]:
    """Makes clients that are closed at the end."""
    maker = ClientMaker(tmp_path / "downloads")
    yield maker
    await maker.close()


@pytest.fixture(scope="session")
def plain_registry() -> Iterator[RegistryServer]:
    """Debian's docker-registry without TLS and users."""
    with RegistryServer() as server:
        yield server


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that the system does not know."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def closed_registry(authority: Authority) -> Iterator[RegistryServer]:
    """Debian's docker-registry with TLS and the user ann, whose password is secret."""
    with RegistryServer(tls=authority.issue("server"), users={"ann": "secret"}) as server:
        yield server
