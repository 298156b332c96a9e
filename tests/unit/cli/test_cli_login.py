"""What ``tare login`` refuses before it asks anybody, and the names under which ``logout`` forgets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tare.cli.login import login, logout
from tare.cli.session import Session
from tare.errors import InvalidArgument, TareError


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.delenv("DOCKER_AUTH_CONFIG", raising=False)
    return tmp_path / "config.json"


def run(command: object, *arguments: str) -> None:
    command.main(list(arguments), obj=Session("unix:///none"), standalone_mode=False)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-u", "ann"), "cannot perform an interactive login from a non TTY device"),
        (("--password-stdin",), "the --password-stdin option requires --username to be set"),
        (("-u", "a", "-p", "b", "--password-stdin"), "conflicting options: cannot specify both --password and --pass"),
        (("-u", "", "-p", "b"), "username is empty"),
        (("-u", " ", "-p", "b"), "username is empty"),
        (("-u", "a", "-p", ""), "password is empty"),
    ],
)
def test_options_that_do_not_do(config: Path, arguments: tuple[str, ...], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words) as caught:
        run(login, *arguments, "registry.example")
    assert caught.value.code == "login"
    assert not config.exists()


def test_engine_that_is_not_there_is_not_taken_for_a_refusal(config: Path) -> None:
    content = '{"auths":{"registry.example":{"auth":"YW5uOm9sZA=="}}}'
    config.write_text(content)
    with pytest.raises(TareError, match="cannot connect to the Tare engine") as caught:
        run(login, "registry.example")
    assert caught.value.code == "engine-down"
    assert config.read_text() == content


@pytest.mark.parametrize(
    ("server", "gone", "shown"),
    [
        ("registry.example", {"registry.example", "http://registry.example", "https://registry.example"}, ""),
        ("https://registry.example/v2/", {"https://registry.example/v2/", "registry.example"}, "registry.example"),
        ("", {"https://index.docker.io/v1/"}, "https://index.docker.io/v1/"),
        ("docker.io", {"https://index.docker.io/v1/"}, "https://index.docker.io/v1/"),
    ],
)
def test_logout(config: Path, server: str, gone: set[str], shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    names = {"registry.example", "other.example", "http://registry.example", "https://registry.example"}
    names |= {"https://registry.example/v2/", "https://index.docker.io/v1/"}
    config.write_text(json.dumps({"auths": {name: {"auth": "YW5uOm9sZA=="} for name in names}}))
    run(logout, *([server] if server else []))
    left = set(json.loads(config.read_text())["auths"])
    assert not gone & left
    assert "other.example" in left
    assert capsys.readouterr().out == f"Removing login credentials for {shown or server}\n"
