"""Who may pull, and where a registry may listen."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import bcrypt
import pytest

from certificates import Authority
from tare.cli.registry_serve import line_of
from tare.errors import Conflict, DataCorrupt, InvalidArgument, Unauthorized
from tare.model import Digest
from tare.registry.server import listener, passwords
from tare.registry.server.files import Blob
from tare.registry.server.handling import Content, Handling, Visit
from tare.registry.server.listener import _BUSY, Address, Listener, _bind, tls_context
from tare.registry.server.names import Repository
from tare.registry.server.passwords import Passwords


def _hashed(password: str) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()


def _header(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


async def test_passwords_are_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    matches = passwords._matches
    monkeypatch.setattr(passwords, "_matches", lambda *them: asked.append(them) or matches(*them))
    users = Passwords.parse(f"# users\n\nada:{_hashed('s:cret').replace('$2b$', '$2y$')}\nbob:{_hashed('ünï')}\n")
    assert await users.check(_header("ada", "s:cret")) == "ada"
    assert await users.check(_header("ada", "s:cret")) == "ada"
    assert await users.check(_header("bob", "ünï")) == "bob"
    assert len(asked) == 2
    for user, password in (("ada", "ünï"), ("bob", "s:cret"), ("eve", "s:cret"), ("ada", ""), ("", "s:cret")):
        with pytest.raises(Unauthorized):
            await users.check(_header(user, password))
    assert len(asked) == 7


async def test_an_unknown_user_with_a_known_password_stays_out() -> None:
    users = Passwords.parse(f"ada:{_hashed('secret')}\n")
    for _ in range(2):
        with pytest.raises(Unauthorized):
            await users.check(_header("eve", "secret"))


@pytest.mark.parametrize("header", ["", "Bearer abc", "Basic", "Basic !!!", "Basic /w==", "Basic YWRh", "basic "])
async def test_headers_that_name_nobody(header: str) -> None:
    users = Passwords.parse(f"ada:{_hashed('secret')}\n")
    with pytest.raises(Unauthorized):
        await users.check(header)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no users"),
        ("# nobody\n", "no users"),
        ("ada\n", "line 1"),
        ("# x\nada:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n", "line 2"),
        ("ada:$apr1$abc$def\n", "line 1"),
        (":$2b$04$" + "a" * 53, "line 1"),
        ("ada:$2b$31$" + "a" * 53, "cost 31"),
    ],
)
def test_htpasswd_files_that_are_none(text: str, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said) as raised:
        Passwords.parse(text)
    assert raised.value.code == "htpasswd"


@pytest.mark.parametrize(
    ("text", "shown", "loopback"),
    [
        ("127.0.0.1:5000", "127.0.0.1:5000", True),
        ("127.3.2.1:0", "127.3.2.1:0", True),
        ("localhost:1", "127.0.0.1:1", True),
        ("localhost", "127.0.0.1:5000", True),
        ("[::1]:5000", "[::1]:5000", True),
        (":5000", "0.0.0.0:5000", False),
        ("10.0.0.1", "10.0.0.1:5000", False),
        ("[::]:443", "[::]:443", False),
    ],
)
def test_addresses(text: str, shown: str, loopback: bool) -> None:
    address = Address.parse(text)
    assert (str(address), address.is_loopback) == (shown, loopback)


@pytest.mark.parametrize("text", ["", "host.example:5000", "1.2.3.4:65536", "::1:5000", "1.2.3:1", "[::1", "1.2.3.4:x"])
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        Address.parse(text)
    assert raised.value.code == "address"


def test_a_port_that_is_taken() -> None:
    with _bind(Address("127.0.0.1", 0)) as first:
        port = first.getsockname()[1]
        with pytest.raises(Conflict, match=f"127.0.0.1:{port}") as raised:
            _bind(Address("127.0.0.1", port))
    assert raised.value.code == "address-in-use"


@pytest.mark.parametrize("texts", [("", "x"), ("no certificate", "no key")])
def test_certificates_that_are_none(texts: tuple[str, str]) -> None:
    with pytest.raises(InvalidArgument) as raised:
        tls_context(*texts)
    assert raised.value.code == "certificate"


def test_a_key_with_a_passphrase_is_refused_without_asking(tmp_path: Path) -> None:
    import subprocess

    command = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "1",
        "-subj", "/CN=a", "-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "crt"),
    ]  # fmt: skip
    subprocess.run([*command, "-passout", "pass:secret"], check=True, capture_output=True)
    certificate = (tmp_path / "crt").read_text()
    with pytest.raises(InvalidArgument, match="encrypted"):
        tls_context(certificate, (tmp_path / "key").read_text())
    subprocess.run([*command, "-nodes"], check=True, capture_output=True)
    with pytest.raises(InvalidArgument):  # the key of another certificate
        tls_context(certificate, (tmp_path / "key").read_text())
    assert isinstance(tls_context((tmp_path / "crt").read_text(), (tmp_path / "key").read_text()), ssl.SSLContext)


def test_the_answer_to_one_too_many_is_http() -> None:
    head, _, body = _BUSY.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert json.loads(body)["errors"][0]["code"] == "TOOMANYREQUESTS"


def test_lines_for_people() -> None:
    opened = {"event": "listening", "scheme": "https", "address": "127.0.0.1:5000", "compression": "gzip"}
    assert line_of({**opened, "authentication": True}) == (
        "Serving on https://127.0.0.1:5000, layers with gzip, for known users; Ctrl-C ends it"
    )
    visit = {
        "event": "request", "time": 0.0, "address": "10.0.0.2", "user": "ada", "agent": "skopeo/1.9", "method": "GET",
        "kind": "blob", "object": f"app@sha256:{'a' * 64}", "digest": "", "status": 200, "size": 2_000_000,
        "seconds": 0.5, "whole": True, "message": "",
    }  # fmt: skip
    assert line_of(visit)[9:] == "ada@10.0.0.2 skopeo/1.9 GET blob app@aaaaaaaaaaaa 200 2MB 0.50s"
    gone = {**visit, "user": "", "agent": "", "status": 0, "size": 0, "message": "the client went away"}
    assert line_of(gone)[9:] == "10.0.0.2 - GET blob app@aaaaaaaaaaaa - 0.50s (the client went away)"
    assert line_of({"event": "lost", "requests": 3}) == "… 3 more requests"


class Nothing:
    """A registry without anything in it."""

    async def repositories(self) -> list[str]:
        return []


async def test_connections_are_bounded_in_number_and_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "CONNECTIONS", 1)
    visits: list[Visit] = []
    server = Listener(Handling(cast(Content, Nothing()), None, visits.append))
    address = await server.start(Address("127.0.0.1", 0))
    with pytest.raises(Conflict):
        await Listener(Handling(cast(Content, Nothing()), None, visits.append)).start(address)
    try:
        first, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(b"GET /v2/_catalog HTTP/1.1\r\nHost: a\r\n\r\n")
        assert await first.readuntil(b"]}") and visits[0].kind == "catalog"
        second, other = await asyncio.open_connection(address.host, address.port)
        assert (await second.read()).startswith(b"HTTP/1.1 429 ")
        writer.write(b"GET /v2/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")  # one that has asked is not cut off
        assert (await first.read()).endswith(b"{}")
        writer.close()
        other.close()
        monkeypatch.setattr(listener, "HEAD_SECONDS", 0.01)
        silent, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(b"GET /v2/ HTTP/1.1\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert await silent.read() == b""
        writer.close()
    finally:
        await server.close()
        await server.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(address.host, address.port)


@pytest.mark.parametrize("secured", [False, True])
async def test_a_client_that_goes_away_in_the_middle_is_no_fault_of_ours(
    secured: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (tmp_path / "blob").open("wb") as file:
        file.truncate(64 << 20)

    class Large(Nothing):
        @contextlib.asynccontextmanager
        async def blob(self, repository: Repository, digest: Digest) -> AsyncIterator[Blob]:
            yield Blob(tmp_path / "blob", digest)

    context, tls = None, None
    if secured:
        authority = Authority(tmp_path)
        made = authority.issue("server")
        tls = tls_context(made.certificate.read_text(), made.key.read_text())
        context = ssl.create_default_context(cafile=str(authority.certificate))
    visits: asyncio.Queue[Visit] = asyncio.Queue()
    server = Listener(Handling(cast(Content, Large()), None, visits.put_nowait), tls)
    address = await server.start(Address("127.0.0.1", 0))
    try:
        for _ in range(2):
            reader, writer = await asyncio.open_connection(address.host, address.port, ssl=context)
            writer.write(f"GET /v2/app/blobs/sha256:{'0' * 64} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            assert (await reader.readuntil(b"\r\n")) == b"HTTP/1.1 200 OK\r\n"
            await reader.readexactly(1 << 20)
            writer.transport.abort()
            visit = await visits.get()
            assert not visit.whole and visit.message == "the client went away"
        reader, writer = await asyncio.open_connection(address.host, address.port, ssl=context)
        writer.write(f"GET /v2/app/blobs/sha256:{'0' * 64} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        await reader.readexactly(1 << 20)
    finally:
        await server.close()
    assert not (await visits.get()).whole
    writer.transport.abort()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_half_an_answer_is_not_followed_by_another(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"data")

    class Failing(Nothing):
        @contextlib.asynccontextmanager
        async def blob(self, repository: Repository, digest: Digest) -> AsyncIterator[Blob]:
            yield Blob(tmp_path / "blob", digest)
            raise DataCorrupt("too late")

    visits: asyncio.Queue[Visit] = asyncio.Queue()
    server = Listener(Handling(cast(Content, Failing()), None, visits.put_nowait))
    address = await server.start(Address("127.0.0.1", 0))
    try:
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(f"GET /v2/app/blobs/sha256:{'0' * 64} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
    finally:
        await server.close()
    assert answer.count(b"HTTP/1.1 ") == 1 and answer.endswith(b"\r\n\r\ndata")
    visit = await visits.get()
    assert visit.message == "cut off: too late" and not visit.whole
