"""Uploads to registries that break off, forget, and send elsewhere."""

from __future__ import annotations

import io
import os
import ssl
from collections.abc import AsyncIterator
from typing import BinaryIO

import pytest
from aiohttp import web

from certificates import Authority
from hostile_registry import Handler, HostileRegistry, fixed, hostile_registry, refused
from registry_parts import Blob, ClientMaker, nothing, repository_name
from registry_server import RegistryServer
from tare.errors import DataCorrupt, Forbidden, TareError, Unavailable
from tare.registry import repository as repository_module
from tare.registry.credentials import Credentials
from tare.registry.repository import Repository
from tare.registry.settings import RegistrySettings
from tare.registry.uploads import Uploader

BLOB = Blob(os.urandom(100_000))
CHUNK = 40_000
UPLOADS = "/v2/app/one/blobs/uploads/"
DOMAIN = "registry.test"


class Uploads:
    """An honest implementation of uploads for a hostile server; faults are put in front of it."""

    def __init__(self, server: HostileRegistry) -> None:
        self.received: dict[str, bytearray] = {}
        self.stored: list[bytes] = []
        self._server = server
        server.on("POST", UPLOADS, self.begin)

    async def begin(self, request: web.Request) -> web.StreamResponse:
        number = str(len(self.received) + 1)
        self.received[number] = bytearray()
        place = UPLOADS + number
        for method, answer in (("PATCH", self.patch), ("PUT", self.put), ("GET", self.status)):
            self._server.handlers.setdefault(f"{method} {place}", answer)
        return self._at(number, 202)

    async def patch(self, request: web.Request) -> web.StreamResponse:
        number, data = self._number(request), await request.read()
        begin = int(request.headers.get("Content-Range", "0-").partition("-")[0])
        if begin != len(self.received[number]):
            return web.Response(status=416)
        self.received[number] += data
        return self._at(number, 202)

    async def put(self, request: web.Request) -> web.StreamResponse:
        self.stored.append(bytes(self.received.pop(self._number(request))))
        return web.Response(status=201, headers={"Location": "/v2/app/one/blobs/x"})

    async def status(self, request: web.Request) -> web.StreamResponse:
        return self._at(self._number(request), 204)

    def _at(self, number: str, status: int) -> web.Response:
        have = len(self.received[number])
        headers = {"Location": f"{UPLOADS}{number}?state={have}", "Range": f"0-{max(0, have - 1)}"}
        return web.Response(status=status, headers=headers)

    @staticmethod
    def _number(request: web.Request) -> str:
        return request.path.rpartition("/")[2]


async def broken(request: web.Request) -> web.StreamResponse:
    """Breaks the connection."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


@pytest.fixture
async def server() -> AsyncIterator[HostileRegistry]:
    async with hostile_registry() as running:
        yield running


@pytest.fixture
def uploads(server: HostileRegistry) -> Uploads:
    return Uploads(server)


@pytest.fixture
def target(server: HostileRegistry, make_client: ClientMaker, monkeypatch: pytest.MonkeyPatch) -> Repository:
    class SmallChunks(Uploader):
        def __init__(self, *arguments: object, **named: object) -> None:
            super().__init__(*arguments, chunk=CHUNK, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(repository_module, "Uploader", SmallChunks)
    client = make_client({DOMAIN: RegistrySettings(endpoint=server.url)})
    return client.repository(repository_name(DOMAIN), Credentials("ann", "secret"), push=True)


async def test_chunks(server: HostileRegistry, uploads: Uploads, target: Repository) -> None:
    steps: list[int] = []
    await target.upload_blob(BLOB, steps.append)
    assert uploads.stored == [BLOB.data]
    assert steps == sorted(steps)
    assert steps[-1] == BLOB.size
    assert [asked.headers["Content-Range"] for asked in server.requests("PATCH")] == [
        "0-39999", "40000-79999", "80000-99999",
    ]  # fmt: skip
    assert server.asked[-1].path == f"{UPLOADS}1?state=100000&digest=sha256%3A{BLOB.digest.hex}"


async def test_a_small_blob_goes_in_one(server: HostileRegistry, uploads: Uploads, target: Repository) -> None:
    await target.upload_blob(Blob(b"abc"), nothing)
    assert uploads.stored == [b"abc"]
    (patch,) = server.requests("PATCH")
    assert "Content-Range" not in patch.headers


async def test_resumes_after_a_break(server: HostileRegistry, uploads: Uploads, target: Repository) -> None:
    server.on("PATCH", UPLOADS + "1", uploads.patch, broken, uploads.patch)
    await target.upload_blob(BLOB, nothing)
    assert uploads.stored == [BLOB.data]
    assert len(server.requests("POST")) == 1
    assert len(server.requests("GET", UPLOADS)) == 1
    assert len(server.requests("PATCH")) == 4


async def test_goes_on_from_what_the_registry_has(
    server: HostileRegistry, uploads: Uploads, target: Repository
) -> None:
    async def keeps_half(request: web.Request) -> web.StreamResponse:
        uploads.received["1"] += (await request.read())[:20_000]
        return await broken(request)

    server.on("PATCH", UPLOADS + "1", keeps_half, uploads.patch)
    await target.upload_blob(BLOB, nothing)
    assert uploads.stored == [BLOB.data]
    assert server.requests("PATCH")[1].headers["Content-Range"] == "20000-59999"


@pytest.mark.parametrize("status", [404, 416, 400])
async def test_begins_anew_when_the_registry_forgot(
    server: HostileRegistry, uploads: Uploads, target: Repository, status: int
) -> None:
    server.on("PATCH", UPLOADS + "1", uploads.patch, broken)
    server.on("GET", UPLOADS + "1", fixed(status))
    steps: list[int] = []
    await target.upload_blob(BLOB, steps.append)
    assert uploads.stored == [BLOB.data]
    assert len(server.requests("POST")) == 2
    assert 0 in steps[1:]


async def test_gives_up_when_nothing_moves(
    server: HostileRegistry, uploads: Uploads, target: Repository, make_client: ClientMaker
) -> None:
    server.on("PATCH", UPLOADS + "1", uploads.patch, broken)
    with pytest.raises(Unavailable) as caught:
        await target.upload_blob(BLOB, nothing)
    assert caught.value.code == "registry-unreachable"
    assert len(server.requests("PATCH")) == 1 + 3
    assert len(make_client.clock.pauses) == 2


async def test_progress_over_and_over_the_same_bytes_is_none(
    server: HostileRegistry, uploads: Uploads, target: Repository
) -> None:
    """A registry that forgets at each break would otherwise be tried for ever."""
    for number in "12345678":
        server.on("PATCH", UPLOADS + number, uploads.patch, broken)
        server.on("GET", UPLOADS + number, fixed(404))
    with pytest.raises(Unavailable):
        await target.upload_blob(BLOB, nothing)
    assert len(server.requests("POST")) == 3


@pytest.mark.parametrize("status", [405, 416, 400])
async def test_the_whole_at_once_where_chunks_are_refused(
    server: HostileRegistry, uploads: Uploads, target: Repository, status: int
) -> None:
    server.on("PATCH", UPLOADS + "1", refused(status, "UNSUPPORTED", "no chunks"))
    await target.upload_blob(BLOB, nothing)
    assert uploads.stored == [BLOB.data]
    assert "Content-Range" not in server.requests("PATCH")[-1].headers


async def test_an_answer_that_was_lost(server: HostileRegistry, uploads: Uploads, target: Repository) -> None:
    async def stored_unheard(request: web.Request) -> web.StreamResponse:
        await uploads.put(request)
        server.on("HEAD", f"/v2/app/one/blobs/{BLOB.digest}", fixed(200))
        server.on("GET", UPLOADS + "1", fixed(404))
        return await broken(request)

    server.on("PUT", UPLOADS + "1", stored_unheard)
    await target.upload_blob(BLOB, nothing)
    assert uploads.stored == [BLOB.data]
    assert len(server.requests("POST")) == 1


async def test_server_errors_are_tried_again(server: HostileRegistry, uploads: Uploads, target: Repository) -> None:
    server.on("POST", UPLOADS, fixed(503), uploads.begin)
    server.on("PATCH", UPLOADS + "1", fixed(500), uploads.patch)
    server.on("PUT", UPLOADS + "1", fixed(502), uploads.put)
    await target.upload_blob(BLOB, nothing)
    assert uploads.stored == [BLOB.data]


async def test_denied(server: HostileRegistry, target: Repository) -> None:
    server.on("POST", UPLOADS, refused(403, "DENIED", "requested access to the resource is denied", "x"))
    with pytest.raises(Forbidden) as caught:
        await target.upload_blob(BLOB, nothing)
    assert caught.value.message == "denied: requested access to the resource is denied"


async def test_without_location(server: HostileRegistry, target: Repository) -> None:
    server.on("POST", UPLOADS, fixed(202))
    with pytest.raises(DataCorrupt) as caught:
        await target.upload_blob(BLOB, nothing)
    assert caught.value.code == "upload-location"


async def test_a_source_that_ends_too_early(uploads: Uploads, target: Repository) -> None:
    class Short(Blob):
        def open(self) -> BinaryIO:
            return io.BytesIO(self.data[:-1])

    with pytest.raises(DataCorrupt) as caught:
        await target.upload_blob(Short(BLOB.data), nothing)
    assert caught.value.message == f"{BLOB.digest}: ends before its {BLOB.size} bytes"
    assert uploads.stored == []


def asks_for_basic(answer: Handler) -> Handler:
    async def guarded(request: web.Request) -> web.StreamResponse:
        if "Authorization" not in request.headers:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
        return await answer(request)

    return guarded


async def test_credentials_do_not_follow_to_a_storage(
    server: HostileRegistry, uploads: Uploads, target: Repository
) -> None:
    async with hostile_registry() as storage:
        there = Uploads(storage)
        there.received["7"] = bytearray()
        storage.on("PATCH", UPLOADS + "7", there.patch)
        storage.on("PUT", UPLOADS + "7", there.put)
        server.on("GET", "/v2/", asks_for_basic(fixed(200)))
        begin = asks_for_basic(fixed(202, Location=f"{storage.url}{UPLOADS}7"))
        server.on("POST", UPLOADS, begin)
        await target.upload_blob(Blob(b"abc"), nothing)
        assert there.stored == [b"abc"]
        assert server.requests("POST")[-1].headers["Authorization"].startswith("Basic ")
        assert storage.asked
        assert all("Authorization" not in asked.headers for asked in storage.asked)


async def test_what_began_encrypted_stays_so(authority: Authority, make_client: ClientMaker) -> None:
    shown = authority.issue("proxied")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(shown.certificate, shown.key)
    async with hostile_registry(context) as server:
        uploads = Uploads(server)

        async def begin(request: web.Request) -> web.StreamResponse:
            response = await uploads.begin(request)
            response.headers["Location"] = f"http://{server.host}{UPLOADS}1"
            return response

        server.on("POST", UPLOADS, begin)
        settings = RegistrySettings(endpoint=server.url, ca=str(authority.certificate))
        target = make_client({DOMAIN: settings}).repository(repository_name(DOMAIN), push=True)
        await target.upload_blob(Blob(b"abc"), nothing)
        assert uploads.stored == [b"abc"]


async def test_a_killed_registry(make_client: ClientMaker) -> None:
    """docker-registry, killed in the middle of a blob and started again while the client waits."""
    blob = Blob(os.urandom(5_000_000))
    with RegistryServer() as server:
        killed = False

        def kill(done: int) -> None:
            nonlocal killed
            if not killed and done > 2_000_000:
                killed = True
                server.kill()

        async def start_again(seconds: float) -> None:
            if server.stopped:
                server.start()

        make_client.clock.sleep = start_again  # type: ignore[method-assign]
        target = make_client().repository(repository_name(server.address), push=True)
        await target.upload_blob(blob, kill)
        assert killed
        assert await target.has_blob(blob.digest) == blob.size
        path = await target.download(blob.descriptor, nothing)
        assert path.read_bytes() == blob.data


async def test_a_registry_that_always_says_the_same_range(
    server: HostileRegistry, uploads: Uploads, target: Repository, make_client: ClientMaker
) -> None:
    async def lazy(request: web.Request) -> web.StreamResponse:
        response = await uploads.patch(request)
        response.headers["Range"] = "0-0"
        return response

    server.on("PATCH", UPLOADS + "1", lazy)
    await target.upload_blob(BLOB, nothing)
    assert uploads.stored == [BLOB.data]
    assert make_client.clock.pauses == []
    assert len(server.requests("PATCH")) == 3


async def test_a_registry_that_takes_less_than_it_is_sent(
    server: HostileRegistry, uploads: Uploads, target: Repository, make_client: ClientMaker
) -> None:
    async def takes_half(request: web.Request) -> web.StreamResponse:
        response = await uploads.patch(request)
        half = len(uploads.received["1"]) - 20_000
        del uploads.received["1"][half:]
        response.headers["Range"] = f"0-{half - 1}"
        return response

    server.on("PATCH", UPLOADS + "1", takes_half, uploads.patch)
    await target.upload_blob(BLOB, nothing)
    assert uploads.stored == [BLOB.data]
    assert len(make_client.clock.pauses) == 1


async def test_chunks_as_large_as_the_registry_wants(
    server: HostileRegistry, uploads: Uploads, target: Repository
) -> None:
    async def begin(request: web.Request) -> web.StreamResponse:
        response = await uploads.begin(request)
        response.headers["OCI-Chunk-Min-Length"] = "70000"
        return response

    server.on("POST", UPLOADS, begin)
    await target.upload_blob(BLOB, nothing)
    assert [asked.headers["Content-Range"] for asked in server.requests("PATCH")] == ["0-69999", "70000-99999"]


async def test_a_registry_that_is_not_there(make_client: ClientMaker) -> None:
    """Nobody waits for an address that never answered."""
    client = make_client({DOMAIN: RegistrySettings(endpoint="http://127.0.0.1:1")})
    with pytest.raises(TareError) as caught:
        await client.repository(repository_name(DOMAIN), push=True).upload_blob(BLOB, nothing)
    assert caught.value.message == 'Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused'
    assert make_client.clock.pauses == []
