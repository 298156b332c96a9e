"""Where registries are reached: endpoints, mirrors, certificates, proxies."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp import web

from hostile_registry import HostileRegistry, content, fixed, hostile_registry, refused
from registry_parts import Blob, ClientMaker, nothing, repository_name
from tare.errors import DataCorrupt, InvalidArgument, NotFound, TareError, Unavailable
from tare.registry.credentials import Credentials
from tare.registry.proxies import ProxyRules
from tare.registry.settings import Registries, RegistrySettings, is_loopback, read_certificates

DOMAIN = "registry.test"
BLOB = Blob(b"content")
PATH = f"/v2/app/one/blobs/{BLOB.digest}"


def bases(domain: str, section: RegistrySettings | None = None, *, push: bool = False) -> list[tuple[str, ...]]:
    registries = Registries({domain: section} if section else {}, certificate_directories=())
    return [endpoint.bases for endpoint in registries.endpoints(domain, push=push)]


@pytest.mark.parametrize(
    ("domain", "section", "expected"),
    [
        ("r.example", None, [("https://r.example",)]),
        ("r.example:5000", RegistrySettings(insecure=True), [("https://r.example:5000", "http://r.example:5000")]),
        ("localhost:5000", None, [("https://localhost:5000", "http://localhost:5000")]),
        ("127.9.9.9", None, [("https://127.9.9.9", "http://127.9.9.9")]),
        ("[::1]:5000", None, [("https://[::1]:5000", "http://[::1]:5000")]),
        ("localhost:5000", RegistrySettings(insecure=False), [("https://localhost:5000",)]),
        ("localhost:5000", RegistrySettings(ca="/ca.crt"), [("https://localhost:5000",)]),
        ("r.example", RegistrySettings(endpoint="http://r.example/"), [("http://r.example",)]),
        ("docker.io", RegistrySettings(endpoint="https://e.example/cache"), [("https://e.example/cache",)]),
        (
            "r.example", RegistrySettings(mirrors=("https://m.example", "http://127.0.0.1:1")),
            [("https://m.example",), ("http://127.0.0.1:1",), ("https://r.example",)],
        ),
        ("docker.io", RegistrySettings(mirrors=("https://m.example",)), [("https://m.example",)]),
    ],
)  # fmt: skip
def test_endpoints(domain: str, section: RegistrySettings | None, expected: list[tuple[str, ...]]) -> None:
    assert bases(domain, section) == expected


def test_pushes_go_to_the_registry_itself() -> None:
    assert bases("r.example", RegistrySettings(mirrors=("https://m.example",)), push=True) == [("https://r.example",)]
    with pytest.raises(Unavailable):
        bases("docker.io", RegistrySettings(mirrors=("https://m.example",)), push=True)


def test_docker_io_has_no_host_of_its_own() -> None:
    with pytest.raises(Unavailable) as caught:
        bases("docker.io")
    assert caught.value.code == "registry-not-configured"
    assert '[registries."docker.io"] endpoint = ' in caught.value.hint


def test_the_virtual_registry_is_none() -> None:
    with pytest.raises(InvalidArgument) as caught:
        bases("tare.local")
    assert caught.value.code == "virtual-registry"


@pytest.mark.parametrize(
    ("host", "expected"),
    [("localhost", True), ("127.0.0.1:5000", True), ("[::1]", True), ("10.0.0.1", False), ("localhost.example", False)],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_directories_of_certificates(tmp_path: Path) -> None:
    assert read_certificates(tmp_path / "none") == ([], [])
    for name in ("b.crt", "a.crt", "client.cert", "client.key", "notes.txt"):
        (tmp_path / name).touch()
    assert read_certificates(tmp_path) == (
        [str(tmp_path / "a.crt"), str(tmp_path / "b.crt")],
        [(str(tmp_path / "client.cert"), str(tmp_path / "client.key"))],
    )
    (tmp_path / "other.cert").touch()
    with pytest.raises(InvalidArgument, match=r"missing key other.key for client certificate other.cert"):
        read_certificates(tmp_path)
    (tmp_path / "other.cert").rename(tmp_path / "other.key")
    with pytest.raises(InvalidArgument, match=r"missing client certificate other.cert for key other.key"):
        read_certificates(tmp_path)


@pytest.mark.parametrize("text", [None, "no certificate"])
async def test_authorities_that_cannot_be_read(make_client: ClientMaker, tmp_path: Path, text: str | None) -> None:
    ca = tmp_path / "ca.crt"
    if text is not None:
        ca.write_text(text)
    client = make_client({DOMAIN: RegistrySettings(endpoint="https://127.0.0.1:1", ca=str(ca))})
    with pytest.raises(InvalidArgument) as caught:
        await client.repository(repository_name(DOMAIN)).manifest("one")
    assert caught.value.code == "registry-certificates"
    assert caught.value.message.startswith(f"{ca}: ")


PROXIES = {
    "HTTP_PROXY": "http://plain:1",
    "https_proxy": "secure:2",
    "NO_PROXY": " .sub.example, name.example:5000,10.0.0.0/8,::2,",
}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://r.example/v2/", "http://plain:1"),
        ("https://r.example/v2/", "http://secure:2"),
        ("https://a.sub.example/", ""),
        ("https://sub.example/", "http://secure:2"),
        ("https://name.example:5000/", ""),
        ("https://a.name.example:5000/", ""),
        ("https://name.example/", "http://secure:2"),
        ("https://noname.example:5000/", "http://secure:2"),
        ("https://10.1.2.3/", ""),
        ("https://11.1.2.3/", "http://secure:2"),
        ("https://[::2]/", ""),
        ("http://localhost:5000/", ""),
        ("http://127.0.0.1/", ""),
        ("http://[::1]:5000/", ""),
    ],
)
def test_proxies(url: str, expected: str) -> None:
    assert ProxyRules.from_environment(PROXIES).proxy_for(url) == expected


def test_proxies_for_nobody() -> None:
    everything = ProxyRules.from_environment({"HTTP_PROXY": "http://p:1", "NO_PROXY": "*"})
    assert everything.proxy_for("http://r.example/") == ""
    assert ProxyRules.from_environment({}).proxy_for("http://r.example/") == ""
    assert ProxyRules.fixed("http://p:1").proxy_for("http://127.0.0.1/") == "http://p:1"


async def test_requests_go_through_the_proxy(make_client: ClientMaker) -> None:
    """A proxy is asked for the whole URL (RFC 9112, 3.2.2); nobody looks the registry's name up."""
    async with hostile_registry() as proxy:
        proxy.on("GET", PATH, fixed(200, BLOB.data))
        section = RegistrySettings(endpoint="http://registry.invalid")
        by_environment = make_client({DOMAIN: section}, environment={"http_proxy": proxy.url})
        await by_environment.repository(repository_name(DOMAIN)).download(BLOB.descriptor, nothing)
        assert proxy.asked[-1].headers["Host"] == "registry.invalid"
        none = make_client(
            {DOMAIN: RegistrySettings(endpoint="http://registry.invalid", proxy="none")},
            environment={"http_proxy": proxy.url},
        )
        with pytest.raises(Unavailable, match=r"lookup registry.invalid: no such host"):
            await none.repository(repository_name(DOMAIN)).manifest("one")


class TestMirrors:
    """A mirror that works, and mirrors that do not."""

    @staticmethod
    async def download(
        make_client: ClientMaker, mirror: str, registry: HostileRegistry, who: Credentials | None = None
    ) -> None:
        client = make_client({DOMAIN: RegistrySettings(endpoint=registry.url, mirrors=(mirror,))})
        path = await client.repository(repository_name(DOMAIN), who).download(BLOB.descriptor, nothing)
        assert path.read_bytes() == BLOB.data

    async def test_is_asked_first(self, make_client: ClientMaker) -> None:
        async with hostile_registry() as mirror, hostile_registry() as registry:
            mirror.on("GET", "/cache" + PATH, fixed(200, BLOB.data))
            await self.download(make_client, mirror.url + "/cache", registry)
            assert not registry.asked

    async def test_never_sees_credentials(self, make_client: ClientMaker) -> None:
        async with hostile_registry() as mirror, hostile_registry() as registry:

            async def asks(request: web.Request) -> web.StreamResponse:
                return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})

            mirror.on("GET", "/v2/", asks)
            mirror.on("GET", PATH, asks)
            registry.on("GET", PATH, fixed(200, BLOB.data))
            await self.download(make_client, mirror.url, registry, Credentials("ann", "secret"))
            assert mirror.asked
            assert all("Authorization" not in asked.headers for asked in mirror.asked)

    @pytest.mark.parametrize(
        "answer", [refused(404, "BLOB_UNKNOWN", "x"), refused(403, "DENIED", "x"), fixed(500), content(b"CONTENT")],
        ids=["absent", "denied", "broken", "wrong"],
    )  # fmt: skip
    async def test_the_registry_is_asked_when_it_fails(self, make_client: ClientMaker, answer: object) -> None:
        async with hostile_registry() as mirror, hostile_registry() as registry:
            mirror.on("GET", PATH, answer)  # type: ignore[arg-type]
            registry.on("GET", PATH, content(BLOB.data))
            await self.download(make_client, mirror.url, registry)

    async def test_is_not_there(self, make_client: ClientMaker) -> None:
        async with hostile_registry() as registry:
            registry.on("GET", PATH, content(BLOB.data))
            await self.download(make_client, "http://127.0.0.1:1", registry)
            assert make_client.clock.pauses == []

    async def test_a_part_from_a_mirror_that_lies(self, make_client: ClientMaker) -> None:
        async with hostile_registry() as mirror, hostile_registry() as registry:
            mirror.on("GET", PATH, content(b"XXXXXXX", cut=3), content(b"XXXXXXX", cut=0))
            registry.on("GET", PATH, content(BLOB.data))
            await self.download(make_client, mirror.url, registry)
            assert [asked.headers.get("Range") for asked in registry.requests("GET", PATH)] == ["bytes=3-", None]

    async def test_the_last_words_are_the_registrys(self, make_client: ClientMaker) -> None:
        async with hostile_registry() as mirror, hostile_registry() as registry:
            unknown = refused(404, "MANIFEST_UNKNOWN", "manifest unknown", "x")
            registry.on("GET", "/v2/app/one/manifests/one", unknown)
            client = make_client({DOMAIN: RegistrySettings(endpoint=registry.url, mirrors=(mirror.url,))})
            with pytest.raises(NotFound, match=r"manifest for registry.test/app/one:one not found"):
                await client.repository(repository_name(DOMAIN)).manifest("one")
            registry.on("GET", PATH, content(b"CONTENT"))
            with pytest.raises(DataCorrupt):
                await client.repository(repository_name(DOMAIN)).download(BLOB.descriptor, nothing)


async def test_a_wrong_address_is_said_at_once(make_client: ClientMaker) -> None:
    with pytest.raises(TareError) as caught:
        await make_client().repository(repository_name("127.0.0.1:1")).manifest("one")
    assert caught.value.message == 'Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused'
    assert make_client.clock.pauses == []
