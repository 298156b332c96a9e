"""The archive on a mirror of our own, signed with a key of our own."""

from __future__ import annotations

import asyncio
import hashlib
import lzma
import shutil
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from test_distroless_resolver import stanza

from tare.distroless import index
from tare.distroless.fetch import Downloader
from tare.distroless.index import Archive
from tare.distroless.settings import RELEASES, ArchiveSettings
from tare.errors import DataCorrupt, NotFound, Unavailable

pytestmark = pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg signs the test archive")


@dataclass
class Mirror:
    home: Path
    keyring: Path
    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    def publish(
        self,
        packages: str,
        *,
        suite: str = "bookworm",
        origin: str = "Debian",
        valid: float = 3600.0,
        key: str = "good",
    ) -> None:
        data = lzma.compress(packages.encode())
        digest = hashlib.sha256(data).hexdigest()
        base = f"/debian/dists/{suite}"
        self.files[f"{base}/main/binary-amd64/by-hash/SHA256/{digest}"] = data
        release = (
            f"Origin: {origin}\nLabel: Debian\nSuite: oldstable\nCodename: {suite}\nAcquire-By-Hash: yes\n"
            f"Date: {formatdate(time.time() - 60)}\nValid-Until: {formatdate(time.time() + valid)}\n"
            f"Architectures: amd64\nComponents: main\nSHA256:\n {digest} {len(data)} main/binary-amd64/Packages.xz\n"
        )
        self.files[f"{base}/InRelease"] = self.sign(release.encode(), key)

    def sign(self, data: bytes, key: str) -> bytes:
        argv = ["gpg", "--homedir", str(self.home), "--batch", "--local-user", f"{key}@example", "--clearsign"]
        return subprocess.run(argv, input=data, capture_output=True, check=True).stdout

    async def serve(self, request: web.Request) -> web.Response:
        self.requests.append(request.path)
        data = self.files.get(request.path)
        if data is None:
            raise web.HTTPNotFound
        etag = f'"{hashlib.sha256(data).hexdigest()}"'
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304)
        return web.Response(body=data, headers={"ETag": etag})

    def archive(self, tmp_path: Path, **settings: object) -> Archive:
        given = {"mirrors": (f"{self.url}/debian",), "suites": ("bookworm",), "keyring": self.keyring, **settings}
        return Archive(ArchiveSettings(**given), tmp_path / "cache", RELEASES[0])  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    home = tmp_path_factory.mktemp("g")
    home.chmod(0o700)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--passphrase", "", "--quiet"]
    for name in ("good", "evil"):
        subprocess.run([*gpg, "--quick-gen-key", f"{name}@example", "ed25519", "sign", "0"], check=True)
    keyring = home / "keyring.gpg"
    keyring.write_bytes(subprocess.run([*gpg, "--export", "good@example"], check=True, capture_output=True).stdout)
    yield home, keyring
    # gpg starts an agent, which would outlive the tests
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True)


@pytest.fixture
async def mirror(keys: tuple[Path, Path]) -> AsyncIterator[Mirror]:
    mirror = Mirror(*keys)
    app = web.Application()
    app.router.add_get("/{path:.*}", mirror.serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert runner.addresses
    mirror.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield mirror
    await runner.cleanup()


async def names(archive: Archive) -> set[str]:
    async with Downloader() as downloader:
        found = await archive.index(downloader, await archive.suites(downloader), "amd64")
        return found.names()


async def test_images_that_are_assembled_side_by_side_have_files_of_their_own(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.publish(stanza("a"))
    both, places, original = threading.Barrier(2), [], index._compile

    def together(download: Path, *rest: Any) -> bytes:
        places.append(download)
        both.wait(30)
        return original(download, *rest)

    monkeypatch.setattr(index, "_compile", together)
    found = await asyncio.gather(*(names(mirror.archive(tmp_path)) for _ in range(2)))
    assert found == [{"a"}] * 2
    assert len(set(places)) == 2
    assert not list((tmp_path / "cache").rglob("*.download"))


async def test_a_signed_archive_and_its_cache(mirror: Mirror, tmp_path: Path) -> None:
    mirror.publish(stanza("a"))
    assert await names(mirror.archive(tmp_path)) == {"a"}
    mirror.requests.clear()
    assert await names(mirror.archive(tmp_path)) == {"a"}
    assert mirror.requests == ["/debian/dists/bookworm/InRelease"], "the index comes from the cache"
    mirror.publish(stanza("b"))
    assert await names(mirror.archive(tmp_path)) == {"b"}


async def test_without_network_the_cache_serves(mirror: Mirror, tmp_path: Path) -> None:
    mirror.publish(stanza("a"))
    archive = mirror.archive(tmp_path)
    assert await names(archive) == {"a"}
    gone = mirror.archive(tmp_path, mirrors=(f"{mirror.url}/debian",))
    mirror.url = ""

    async def refuse(*_: object, **__: object) -> None:
        raise Unavailable("no network")

    async with Downloader() as downloader:
        downloader.page = refuse  # type: ignore[method-assign,assignment]
        assert (await gone.suites(downloader))[0].release.codename == "bookworm"
    with pytest.raises(Unavailable, match=r"check the network"):
        await names(mirror.archive(tmp_path / "other", mirrors=("http://127.0.0.1:9/debian",)))


async def test_a_key_that_is_not_trusted(mirror: Mirror, tmp_path: Path) -> None:
    mirror.publish(stanza("a"), key="evil")
    with pytest.raises(DataCorrupt, match=r"signed by a key that is not trusted") as caught:
        await names(mirror.archive(tmp_path))
    assert caught.value.code == "archive-signature"
    assert not list((tmp_path / "cache").glob("archive/*.release"))


async def test_changed_after_signing(mirror: Mirror, tmp_path: Path) -> None:
    mirror.publish(stanza("a"))
    path = "/debian/dists/bookworm/InRelease"
    mirror.files[path] = mirror.files[path].replace(b"oldstable", b"newstable")
    with pytest.raises(DataCorrupt, match=r"the content does not match the signature"):
        await names(mirror.archive(tmp_path))
    assert not list((tmp_path / "cache").glob("archive/*.release"))


async def test_no_release_file_at_all(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["/debian/dists/bookworm/InRelease"] = b"<html>please log in</html>"
    with pytest.raises(DataCorrupt, match=r"not a signed release file"):
        await names(mirror.archive(tmp_path))
    with pytest.raises(Unavailable, match=r"no such keyring"):
        mirror.publish(stanza("a"))
        await names(mirror.archive(tmp_path, keyring=tmp_path / "none.gpg"))


async def test_expired(mirror: Mirror, tmp_path: Path) -> None:
    mirror.publish(stanza("a"), valid=-10.0)
    with pytest.raises(DataCorrupt, match=r"expired on") as caught:
        await names(mirror.archive(tmp_path, check_dates=True))
    assert caught.value.code == "release-expired"
    assert await names(mirror.archive(tmp_path, check_dates=False)) == {"a"}


async def test_other_origins_are_not_debian(mirror: Mirror, tmp_path: Path) -> None:
    mirror.publish(stanza("a"), origin="Vendor")
    with pytest.raises(Unavailable, match=r"none of .* is Debian 12"):
        await names(mirror.archive(tmp_path))


async def test_a_suite_under_another_name(mirror: Mirror, tmp_path: Path) -> None:
    mirror.publish(stanza("a"), suite="sid")
    mirror.files["/debian/dists/bookworm/InRelease"] = mirror.files["/debian/dists/sid/InRelease"]
    with pytest.raises(Unavailable, match=r"none of .* is Debian 12"):
        await names(mirror.archive(tmp_path))


async def test_a_wrong_index(mirror: Mirror, tmp_path: Path) -> None:
    mirror.publish(stanza("a"))
    (path,) = (path for path in mirror.files if "by-hash" in path)
    good = mirror.files[path]
    mirror.files[path] = good[:-1] + b"x"
    with pytest.raises(DataCorrupt, match=r"sha256 .*, expected"):
        await names(mirror.archive(tmp_path))
    mirror.files[path] = good + b"x"
    with pytest.raises(DataCorrupt, match=r"more than the expected"):
        await names(mirror.archive(tmp_path))
    del mirror.files[path]
    with pytest.raises(NotFound) as caught:
        await names(mirror.archive(tmp_path))
    assert caught.value.code == "archive-404"
    assert not list((tmp_path / "cache" / "archive").glob("*.packages"))
    assert not list((tmp_path / "cache" / "archive").glob("*.download"))


async def test_an_entry_without_key_is_ignored_only_when_its_suite_is_covered(mirror: Mirror, tmp_path: Path) -> None:
    mirror.publish(stanza("a"))
    mirror.files["/vendor/dists/bookworm/InRelease"] = mirror.sign(b"Origin: Vendor\n", "evil")
    apt = tmp_path / "apt"
    apt.mkdir()
    signed = f"deb [signed-by={mirror.keyring}] {mirror.url}/debian bookworm main\n"
    (apt / "sources.list").write_text(f"{signed}deb {mirror.url}/vendor bookworm main\n")
    assert await names(mirror.archive(tmp_path, mirrors=(), suites=(), apt_directory=apt)) == {"a"}
    (apt / "sources.list").write_text(f"{signed}deb {mirror.url}/vendor bookworm-security main\n")
    with pytest.raises(NotFound, match=r"bookworm-security/InRelease"):
        await names(mirror.archive(tmp_path, mirrors=(), suites=(), apt_directory=apt))
