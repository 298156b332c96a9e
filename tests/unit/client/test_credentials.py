"""Credentials in the user's configuration: read, kept, forgotten, without losing what else is there."""

from __future__ import annotations

import base64
import json
import multiprocessing
import stat
from pathlib import Path
from typing import Any

import pytest

from credential_helper import FakeHelper
from tare.client.client import Client
from tare.client.credentials import CredentialStore
from tare.client.registry_auth import DEFAULT_KEY, RegistryAuth, config_headers, host_of, key_of
from tare.client.transport import drive
from tare.errors import Forbidden, InternalError, InvalidArgument, NotFound, TareError

HOST = "registry.example:5000"
ANN = RegistryAuth(username="ann", password="s3cret:with:colons", server=HOST)


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "docker" / "config.json"


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHelper:
    made = FakeHelper(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(made.directory))
    return made


def store_of(path: Path, content: Any = None) -> CredentialStore:
    if content is not None:
        path.parent.mkdir(exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return CredentialStore(path, {})


def test_file_is_written_as_docker_writes_it(path: Path) -> None:
    store = store_of(path)
    assert store.find(HOST).is_empty
    assert store.store(ANN), "says that the password is in the file"
    lines = [
        "{",
        '\t"auths": {',
        f'\t\t"{HOST}": {{',
        f'\t\t\t"auth": "{encoded("ann:s3cret:with:colons")}"',
        "\t\t}",
        "\t}",
        "}",
    ]
    assert path.read_text() == "\n".join(lines)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert store.find(HOST) == ANN
    assert not store.store(ANN), "nothing has changed"
    store.erase(HOST)
    assert json.loads(path.read_text()) == {"auths": {}}
    assert [item.name for item in path.parent.iterdir()] == ["config.json"]


def test_what_others_keep_stays(path: Path) -> None:
    others = {"psFormat": "x", "unknown": [1, {"ü": None}], "auths": {"a": {"auth": encoded("u:p"), "email": "e"}}}
    store = store_of(path, others)
    path.chmod(0o644)
    store.store(RegistryAuth(server=HOST, identity_token="t0ken"))
    known = json.loads(path.read_text())
    assert known == {**others, "auths": {**others["auths"], HOST: {"identitytoken": "t0ken"}}}  # type: ignore[dict-item]
    assert list(known) == list(others)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    store.erase("nobody")
    store.erase(HOST)
    assert json.loads(path.read_text()) == others


@pytest.mark.parametrize("exists", [True, False])
def test_symbolic_link_stays_one(path: Path, tmp_path: Path, exists: bool) -> None:
    place = tmp_path / "elsewhere" / "real.json"
    if exists:
        place.parent.mkdir()
        place.write_text("{}")
    path.parent.mkdir()
    path.symlink_to("../elsewhere/real.json")
    store_of(path).store(ANN)
    assert path.is_symlink()
    assert store_of(path).find(HOST) == ANN
    assert json.loads(place.read_text())["auths"]


def _log_in(path: Path, number: int) -> None:
    CredentialStore(path, {}).store(RegistryAuth(username="u", password="p", server=f"r{number}.example"))


def test_logins_at_the_same_time_lose_nothing(path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_log_in, args=(path, number)) for number in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert sorted(json.loads(path.read_text())["auths"]) == [f"r{number}.example" for number in range(6)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"auths":', "not JSON: Expecting value"),
        ("[]", "the file is not a JSON object"),
        ('{"auths": []}', None),
        ('{"auths": ["x"]}', "auths is not a JSON object"),
        ('{"auths": {"h": "x"}}', "auths.h is not a JSON object"),
        ('{"credHelpers": "x"}', "credHelpers is not a JSON object"),
        (b"\xff".decode("latin-1"), "not JSON"),
    ],
)
def test_configuration_that_is_none_is_refused_and_not_overwritten(path: Path, content: str, words: str | None) -> None:
    store = store_of(path, content)
    if words is None:
        assert store.find(HOST).is_empty
        return
    for act in (lambda: store.find(HOST), lambda: store.store(ANN), lambda: store.erase(HOST)):
        with pytest.raises(InvalidArgument, match=words) as caught:
            act()
        assert str(path) in caught.value.message
        assert caught.value.code == "client-config"
    assert path.read_text() == content


@pytest.mark.parametrize("auth", ["%%%", encoded("nocolon"), encoded(":p"), base64.b64encode(b"\xff:x").decode()])
def test_one_broken_entry_hurts_nobody_else(path: Path, auth: str) -> None:
    store = store_of(path, {"auths": {"bad.example": {"auth": auth}, HOST: {"auth": encoded("ann:x")}}})
    assert store.find(HOST).username == "ann"
    with pytest.raises(InvalidArgument, match=r"auths\.bad\.example\.auth is not the base64 of user:password"):
        store.find("bad.example")
    failures: list[TareError] = []
    assert list(store.find_all(failures.append)) == [HOST]
    assert len(failures) == 1
    store.store(RegistryAuth(username="u", password="p", server="bad.example"))
    assert store.find("bad.example").username == "u"


def test_directory_that_cannot_be_written(path: Path) -> None:
    path.parent.write_text("a file")
    with pytest.raises(Forbidden, match=f"cannot write {path}: "):
        store_of(path).store(ANN)


def test_entries_of_other_clients_are_found(path: Path) -> None:
    auth = {"auth": encoded("u:p\0\0")}
    store = store_of(path, {"auths": {"https://old.example/v1/": auth, "named": {"username": "a", "password": "b"}}})
    assert store.find("old.example").password == "p"
    assert store.find("named") == RegistryAuth(username="a", password="b", server="named")


def test_helper_keeps_the_secret_out_of_file_and_arguments(path: Path, helper: FakeHelper) -> None:
    store = store_of(path, {"credsStore": "fake"})
    assert store.find(HOST).is_empty
    assert not store.store(ANN)
    assert json.loads(path.read_text()) == {"credsStore": "fake", "auths": {HOST: {}}}
    assert helper.kept == {HOST: {"ServerURL": HOST, "Username": "ann", "Secret": "s3cret:with:colons"}}
    assert store.find(HOST) == ANN
    assert store.find_all(pytest.fail) == {HOST: ANN}
    store.erase(HOST)
    assert json.loads(path.read_text())["auths"] == {}
    assert [arguments for arguments, _ in helper.calls] == [
        ["get"], ["store"], ["get"], ["list"], ["get"], ["erase"]
    ]  # fmt: skip
    assert helper.calls[-1][1] == HOST


def test_helper_keeps_identity_tokens_as_such(path: Path, helper: FakeHelper) -> None:
    store = store_of(path, {"credHelpers": {HOST: "fake"}, "auths": {"other.example": {"auth": encoded("u:p")}}})
    token = RegistryAuth(server=HOST, identity_token="t0ken")
    store.store(token)
    assert helper.kept[HOST] == {"ServerURL": HOST, "Username": "<token>", "Secret": "t0ken"}
    assert store.find(HOST) == token
    assert store.find("other.example").username == "u"
    assert sorted(store.find_all(pytest.fail)) == ["other.example", HOST]


def test_helpers_that_fail(path: Path, helper: FakeHelper) -> None:
    missing = store_of(path, {"credsStore": "none"})
    words = r'error storing credentials - err: exec: "docker-credential-none": executable file not found in \$PATH'
    with pytest.raises(NotFound, match=words) as caught:
        missing.store(ANN)
    assert caught.value.code == "credential-helper"
    store = store_of(path, {"credsStore": "fake"})
    with pytest.raises(InternalError, match=r"^error erasing credentials - err: exit status 1, out: `credentials not"):
        store.erase(HOST)
    helper.program.write_text("#!/bin/sh\necho s3cret\n")
    with pytest.raises(InternalError, match=r"^docker-credential-fake did not answer with a JSON object$"):
        store.find(HOST)
    helper.program.write_text("#!/bin/sh\nkill -9 $$\n")
    with pytest.raises(InternalError, match="error getting credentials - err: signal 9"):
        store.find(HOST)
    with pytest.raises(InvalidArgument, match="not the name of a credential helper"):
        store_of(path, {"credsStore": "../evil"}).find(HOST)


def test_environment_goes_first(path: Path) -> None:
    store_of(path).store(ANN)
    given = json.dumps({"auths": {HOST: {"auth": encoded("env:p")}}})
    store = CredentialStore(path, {"DOCKER_AUTH_CONFIG": given})
    assert store.find(HOST).username == "env"
    assert store.find_all(pytest.fail)[HOST].username == "env"
    assert CredentialStore(path, {"DOCKER_AUTH_CONFIG": '{"auths":{}}'}).find(HOST) == ANN
    with pytest.raises(InvalidArgument, match="DOCKER_AUTH_CONFIG: not JSON"):
        CredentialStore(path, {"DOCKER_AUTH_CONFIG": "{"}).find(HOST)


@pytest.mark.parametrize(
    ("server", "key"),
    [
        ("", DEFAULT_KEY),
        ("docker.io", DEFAULT_KEY),
        ("https://index.docker.io/v1/", DEFAULT_KEY),
        (HOST, HOST),
        (f"https://{HOST}/v2/", HOST),
        (f"{HOST}/v2/app", HOST),
        ("http://[::1]:5000/", "[::1]:5000"),
    ],
)
def test_keys(server: str, key: str) -> None:
    assert key_of(server) == key


def test_address_that_is_none_stays_itself() -> None:
    assert host_of("http://[::1/x") == "http:"


def test_secrets_are_not_shown() -> None:
    auth = RegistryAuth(username="ann", password="pw0", identity_token="tok0", registry_token="reg0", server=HOST)
    assert "ann" in repr(auth)
    assert not any(secret in f"{auth} {auth!r}" for secret in ("pw0", "tok0", "reg0"))


def test_headers() -> None:
    header = ANN.headers()["X-Registry-Auth"]
    assert json.loads(base64.urlsafe_b64decode(header)) == {
        "username": "ann", "password": "s3cret:with:colons", "serveraddress": HOST,
    }  # fmt: skip
    assert RegistryAuth(server=HOST).headers() == {}
    assert config_headers({HOST: RegistryAuth()}) == {}
    known = config_headers({HOST: ANN})["X-Registry-Config"]
    assert json.loads(base64.urlsafe_b64decode(known)) == {HOST: ANN.document()}
    awkward = RegistryAuth(username="a", password="ÿ?>~" * 5).headers()["X-Registry-Auth"]
    assert not {"+", "/", "\n"} & set(awkward)


async def test_client_finds_the_credentials_of_a_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(path.parent))
    monkeypatch.delenv("DOCKER_AUTH_CONFIG", raising=False)
    store = store_of(path)
    store.store(ANN)
    store.store(RegistryAuth(username="hub", password="x", server=DEFAULT_KEY))
    client = Client("unix:///none")
    assert await client.auth_headers(f"{HOST}/app:1", None) == ANN.headers()
    assert await client.auth_headers("debian", None) == store.find(DEFAULT_KEY).headers()
    assert await client.auth_headers("tare.local/debian:12", None) == {}
    assert await client.auth_headers(f"{HOST}/app:1", RegistryAuth()) == {}
    assert drive(Client("unix:///none", blocking=True).auth_headers(f"{HOST}/app", None)) == ANN.headers()
