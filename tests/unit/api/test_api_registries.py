"""Credentials in requests: ``POST /auth`` and ``X-Registry-Config``."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from api_fakes import Docker, FakeEngine

from tare.api.schema.registries import read_auth, read_config
from tare.client.credentials import CredentialStore
from tare.errors import InvalidArgument, Unauthorized
from tare.registry.credentials import Credentials

Http = aiohttp.ClientSession


def header(document: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode()


class Logins:
    """Takes ann's credentials; says what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Credentials]] = []

    async def check(self, server: str, credentials: Credentials) -> str:
        self.asked.append((server, credentials))
        if credentials.username != "ann":
            raise Unauthorized("login attempt to x failed with status: 401 Unauthorized", code="registry-login-failed")
        return "t0ken"


@pytest.fixture
def logins(engine: FakeEngine) -> Logins:
    engine.registry_logins = Logins()  # type: ignore[attr-defined]
    found: Logins = engine.registry_logins  # type: ignore[attr-defined]
    return found


async def post(http: Http, body: str) -> tuple[int, Any]:
    async with http.post("/v1.51/auth", data=body) as response:
        return response.status, json.loads(await response.read())


async def test_auth(http: Http, logins: Logins) -> None:
    body = {"username": "ann", "password": "s3cret", "serveraddress": "r.example", "email": "x"}
    assert await post(http, json.dumps(body)) == (200, {"IdentityToken": "t0ken", "Status": "Login Succeeded"})
    assert logins.asked == [("r.example", Credentials(username="ann", password="s3cret"))]
    status, answer = await post(http, json.dumps({"username": "bob", "identitytoken": "t"}))
    assert (status, answer["code"]) == (500, "registry-login-failed"), "Docker's status"
    assert answer["message"] == "login attempt to x failed with status: 401 Unauthorized"
    assert logins.asked[1][0] == ""


@pytest.mark.parametrize("body", ["{", "[]", '{"username": 1, "password": "s3cret"}', '{"serveraddress": ["s3cret"]}'])
async def test_bodies_that_are_none(http: Http, logins: Logins, body: str) -> None:
    status, answer = await post(http, body)
    assert status == 400
    assert "s3cret" not in json.dumps(answer)
    assert answer["code"].startswith("registry-auth")
    assert not logins.asked


async def test_identity_token_is_kept_in_place_of_the_password(
    docker: Docker, socket_path: str, logins: Logins, tmp_path: Path
) -> None:
    login = ("login", "-u", "ann", "--password-stdin", "r.example")
    ended = await docker(*login, stdin=b"s3cret\n")
    assert (ended.code, ended.out) == (0, b"Login Succeeded\n"), ended
    ours = tmp_path / "ours"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tare.cli.main", "-H", f"unix://{socket_path}", "--config", str(ours), *login,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate(b"s3cret\n")
    assert (process.returncode, out) == (0, b"Login Succeeded\n"), err
    assert (ours / "config.json").read_text() == (tmp_path / "docker" / "config.json").read_text()
    kept = CredentialStore(ours / "config.json", {}).find("r.example")
    assert (kept.username, kept.password, kept.identity_token) == ("ann", "", "t0ken")
    assert [asked[1].password for asked in logins.asked] == ["s3cret", "s3cret"]


def test_empty_bodies() -> None:
    for body in (b"", b"null", b"{}", b'{"serveraddress": null}'):
        assert read_auth(body) == ("", Credentials())


def test_config_header() -> None:
    known = read_config(
        header({"https://index.docker.io/v1/": {"username": "a", "password": "b"}, "r.example:5000": {"auth": "x"}})
    )
    assert known == {"docker.io": Credentials(username="a", password="b"), "r.example:5000": Credentials()}
    tokens = {
        f"https://index.docker.io/v1/{path}": {"username": path or "ann"}
        for path in ("", "access-token", "refresh-token")
    }
    for names in (list(tokens), list(tokens)[::-1]):
        assert read_config(header({name: tokens[name] for name in names})) == {"docker.io": Credentials(username="ann")}
    assert read_config("") == {} == read_config(header(None)) == read_config(header({}).rstrip("="))


@pytest.mark.parametrize("text", ["!", "e", header({"r.example": 1}), header({"r.example": {"password": 1}})])
def test_config_headers_that_are_none(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        read_config(text)
    assert caught.value.code == "registry-auth-header"
