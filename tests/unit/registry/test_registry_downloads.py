"""Downloads from a registry that lies, stalls and breaks off."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from hostile_registry import HostileRegistry, content, fixed, hostile_registry, refused
from registry_parts import Blob, ClientMaker, nothing, repository_name
from tare.errors import DataCorrupt, NotFound, TareError, Unavailable
from tare.registry.client import PARALLEL
from tare.registry.repository import Repository
from tare.registry.settings import RegistrySettings
from tare.registry.transport import Timeouts

BLOB = Blob(os.urandom(300_000))
PATH = f"/v2/app/one/blobs/{BLOB.digest}"
DOMAIN = "registry.test"


@pytest.fixture
async def server() -> AsyncIterator[HostileRegistry]:
    async with hostile_registry() as running:
        yield running


@pytest.fixture
def repository(server: HostileRegistry, make_client: ClientMaker) -> Repository:
    return make_client({DOMAIN: RegistrySettings(endpoint=server.url)}).repository(repository_name(DOMAIN))


def partial(make_client: ClientMaker) -> Path:
    return make_client.downloads / f"{BLOB.digest.hex}.partial"


async def fails(repository: Repository, kind: type[TareError], code: str) -> TareError:
    with pytest.raises(kind) as caught:
        await repository.download(BLOB.descriptor, nothing)
    assert caught.value.code == code
    assert not (repository._downloads._directory / BLOB.digest.hex).exists()
    return caught.value


async def test_resumes_where_it_broke(
    server: HostileRegistry, repository: Repository, make_client: ClientMaker
) -> None:
    server.on("GET", PATH, content(BLOB.data, cut=100_000), content(BLOB.data, cut=50_000), content(BLOB.data))
    steps: list[int] = []
    path = await repository.download(BLOB.descriptor, steps.append)
    assert path.read_bytes() == BLOB.data
    assert [asked.headers.get("Range") for asked in server.requests("GET", "/blobs/")] == [
        None, "bytes=100000-", "bytes=150000-",
    ]  # fmt: skip
    assert steps == sorted(steps)
    assert steps[-1] == BLOB.size
    assert not partial(make_client).exists()
    assert len(make_client.clock.pauses) == 2


async def test_what_arrived_stays_for_the_next_time(
    server: HostileRegistry, repository: Repository, make_client: ClientMaker
) -> None:
    server.on("GET", PATH, content(BLOB.data, cut=120_000), content(BLOB.data, cut=0))
    error = await fails(repository, Unavailable, "registry-unreachable")
    assert error.message == f'Get "{server.url}{PATH}": unexpected EOF'
    assert partial(make_client).read_bytes() == BLOB.data[:120_000]
    assert len(server.requests("GET", "/blobs/")) == 3
    server.on("GET", PATH, content(BLOB.data))
    again = make_client({DOMAIN: RegistrySettings(endpoint=server.url)}).repository(repository_name(DOMAIN))
    assert (await again.download(BLOB.descriptor, nothing)).read_bytes() == BLOB.data
    assert server.asked[-1].headers["Range"] == "bytes=120000-"


async def test_a_blob_that_is_here_is_not_fetched(server: HostileRegistry, repository: Repository) -> None:
    server.on("GET", PATH, content(BLOB.data))
    await repository.download(BLOB.descriptor, nothing)
    steps: list[int] = []
    await repository.download(BLOB.descriptor, steps.append)
    assert steps == [BLOB.size]
    assert len(server.requests("GET", "/blobs/")) == 1


async def test_pauses_grow_and_progress_makes_them_small_again(
    server: HostileRegistry, repository: Repository, make_client: ClientMaker
) -> None:
    nothing_new = content(BLOB.data, cut=0)
    server.on("GET", PATH, nothing_new, nothing_new, content(BLOB.data, cut=10), nothing_new, content(BLOB.data))
    await repository.download(BLOB.descriptor, nothing)
    first, second, after_progress, last = make_client.clock.pauses
    assert 0.25 <= first <= 0.5 <= second <= 1.0
    assert 0.25 <= after_progress <= 0.5 <= last <= 1.0


async def test_wrong_digest(server: HostileRegistry, repository: Repository, make_client: ClientMaker) -> None:
    other = Blob(bytes(BLOB.size))
    server.on("GET", PATH, content(other.data))
    error = await fails(repository, DataCorrupt, "blob-digest")
    assert error.message == (
        f"filesystem layer verification failed for digest {BLOB.digest}: received {BLOB.size} bytes with {other.digest}"
    )
    assert len(server.requests("GET", "/blobs/")) == 1
    assert partial(make_client).stat().st_size == 0


async def test_a_part_that_was_wrong_is_fetched_again(
    server: HostileRegistry, repository: Repository, make_client: ClientMaker
) -> None:
    partial(make_client).parent.mkdir()
    partial(make_client).write_bytes(bytes(1000))
    server.on("GET", PATH, content(BLOB.data))
    assert (await repository.download(BLOB.descriptor, nothing)).read_bytes() == BLOB.data
    ranges = [asked.headers.get("Range") for asked in server.requests("GET", "/blobs/")]
    assert ranges == ["bytes=1000-", None]


async def test_a_part_that_is_too_long_is_dropped(
    server: HostileRegistry, repository: Repository, make_client: ClientMaker
) -> None:
    partial(make_client).parent.mkdir()
    partial(make_client).write_bytes(BLOB.data + b"x")
    server.on("GET", PATH, content(BLOB.data))
    await repository.download(BLOB.descriptor, nothing)
    assert "Range" not in server.asked[-1].headers


@pytest.mark.parametrize("length", [BLOB.size + 1, None], ids=["announced", "chunked"])
async def test_too_many_bytes(
    server: HostileRegistry, repository: Repository, make_client: ClientMaker, length: int | None
) -> None:
    server.on("GET", PATH, content(BLOB.data + b"x", length=length))
    error = await fails(repository, DataCorrupt, "blob-oversize")
    assert f"more than the {BLOB.size} bytes" in error.message
    assert partial(make_client).stat().st_size == 0


async def test_too_few_bytes_announced(server: HostileRegistry, repository: Repository) -> None:
    server.on("GET", PATH, content(BLOB.data[:-1]))
    error = await fails(repository, DataCorrupt, "blob-truncated")
    assert error.message.endswith(f"truncated: the registry sent {BLOB.size - 1} of {BLOB.size} bytes")
    assert len(server.requests("GET", "/blobs/")) == 1


async def test_too_few_bytes_without_length(
    server: HostileRegistry, repository: Repository, make_client: ClientMaker
) -> None:
    server.on("GET", PATH, content(BLOB.data[:-1], length=None, ranges=False))
    await fails(repository, DataCorrupt, "blob-truncated")
    assert partial(make_client).exists()


async def test_a_server_without_ranges_starts_over(server: HostileRegistry, repository: Repository) -> None:
    server.on("GET", PATH, content(BLOB.data, cut=100_000), content(BLOB.data, ranges=False))
    steps: list[int] = []
    assert (await repository.download(BLOB.descriptor, steps.append)).read_bytes() == BLOB.data
    assert 0 in steps[steps.index(100_000) :]


@pytest.mark.parametrize(
    "second", [fixed(206, b"x", Content_Range="bytes 5-5/300000"), fixed(416), fixed(206, b"x")],
    ids=["another range", "refused range", "range without name"],
)  # fmt: skip
async def test_odd_answers_to_ranges(server: HostileRegistry, repository: Repository, second: object) -> None:
    server.on("GET", PATH, content(BLOB.data, cut=100_000), second, content(BLOB.data))  # type: ignore[arg-type]
    assert (await repository.download(BLOB.descriptor, nothing)).read_bytes() == BLOB.data
    assert "Range" not in server.asked[-1].headers


async def test_waits_as_long_as_the_server_says(
    server: HostileRegistry, repository: Repository, make_client: ClientMaker
) -> None:
    many = refused(429, "TOOMANYREQUESTS", "slow down", Retry_After="7")
    server.on("GET", PATH, many, refused(503, "UNAVAILABLE", "x", Retry_After="86400"), content(BLOB.data))
    await repository.download(BLOB.descriptor, nothing)
    assert make_client.clock.pauses == [7.0, 120.0]


async def test_waits_until_a_date(server: HostileRegistry, repository: Repository, make_client: ClientMaker) -> None:
    make_client.clock.now = 0.0  # Tue, 14 Nov 2023 22:13:20 GMT
    later = fixed(503, Retry_After="Tue, 14 Nov 2023 22:13:32 GMT")
    server.on("GET", PATH, later, fixed(503, Retry_After="soon"), content(BLOB.data))
    await repository.download(BLOB.descriptor, nothing)
    assert make_client.clock.pauses[0] == 12.0
    assert make_client.clock.pauses[1] <= 1.0


async def test_gives_up_in_the_servers_words(
    server: HostileRegistry, repository: Repository, make_client: ClientMaker
) -> None:
    server.on("GET", PATH, refused(429, "TOOMANYREQUESTS", "You have reached your limit."))
    error = await fails(repository, Unavailable, "registry-toomanyrequests")
    assert error.message == "toomanyrequests: You have reached your limit."
    server.on("GET", PATH, fixed(502, b"<html>"))
    error = await fails(repository, Unavailable, "registry-unavailable")
    assert error.message == "received unexpected HTTP status: 502 Bad Gateway"
    assert len(server.requests("GET", "/blobs/")) == 6


async def test_a_refusal_is_final(server: HostileRegistry, repository: Repository, make_client: ClientMaker) -> None:
    server.on("GET", PATH, refused(403, "DENIED", "not you", "x"))
    assert (await fails(repository, NotFound, "registry-denied")).message == (
        "pull access denied for registry.test/app/one, repository does not exist or may require 'docker login': "
        "denied: not you"
    )
    server.on("GET", PATH, refused(404, "BLOB_UNKNOWN", "blob unknown to registry", "x"))
    assert (await fails(repository, NotFound, "registry-blob-unknown")).message == "unknown blob"
    assert len(server.requests("GET", "/blobs/")) == 2
    assert make_client.clock.pauses == []


async def test_a_silent_server(server: HostileRegistry, make_client: ClientMaker) -> None:
    closing = asyncio.Event()

    async def silent(request: web.Request) -> web.StreamResponse:
        await closing.wait()
        return web.Response()

    server.on("GET", PATH, silent)
    client = make_client({DOMAIN: RegistrySettings(endpoint=server.url)}, timeouts=Timeouts(silence=0.05))
    with pytest.raises(Unavailable, match="timeout awaiting response"):
        await client.repository(repository_name(DOMAIN)).download(BLOB.descriptor, nothing)
    assert len(server.requests("GET", "/blobs/")) == 3
    closing.set()


async def test_two_who_want_the_same_share_one_download(server: HostileRegistry, make_client: ClientMaker) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        begun.set()
        await go_on.wait()
        return web.Response(body=BLOB.data)

    server.on("GET", PATH, answer)
    client = make_client({DOMAIN: RegistrySettings(endpoint=server.url)})
    first, second, third = ([], [], [])
    repositories = [client.repository(repository_name(DOMAIN)) for _ in range(3)]
    tasks = [
        asyncio.create_task(repository.download(BLOB.descriptor, steps.append))
        for repository, steps in zip(repositories, (first, second, third), strict=True)
    ]
    await begun.wait()
    tasks[0].cancel()  # it began the download, which the others go on with
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    go_on.set()
    paths = await asyncio.gather(*tasks[1:])
    assert paths[0] == paths[1]
    assert second[-1] == third[-1] == BLOB.size
    assert first[-1:] != [BLOB.size]
    assert len(server.requests("GET", "/blobs/")) == 1


async def test_cancelled_by_all_it_ends_and_what_came_stays(
    server: HostileRegistry, repository: Repository, make_client: ClientMaker
) -> None:
    arrived, closing = asyncio.Event(), asyncio.Event()
    blob = Blob(os.urandom(4 << 20))

    async def stalls(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = blob.size
        await response.prepare(request)
        await response.write(blob.data[: 3 << 20])
        await closing.wait()
        return response

    server.on("GET", f"/v2/app/one/blobs/{blob.digest}", stalls)
    task = asyncio.create_task(
        repository.download(blob.descriptor, lambda done: arrived.set() if done >= 1 << 20 else None)
    )
    await arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    closing.set()
    server.on("GET", f"/v2/app/one/blobs/{blob.digest}", content(blob.data))
    path = await repository.download(blob.descriptor, nothing)
    assert path.read_bytes() == blob.data
    begin = int(server.asked[-1].headers["Range"].removeprefix("bytes=").removesuffix("-"))
    assert begin >= 1 << 20


async def test_a_few_at_a_time(server: HostileRegistry, repository: Repository) -> None:
    blobs = [Blob(bytes([number]) * 10) for number in range(2 * PARALLEL)]
    running, most, full = 0, 0, asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == PARALLEL:
            full.set()
        await full.wait()
        running -= 1
        digest = request.path.rpartition("/")[2]
        return web.Response(body=next(blob.data for blob in blobs if str(blob.digest) == digest))

    for blob in blobs:
        server.on("GET", f"/v2/app/one/blobs/{blob.digest}", answer)
    await asyncio.gather(*(repository.download(blob.descriptor, nothing) for blob in blobs))
    assert most == PARALLEL


async def test_stale_files_go(repository: Repository, make_client: ClientMaker) -> None:
    client = make_client()
    assert await client.downloads.remove_stale() == 0
    make_client.downloads.mkdir()
    old, new = partial(make_client), make_client.downloads / "b.partial"
    old.write_bytes(b"1234")
    new.write_bytes(b"1")
    os.utime(old, (0, 0))
    assert await client.downloads.remove_stale() == 4
    assert new.exists()
    assert not old.exists()


async def test_a_server_that_sends_less_than_the_rest(server: HostileRegistry, repository: Repository) -> None:
    async def some(request: web.Request) -> web.StreamResponse:
        begin = int(request.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        piece = BLOB.data[begin : begin + 90_000]
        named = f"bytes {begin}-{begin + len(piece) - 1}/{BLOB.size}"
        return web.Response(status=206, body=piece, headers={"Content-Range": named})

    server.on("GET", PATH, content(BLOB.data, cut=50_000), some)
    assert (await repository.download(BLOB.descriptor, nothing)).read_bytes() == BLOB.data
    assert len(server.requests("GET", "/blobs/")) == 4
