"""Images from a mirror that lies, breaks off or changes while it is read: a clear error, no image, no leftovers."""

from __future__ import annotations

import hashlib
import lzma
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path

import pytest
from aiohttp import web
from deb_parts import control, deb, member
from test_distroless_archive import Mirror, keys

from tare.distroless.catalogue import DebianCatalogue
from tare.distroless.settings import ArchiveSettings
from tare.errors import Conflict, DataCorrupt, TareError, Unavailable, Unsupported
from tare.model import Platform, Reference
from tare.store.store import Store

__all__ = ["keys"]

INDEX = "main/binary-amd64/Packages.xz"
BASICS = {name: deb(control(name)) for name in ("base-files", "netbase", "tzdata", "ca-certificates")}
BASICS["libc-bin"] = deb(control("libc-bin"), member("./usr/lib/locale/C.utf8/LC_CTYPE", b"x"))
"""What every image has a part of."""


@dataclass
class LyingMirror(Mirror):
    """``answers`` replaces what is sent for a path that ends so; ``after`` is done once such a path was sent."""

    packages: dict[str, bytes] = field(default_factory=dict)
    answers: dict[str, Callable[[web.Request], object]] = field(default_factory=dict)
    after: dict[str, Callable[[], None]] = field(default_factory=dict)

    def put(self, packages: dict[str, bytes], *, date: float = -60.0, keep: bool = False) -> None:
        """Publish these packages and no others, unsigned files of before removed unless ``keep``."""
        self.packages = packages
        if not keep:
            self.files.clear()
        text = ""
        for name, data in packages.items():
            digest = hashlib.sha256(data).hexdigest()
            path = f"pool/{name}_{digest[:12]}.deb"
            self.files[f"/debian/{path}"] = data
            text += f"{control(name)}Filename: {path}\nSize: {len(data)}\nSHA256: {digest}\n\n"
        index = lzma.compress(text.encode())
        digest = hashlib.sha256(index).hexdigest()
        self.files[f"/debian/dists/bookworm/{INDEX}"] = index
        release = (
            "Origin: Debian\nLabel: Debian\nSuite: oldstable\nCodename: bookworm\nArchitectures: amd64\n"
            f"Components: main\nDate: {formatdate(time.time() + date)}\nSHA256:\n {digest} {len(index)} {INDEX}\n"
        )
        self.files["/debian/dists/bookworm/InRelease"] = self.sign(release.encode(), "good")

    async def serve(self, request: web.Request) -> web.StreamResponse:
        for end, answer in self.answers.items():
            if end in request.path:
                found = answer(request)
                return found if isinstance(found, web.StreamResponse) else await found  # type: ignore[misc]
        response = await super().serve(request)
        for end in [end for end in self.after if end in request.path]:
            self.after.pop(end)()
        return response


@dataclass
class Workshop:
    mirror: LyingMirror
    store: Store
    cache: Path
    progress: list[str] = field(default_factory=list)

    async def make(self, name: str = "tare.local/deb/hello:12") -> None:
        settings = ArchiveSettings(
            mirrors=(f"{self.mirror.url}/debian",),
            suites=("bookworm",),
            keyring=self.mirror.keyring,
            check_dates=True,
        )
        catalogue = DebianCatalogue(self.store, None, settings, self.cache)  # type: ignore[arg-type]
        note = lambda _, text: self.progress.append(text)  # noqa: E731
        await catalogue.assemble(Reference.parse(name), Platform("linux", "amd64"), note)

    async def fails(self, kind: type[TareError], message: str) -> TareError:
        """The attempt fails like this, and nothing of it is left but what was verified."""
        with pytest.raises(kind, match=message) as caught:
            await self.make()
        assert await self.store.images.list() == []
        good = {f"{hashlib.sha256(data).hexdigest()}.deb" for data in self.mirror.packages.values()}
        left = {path.name for path in self.cache.rglob("*") if path.is_file() and path.parent.name != "archive"}
        assert left <= good, left
        assert not list(self.cache.glob("unpacked-*"))
        assert not [path for path in self.cache.rglob(".*") if path.is_file()]
        return caught.value


@pytest.fixture
async def workshop(keys: tuple[Path, Path], tmp_path: Path) -> AsyncIterator[Workshop]:
    mirror = LyingMirror(*keys)
    app = web.Application()
    app.router.add_get("/{path:.*}", mirror.serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    mirror.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    store = await Store.open(tmp_path / "data")
    yield Workshop(mirror, store, tmp_path / "cache")
    await store.close()
    await runner.cleanup()


def hello(version: str = "1", *members: tuple, **more: str) -> bytes:
    return deb(control("hello", version), member("./usr/bin/hello", version.encode()), *members, extra=more)


async def test_a_mirror_that_changes_is_read_once_more(workshop: Workshop) -> None:
    mirror = workshop.mirror
    mirror.put({**BASICS, "hello": hello("1")})
    mirror.after["Packages.xz"] = lambda: mirror.put({**BASICS, "hello": hello("2")})
    await workshop.make()
    assert "the mirror has changed meanwhile, starting again" in workshop.progress
    (image,) = await workshop.store.images.list()
    assert b"usr/bin/hello" in workshop.store.layers.path(image.diff_ids[0]).read_bytes()


async def test_a_mirror_that_keeps_changing_is_an_error(workshop: Workshop) -> None:
    mirror = workshop.mirror
    versions = iter(range(2, 10))

    def change() -> None:
        mirror.put({**BASICS, "hello": hello(str(next(versions)))})
        mirror.after["Packages.xz"] = change

    mirror.put({**BASICS, "hello": hello("1")})
    mirror.after["Packages.xz"] = change
    error = await workshop.fails(DataCorrupt, r"pool/.*not found")
    assert error.code == "mirror-inconsistent"
    assert "choose another" in error.hint


async def test_an_index_of_another_release_file(workshop: Workshop) -> None:
    mirror = workshop.mirror
    mirror.put({**BASICS, "hello": hello()})
    other = lzma.compress(b"Package: evil\n")
    mirror.answers["Packages.xz"] = lambda _: web.Response(body=other)
    await workshop.fails(DataCorrupt, rf"Packages.xz: {len(other)} bytes with sha256 .*, expected")


async def test_a_release_file_from_the_future(workshop: Workshop) -> None:
    workshop.mirror.put({**BASICS, "hello": hello()}, date=86400.0)
    assert "clock" in (await workshop.fails(DataCorrupt, r"in the future")).hint


@pytest.mark.parametrize("change", [lambda data: data[:-7], lambda data: data + b"x", lambda data: data[:-1] + b"x"])
async def test_packages_that_are_not_what_the_index_says(workshop: Workshop, change: Callable[[bytes], bytes]) -> None:
    data = hello()
    workshop.mirror.put({**BASICS, "hello": data})
    workshop.mirror.answers["/pool/hello"] = lambda _: web.Response(body=change(data))
    error = await workshop.fails(DataCorrupt, r"pool/hello_\w+\.deb: .*(expected \d+ and|more than the expected)")
    assert str(len(data)) in error.message


async def test_a_connection_that_breaks_within_a_package(workshop: Workshop) -> None:
    """The length that is announced is right, the bytes end early."""
    data = hello()
    workshop.mirror.put({**BASICS, "hello": data})
    attempts = []

    async def cut(request: web.Request) -> web.StreamResponse:
        attempts.append(request.path)
        response = web.StreamResponse(headers={"Content-Length": str(len(data))})
        await response.prepare(request)
        await response.write(data[:100])
        assert request.transport is not None
        request.transport.close()
        return response

    workshop.mirror.answers["/pool/hello"] = cut
    await workshop.fails(Unavailable, r"pool/hello")
    assert len(attempts) > 1, "tried again"
    workshop.mirror.answers.clear()
    await workshop.make()


@pytest.mark.parametrize(
    ("package", "kind", "message"),
    [
        (hello("1", member("../../evil", b"x")), DataCorrupt, r"hello \(.*\): .*leads outside"),
        (hello()[:-40], DataCorrupt, r"truncated"),
        (hello("1", member("./etc/os-release", b"x")), Conflict, r"/etc/os-release is claimed by base-files and hello"),
        (hello("1", postinst="#!/bin/sh\ncreate-keys\n"), Unsupported, r"hello: postinst line 2: create-keys: what"),
    ],
)
async def test_verified_packages_that_cannot_be_used(
    workshop: Workshop, package: bytes, kind: type[TareError], message: str
) -> None:
    """Signed and of the right digest all the same."""
    base = deb(control("base-files"), member("./etc/os-release", b"Debian"))
    workshop.mirror.put({**BASICS, "base-files": base, "hello": package})
    await workshop.fails(kind, message)
