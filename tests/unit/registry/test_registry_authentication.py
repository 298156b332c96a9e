"""Logging in to registries: challenges, tokens, and where credentials never go."""

from __future__ import annotations

import json
import logging
import ssl
from collections.abc import AsyncIterator
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import web

from certificates import Authority
from hostile_registry import Asked, Handler, HostileRegistry, fixed, hostile_registry, refused
from registry_parts import Blob, ClientMaker, nothing, repository_name
from tare.errors import Forbidden, InvalidArgument, TareError, Unauthorized, Unavailable
from tare.model import Digest
from tare.registry.challenges import parse_challenges
from tare.registry.client import RegistryClient
from tare.registry.credentials import Credentials, domain_of
from tare.registry.repository import Repository
from tare.registry.settings import RegistrySettings

DOMAIN = "registry.test"
ANN = Credentials("ann", "pass:word")
BASIC = "Basic YW5uOnBhc3M6d29yZA=="
BLOB = Blob(b"content")
PATH = f"/v2/app/one/blobs/{BLOB.digest}"


@pytest.fixture
async def server() -> AsyncIterator[HostileRegistry]:
    async with hostile_registry() as running:
        yield running


@pytest.fixture
def client(server: HostileRegistry, make_client: ClientMaker) -> RegistryClient:
    return make_client({DOMAIN: RegistrySettings(endpoint=server.url)})


def opened(client: RegistryClient, who: Credentials | None = ANN, *, push: bool = False) -> Repository:
    return client.repository(repository_name(DOMAIN), who, push=push)


def guarded(challenge: str, accepted: str, answer: Handler) -> Handler:
    """Answers whoever shows ``accepted``; all others get the challenge."""

    async def guard(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") == accepted:
            return await answer(request)
        return await refused(401, "UNAUTHORIZED", "authentication required", "x", WWW_Authenticate=challenge)(request)

    return guard


def with_tokens(server: HostileRegistry, *tokens: dict[str, object], accepted: str = "Bearer t1") -> None:
    """Have the registry ask for a token, and hand out ``tokens`` one after the other."""
    challenge = f'Bearer realm="{server.url}/token",service="the service"'
    server.on("GET", "/v2/", guarded(challenge, "", fixed(200)))
    server.on("GET", PATH, guarded(challenge, accepted, fixed(200, BLOB.data)))
    answers = [fixed(200, json.dumps(token).encode(), Content_Type="application/json") for token in tokens]
    server.on("GET", "/token", *answers)
    server.on("POST", "/token", *answers)


def query(asked: Asked) -> dict[str, list[str]]:
    return parse_qs(urlsplit(asked.path).query)


async def get(repository: Repository) -> None:
    await repository.download(BLOB.descriptor, nothing)
    await repository.discard(BLOB.digest)


async def test_basic(server: HostileRegistry, client: RegistryClient) -> None:
    server.on("GET", "/v2/", guarded('Basic realm="x"', "", fixed(200)))
    server.on("GET", PATH, guarded('Basic realm="x"', BASIC, fixed(200, BLOB.data)))
    await get(opened(client))
    assert [str(asked) for asked in server.asked] == ["GET /v2/", f"GET {PATH}"]
    assert "Authorization" not in server.asked[0].headers


async def test_a_registry_that_asks_late(server: HostileRegistry, client: RegistryClient) -> None:
    server.on("GET", PATH, guarded('Basic realm="x"', BASIC, fixed(200, BLOB.data)))
    await get(opened(client))
    assert len(server.requests("GET", PATH)) == 2


async def test_wrong_basic_credentials_are_sent_once(server: HostileRegistry, client: RegistryClient) -> None:
    server.on("GET", PATH, guarded('Basic realm="x"', "never", fixed(200)))
    with pytest.raises(Unauthorized, match=r"^unauthorized: authentication required$"):
        await get(opened(client))
    assert len(server.requests("GET", PATH)) == 2  # the first without


async def test_a_token_for_the_repository(server: HostileRegistry, client: RegistryClient) -> None:
    with_tokens(server, {"token": "t1", "expires_in": 300})
    await get(opened(client))
    await get(opened(client))
    (asked,) = server.requests("GET", "/token")
    assert query(asked) == {
        "service": ["the service"], "scope": ["repository:app/one:pull"], "account": ["ann"],
    }  # fmt: skip
    assert asked.headers["Authorization"] == BASIC
    assert len(server.requests("GET", PATH)) == 2


async def test_an_anonymous_token(server: HostileRegistry, client: RegistryClient) -> None:
    with_tokens(server, {"access_token": "t1"})
    await get(opened(client, None))
    (asked,) = server.requests("GET", "/token")
    assert "Authorization" not in asked.headers
    assert "account" not in query(asked)


async def test_tokens_expire(server: HostileRegistry, client: RegistryClient, make_client: ClientMaker) -> None:
    with_tokens(server, {"token": "t1", "expires_in": 300})
    await get(opened(client))
    make_client.clock.now += 290
    await get(opened(client))
    assert len(server.requests("GET", "/token")) == 1
    make_client.clock.now += 10
    await get(opened(client))
    assert len(server.requests("GET", "/token")) == 2


async def test_a_short_lifetime_is_a_minute(
    server: HostileRegistry, client: RegistryClient, make_client: ClientMaker
) -> None:
    with_tokens(server, {"token": "t1", "expires_in": 1})
    await get(opened(client))
    make_client.clock.now += 50
    await get(opened(client))
    assert len(server.requests("GET", "/token")) == 1


async def test_a_token_that_is_not_taken_any_more(server: HostileRegistry, client: RegistryClient) -> None:
    with_tokens(server, {"token": "t0", "expires_in": 300}, {"token": "t1", "expires_in": 300})
    await get(opened(client))
    assert len(server.requests("GET", "/token")) == 2
    with_tokens(server, {"token": "t0", "expires_in": 300}, accepted="never")
    with pytest.raises(Unauthorized):
        await get(opened(client))
    assert len(server.requests("GET", PATH)) == 2 + 2


async def test_users_do_not_share_tokens(server: HostileRegistry, client: RegistryClient) -> None:
    with_tokens(server, {"token": "t1", "expires_in": 300})
    await get(opened(client))
    await get(opened(client, Credentials("bob", "pass:word")))
    await get(opened(client, None))
    assert len(server.requests("GET", "/token")) == 3


async def test_an_identity_token(server: HostileRegistry, client: RegistryClient) -> None:
    with_tokens(server, {"access_token": "t1"})
    await get(opened(client, Credentials("<token>", identity_token="refresh")))
    (asked,) = server.requests("POST", "/token")
    assert parse_qs(asked.body.decode()) == {
        "grant_type": ["refresh_token"], "refresh_token": ["refresh"], "service": ["the service"],
        "client_id": ["tare"], "scope": ["repository:app/one:pull"],
    }  # fmt: skip
    assert asked.headers["Content-Type"] == "application/x-www-form-urlencoded"


async def test_a_registry_token_goes_as_it_is(server: HostileRegistry, client: RegistryClient) -> None:
    with_tokens(server, accepted="Bearer mine")  # no token is handed out
    await get(opened(client, Credentials(registry_token="mine")))
    assert not server.requests("GET", "/token")


async def test_mounts_ask_for_both_repositories(server: HostileRegistry, client: RegistryClient) -> None:
    with_tokens(server, {"token": "t1"})
    challenge = f'Bearer realm="{server.url}/token",service="the service"'
    server.on("POST", "/v2/app/one/blobs/uploads/", guarded(challenge, "Bearer t1", fixed(201)))
    assert await opened(client, push=True).mount_blob(Digest.of(b""), "app/other")
    (asked,) = server.requests("GET", "/token")
    assert query(asked)["scope"] == ["repository:app/one:pull,push", "repository:app/other:pull"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (refused(401, "UNAUTHORIZED", "wrong password"), "unauthorized: wrong password"),
        (fixed(401, b'{"details": "wrong password"}'), "unauthorized: wrong password"),
        (refused(403, "DENIED", "no such service", "x"), "denied: no such service"),
        (fixed(200, b"{}"), "authorization server did not include a token in the response"),
    ],
)  # fmt: skip
async def test_token_servers_words(
    server: HostileRegistry, client: RegistryClient, answer: Handler, words: str
) -> None:
    with_tokens(server, {})
    server.on("GET", "/token", answer)
    with pytest.raises(TareError) as caught:
        await opened(client).manifest("one")
    assert caught.value.message == f'Head "{server.url}/v2/app/one/manifests/one": {words}'
    assert len(server.requests("GET", "/token")) == 1


async def test_a_token_server_that_is_busy(
    server: HostileRegistry, client: RegistryClient, make_client: ClientMaker
) -> None:
    with_tokens(server, {"token": "t1"})
    answer = server.handlers["GET /token"]
    server.on("GET", "/token", fixed(503, Retry_After="3"), answer)
    await get(opened(client))
    assert make_client.clock.pauses == [3.0]


async def test_a_token_server_that_is_not_there(server: HostileRegistry, client: RegistryClient) -> None:
    server.on("GET", "/v2/", guarded('Bearer realm="http://127.0.0.1:1/token"', "", fixed(200)))
    with pytest.raises(Unavailable) as caught:
        await opened(client).manifest("one")
    assert caught.value.message == (
        f'Head "{server.url}/v2/app/one/manifests/one": Get "http://127.0.0.1:1/token": '
        "dial tcp 127.0.0.1:1: connect: connection refused"
    )


async def test_logging_in(server: HostileRegistry, client: RegistryClient) -> None:
    with_tokens(server, {"token": "t1", "refresh_token": "keep me"})
    challenge = f'Bearer realm="{server.url}/token",service="s"'
    server.on("GET", "/v2/", guarded(challenge, "Bearer t1", fixed(200, b"{}")))
    assert await client.check_login(DOMAIN, ANN) == "keep me"
    (asked,) = server.requests("GET", "/token")
    assert query(asked)["offline_token"] == ["true"]
    server.on("GET", "/token", refused(401, "UNAUTHORIZED", "incorrect username or password"))
    with pytest.raises(Unauthorized) as caught:
        await client.check_login(DOMAIN, ANN)
    assert caught.value.message == f'Get "{server.url}/v2/": unauthorized: incorrect username or password'


async def test_redirects_to_another_origin_see_nothing(server: HostileRegistry, client: RegistryClient) -> None:
    async with hostile_registry() as storage:
        place = "/signed?sig=a%2Fb%3D%2B&x=1+2"
        storage.on("GET", "/signed", fixed(200, BLOB.data))
        moved = fixed(307, Location=storage.url + place)
        server.on("GET", "/v2/", guarded('Basic realm="x"', "", fixed(200)))
        server.on("GET", PATH, guarded('Basic realm="x"', BASIC, moved))
        await get(opened(client))
        (asked,) = storage.asked
        assert "Authorization" not in asked.headers
        assert asked.path == place  # a signature is right in this form only


async def test_a_storage_that_asks_for_a_password(server: HostileRegistry, client: RegistryClient) -> None:
    async with hostile_registry() as storage:
        storage.on("GET", "/token", fixed(200, b'{"token": "t1"}'))
        storage.on("GET", "/blob", guarded(f'Bearer realm="{storage.url}/token"', "Bearer t1", fixed(200, BLOB.data)))
        server.on("GET", "/v2/", guarded('Basic realm="x"', "", fixed(200)))
        server.on("GET", PATH, guarded('Basic realm="x"', BASIC, fixed(307, Location=f"{storage.url}/blob")))
        with pytest.raises(Unauthorized):
            await get(opened(client))
        assert [str(asked) for asked in storage.asked] == ["GET /blob"]


async def test_an_endpoint_that_sends_everybody_to_https(authority: Authority, make_client: ClientMaker) -> None:
    shown = authority.issue("upgraded")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(shown.certificate, shown.key)
    async with hostile_registry(context) as encrypted, hostile_registry() as plain:
        plain.on("GET", "/v2/", fixed(301, Location=f"{encrypted.url}/v2/"))
        encrypted.on("GET", "/v2/", guarded('Basic realm="x"', "", fixed(200)))
        encrypted.on("GET", PATH, guarded('Basic realm="x"', BASIC, fixed(200, BLOB.data)))
        settings = RegistrySettings(endpoint=plain.url, ca=str(authority.certificate))
        await get(opened(make_client({DOMAIN: settings})))
        assert [str(asked) for asked in plain.asked] == ["GET /v2/"]


async def test_redirects_within_the_origin_keep_them(server: HostileRegistry, client: RegistryClient) -> None:
    server.on("GET", "/v2/", guarded('Basic realm="x"', "", fixed(200)))
    server.on("GET", PATH, fixed(302, Location="/elsewhere"))
    server.on("GET", "/elsewhere", guarded('Basic realm="x"', BASIC, fixed(200, BLOB.data)))
    await get(opened(client))


@pytest.mark.parametrize(
    ("location", "words"), [(PATH, "stopped after 10 redirects"), ("file:///etc/passwd", "redirected to file:///etc")]
)
async def test_redirects_that_lead_nowhere(
    server: HostileRegistry, client: RegistryClient, make_client: ClientMaker, location: str, words: str
) -> None:
    server.on("GET", PATH, fixed(302, Location=location))
    with pytest.raises(Unavailable, match=words):
        await get(opened(client))
    assert make_client.clock.pauses == []


async def test_no_plain_token_server_for_an_encrypted_registry(
    server: HostileRegistry, authority: Authority, make_client: ClientMaker
) -> None:
    server.on("GET", "/token", fixed(200, b'{"token": "t1"}'))
    shown = authority.issue("encrypted")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(shown.certificate, shown.key)
    async with hostile_registry(context) as encrypted:
        challenge = f'Bearer realm="{server.url}/token"'
        encrypted.on("GET", "/v2/", guarded(challenge, "", fixed(200)))
        encrypted.on("GET", PATH, guarded(challenge, "Bearer t1", fixed(200, BLOB.data)))
        strict = make_client({DOMAIN: RegistrySettings(endpoint=encrypted.url, ca=str(authority.certificate))})
        with pytest.raises(Forbidden) as caught:
            await get(opened(strict))
        assert caught.value.code == "registry-plain-token-server"
        assert not server.asked
        loose = make_client({DOMAIN: RegistrySettings(endpoint=encrypted.url, insecure=True)})
        await get(opened(loose))


async def test_secrets_are_in_no_log_and_no_repr(
    server: HostileRegistry, client: RegistryClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    who = Credentials("ann", "s3cret", identity_token="s3cret-i", registry_token="")
    with_tokens(server, {"token": "s3cret-t"}, accepted="Bearer s3cret-t")
    await get(opened(client, who))
    server.on("GET", PATH, fixed(500))
    with pytest.raises(TareError) as caught:
        await get(opened(client, who))
    assert "s3cret" not in caplog.text + repr(who) + str(caught.value) + repr(caught.value)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], []),
        (['Basic realm="x"'], [("basic", {"realm": "x"})]),
        (
            ['Bearer realm="https://a/t",service="s s",scope="repository:a:pull,push"'],
            [("bearer", {"realm": "https://a/t", "service": "s s", "scope": "repository:a:pull,push"})],
        ),
        (['Bearer realm=a , Service=b'], [("bearer", {"realm": "a", "service": "b"})]),
        (
            ['Negotiate, Digest realm="a\\"b", nonce=c,Basic realm="d"'],
            [("negotiate", {}), ("digest", {"realm": 'a"b', "nonce": "c"}), ("basic", {"realm": "d"})],
        ),
        (["Negotiate abc==, Basic realm=x"], [("negotiate", {}), ("basic", {"realm": "x"})]),
        (["Basic realm=x", "Bearer realm=y"], [("basic", {"realm": "x"}), ("bearer", {"realm": "y"})]),
        ([", ,Basic"], [("basic", {})]),
        (['Basic realm="open'], [("basic", {"realm": '"open'})]),
        (["\x00"], []),
        (['="x"'], []),
    ],
)  # fmt: skip
def test_challenges(headers: list[str], expected: list[tuple[str, dict[str, str]]]) -> None:
    found = [(challenge.scheme, challenge.parameters) for challenge in parse_challenges(headers)]
    assert [scheme for scheme, _ in found] == [scheme for scheme, _ in expected]
    if "open" not in "".join(headers):
        assert found == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", None),
        ("e30=", None),
        ("eyJ1c2VybmFtZSI6ImFubiIsInBhc3N3b3JkIjoicDw_PiJ9", Credentials("ann", "p<?>")),
        ("eyJ1c2VybmFtZSI6ImFubiIsInBhc3N3b3JkIjoicDw/PiJ9", Credentials("ann", "p<?>")),
        ("eyJpZGVudGl0eXRva2VuIjoieCJ9", Credentials(identity_token="x")),
        ("bnVsbA==", None),
    ],
)
def test_header(header: str, expected: Credentials | None) -> None:
    assert Credentials.from_header(header) == expected


@pytest.mark.parametrize("header", ["{", "eyJ1c2VybmFtZSI6MX0=", "W10=", "é"])
def test_a_malformed_header_stands_for_nobody(header: str, caplog: pytest.LogCaptureFixture) -> None:
    assert Credentials.from_header(header) is None
    assert "X-Registry-Auth is not an AuthConfig" in caplog.text


@pytest.mark.parametrize("document", [b"{", b"[]", b'{"username": 1}', b"\xff"])
def test_malformed_credentials(document: bytes) -> None:
    with pytest.raises(InvalidArgument) as caught:
        Credentials.from_json(document)
    assert caught.value.code == "registry-auth-header"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://r.example:5000/v1/", "r.example:5000"),
        ("r.example", "r.example"),
        ("127.0.0.1:5000/x", "127.0.0.1:5000"),
    ],
)
def test_domain_of_a_server_address(address: str, expected: str) -> None:
    assert domain_of(address) == expected
