"""Logging in to a real registry that wants it, and what is kept of it; Docker's command line beside ours."""

from __future__ import annotations

import json
import os
import signal
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from credential_helper import FakeHelper
from engine_process import Completed, EngineProcess
from registry_server import RegistryServer
from tare.client.registry_auth import RegistryAuth
from tare.client.sync import connect
from tare.errors import InvalidArgument, TareError, Unauthorized, Unavailable
from terminal import Terminal

pytestmark = [pytest.mark.root, pytest.mark.e2e, pytest.mark.timeout(120)]

PASSWORD = "pa:ss wörd/+"
TERMINAL_WORDS = b"Password: "


@pytest.fixture(scope="module")
def registry() -> Iterator[RegistryServer]:
    with RegistryServer(users={"ann": PASSWORD}) as server:
        yield server


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "docker" / "config.json"


def tare(engine: EngineProcess, config: Path, *arguments: str, stdin: str = "", path: str = "") -> Completed:
    environ = {"DOCKER_CONFIG": str(config.parent), "PATH": path or os.environ["PATH"]}
    return engine.tare(*arguments, stdin=stdin.encode(), environ=environ, check=False)


def docker(engine: EngineProcess, config: Path, *arguments: str, stdin: str = "") -> Completed:
    return engine.docker("--config", str(config.parent), *arguments, stdin=stdin.encode(), check=False)


def test_both_command_lines_keep_the_same(engine: EngineProcess, registry: RegistryServer, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours" / "config.json", tmp_path / "theirs" / "config.json"
    login = ("login", "-u", "ann", "--password-stdin", registry.address)
    for run, place in ((tare, ours), (docker, theirs)):
        done = run(engine, place, *login, stdin=f"{PASSWORD}\n")
        assert (done.returncode, done.stdout) == (0, b"Login Succeeded\n"), done
        assert f"WARNING! Your credentials are stored unencrypted in '{place}'." in done.stderr.decode()
    assert ours.read_bytes() == theirs.read_bytes()
    assert ours.stat().st_mode == theirs.stat().st_mode
    # What the one has kept, the other logs in with.
    for run, place in ((tare, theirs), (docker, ours)):
        done = run(engine, place, "login", registry.address)
        assert (done.returncode, done.stdout.splitlines()[-1]) == (0, b"Login Succeeded"), done
        assert b"Authenticating with existing credentials... [Username: ann]" in done.stdout + done.stderr
    for run, place in ((tare, theirs), (docker, ours)):
        done = run(engine, place, "logout", registry.address)
        assert (done.returncode, done.stdout) == (0, f"Removing login credentials for {registry.address}\n".encode())
        assert json.loads(place.read_text()) == {"auths": {}}
    assert PASSWORD not in engine.log
    assert PASSWORD not in registry.log


def test_wrong_password(engine: EngineProcess, registry: RegistryServer, config: Path) -> None:
    words = f"login attempt to {registry.url}/v2/ failed with status: 401 Unauthorized"
    for run in (tare, docker):
        done = run(engine, config, "login", "-u", "ann", "-p", "wr0ng", registry.address)
        assert (done.returncode, done.stdout) == (1, b"")
        assert done.stderr.decode().splitlines() == [
            "WARNING! Using --password via the CLI is insecure. Use --password-stdin.",
            f"Error response from daemon: {words}",
        ]
    assert not config.exists()
    with connect(engine.host) as connection, pytest.raises(Unauthorized, match="401 Unauthorized"):
        auth = RegistryAuth(username="ann", password="wr0ng", server=registry.address)
        connection.run(lambda client: client.registries.login(auth))


def test_stored_credentials_that_have_expired(engine: EngineProcess, registry: RegistryServer, config: Path) -> None:
    config.parent.mkdir()
    content = '{"auths":{"%s":{"auth":"YW5uOm9sZA=="}}}' % registry.address  # noqa: UP031 - braces
    config.write_text(content)
    done = tare(engine, config, "login", registry.address)
    assert done.returncode == 1
    assert "Login did not succeed, error: Error response from daemon: login attempt" in done.stderr.decode()
    assert "cannot perform an interactive login from a non TTY device" in done.stderr.decode()
    assert config.read_text() == content


@pytest.mark.parametrize(
    ("server", "kind", "words"),
    [
        ("127.0.0.1:1", Unavailable, 'Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused'),
        ("bad name", InvalidArgument, "unable to parse server address: 'bad name'"),
        ("http://[::1/", InvalidArgument, "unable to parse server address"),
        ("", Unavailable, "docker.io"),
        ("tare.local", InvalidArgument, "there is no registry behind the name"),
    ],
)
def test_registries_that_are_none(engine: EngineProcess, server: str, kind: type[TareError], words: str) -> None:
    with connect(engine.host) as connection, pytest.raises(kind) as caught:
        auth = RegistryAuth(username="ann", password=PASSWORD, server=server)
        connection.run(lambda client: client.registries.login(auth))
    assert words in caught.value.message
    assert caught.value.code not in ("", "engine")
    assert PASSWORD not in str(caught.value)


def test_helper_gets_what_the_terminal_was_asked_for(
    engine: EngineProcess, registry: RegistryServer, config: Path, terminals: list[Terminal], tmp_path: Path
) -> None:
    helper = FakeHelper(tmp_path / "bin")
    config.parent.mkdir()
    config.write_text('{"credsStore": "fake"}')
    environment = engine.environment() | {
        "DOCKER_CONFIG": str(config.parent), "PATH": f"{helper.directory}:{os.environ['PATH']}"
    }  # fmt: skip
    terminal = Terminal(engine.tare_command("login", registry.address), environment)
    terminals.append(terminal)
    terminal.until(b"Username: ")
    terminal.send(b"ann\n")
    terminal.until(TERMINAL_WORDS)
    assert not termios.tcgetattr(terminal.master)[3] & termios.ECHO
    terminal.send(f"{PASSWORD}\n".encode())
    seen = terminal.until(b"Login Succeeded")
    assert PASSWORD.encode() not in seen
    assert b"WARNING" not in seen, "nothing is stored unencrypted"
    assert terminal.close() == 0
    assert helper.kept == {registry.address: {"ServerURL": registry.address, "Username": "ann", "Secret": PASSWORD}}
    assert all(PASSWORD not in " ".join(arguments) for arguments, _ in helper.calls)
    assert json.loads(config.read_text()) == {"credsStore": "fake", "auths": {registry.address: {}}}
    path = environment["PATH"]
    done = tare(engine, config, "login", registry.address, path=path)
    assert done.stdout == b"Login Succeeded\n"
    done = tare(engine, config, "logout", registry.address, path=path)
    assert (done.returncode, helper.kept) == (0, {})
    done = tare(engine, config, "logout", registry.address, path=path)
    assert done.returncode == 0, "as in Docker"
    assert b"WARNING: could not erase credentials:" in done.stderr


def test_interrupted_at_the_password(
    engine: EngineProcess, registry: RegistryServer, config: Path, terminals: list[Terminal]
) -> None:
    environment = engine.environment() | {"DOCKER_CONFIG": str(config.parent)}
    terminal = Terminal(engine.tare_command("login", "-u", "ann", registry.address), environment)
    terminals.append(terminal)
    terminal.until(TERMINAL_WORDS)
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.process.wait(30) == 130
    assert termios.tcgetattr(terminal.master)[3] & termios.ECHO, "the terminal shows again what is typed"
    assert not config.exists()
