from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from api_fakes import Docker, Ended, FakeEngine

from tare.api.app import ApiServer


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
async def socket_path(engine: FakeEngine, tmp_path: Path) -> AsyncIterator[str]:
    """The path of a socket on which the API serves the fake engine."""
    path = str(tmp_path / "api.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    server = ApiServer(engine)  # type: ignore[arg-type]
    await server.start([listener])
    yield path
    await server.close()


@pytest.fixture
async def http(socket_path: str) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession("http://docker", connector=aiohttp.UnixConnector(socket_path)) as session:
        yield session


@pytest.fixture
def docker(socket_path: str, tmp_path: Path) -> Docker:
    """Runs Docker's own command line against the socket."""
    program = shutil.which("docker")
    if program is None:
        pytest.skip("no docker command on this machine")
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "DOCKER_CONFIG": str(tmp_path / "docker")}

    async def run(*arguments: str, stdin: bytes | None = None) -> Ended:
        process = await asyncio.create_subprocess_exec(
            program,
            "-H",
            f"unix://{socket_path}",
            *arguments,
            stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
        )
        try:
            async with asyncio.timeout(30):
                out, err = await process.communicate(stdin)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return Ended(process.returncode or 0, out, err)

    return run
